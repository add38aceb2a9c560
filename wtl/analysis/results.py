"""One row per evaluated episode, and the CSV file that every later tool reads.

The same entries (`EpisodeResult.entry`) are used by every method and every control, and within a
method and control every (entry, attempt) is counted exactly once: a file that breaks this is refused.
This module is not the table that reports are made of (`wtl.analysis.episodes`): it stays free of
pandas, because every worker of an evaluation imports it. Trap: the demonstration is part of the
entry, so a control that shows another demonstration, or none, still names the demonstration of its
entry, else it could not be paired.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from wtl.core.files import write_atomically
from wtl.core.task import Regime, Split

BEFORE_PROTOCOLS = "repeated starts, many walks, feedback at the end"
"""The protocol of files that do not name one."""


@dataclass(frozen=True, order=True)
class Entry:
    """What was attempted, whoever attempted it: the unit by which methods are paired."""

    regime: Regime
    """Which demonstration is shown: of the same goal, of the same family, or none."""
    split: Split
    """The part of the benchmark that the task comes from."""
    family: str
    """Name of the task family, for instance `reach-v3`."""
    task: str
    """Name of the task, for instance `reach-v3/test/17`."""
    demonstration: str
    """Name of the demonstration's task; empty where the regime has no demonstration."""
    train_seed: int
    """Seed of the training that the evaluated checkpoint comes from."""
    seed: int
    """Seed of the episode."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult(Entry):
    """An entry, with how one episode of it ended."""

    method: str
    """Name of the method."""
    control: str
    """Name of the control under which it ran, for instance `blind_retry`; empty for the method itself."""
    attempt: int
    """Number of trials before this episode: 0 after watching only."""
    success: bool
    """True if the success flag was up at any step."""
    total_reward: float
    """Sum of the rewards, undiscounted, in the units of the environment."""
    steps: int
    """Length of the episode, at least 1."""
    success_last: bool | None = None
    """True if the success flag was up at the last step; None in files made before it was recorded."""
    first_success: int | None = None
    """Steps until the first success; None without one, and in files made before it was recorded."""
    protocol: str = BEFORE_PROTOCOLS
    """How attempts were played, see `wtl.play.protocol.ProtocolConfig.name`."""
    main: bool | None = None
    """True if `method` is the one whose curve the run measures; None in files made before it was recorded."""
    hidden_goal: bool | None = None
    """True if nothing visible at the start gives the goal of the family away; None where it was not recorded."""
    configuration: str = ""
    """A digest of the run's configuration but for its seed, see `wtl.app.plan`; empty where it was not recorded."""
    entry_digest: str = ""
    """See `wtl.play.protocol.ProtocolConfig.entry_digest`; empty in files made before it was recorded."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("regime", self.regime, get_args(Regime)),
            ("split", self.split, get_args(Split)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if not (self.method and self.family and self.task):
            raise ValueError("method, family and task must not be empty")
        if self.attempt < 0 or self.steps < 1:
            raise ValueError(f"attempt must be >= 0 and steps >= 1, got {self.attempt} and {self.steps}")
        if not math.isfinite(self.total_reward):
            raise ValueError(f"return must be finite, got {self.total_reward}")

    @property
    def entry(self) -> Entry:
        """What was attempted; it is the same for every method, control and attempt."""
        return Entry(**{name: getattr(self, name) for name in ENTRY_COLUMNS})

    @property
    def values(self) -> tuple[str | float | None, ...]:
        """The fields in the order of `COLUMNS`."""
        return tuple(getattr(self, "total_reward" if name == "return" else name) for name in COLUMNS)

    @property
    def key(self) -> tuple[Any, ...]:
        """The values of `KEY_COLUMNS`, which no two rows of a file share."""
        return self.values[: len(KEY_COLUMNS)]


ENTRY_COLUMNS = tuple(field.name for field in fields(Entry))
KEY_COLUMNS = ("method", "control", *ENTRY_COLUMNS, "attempt")
_LATER = ("success_last", "first_success", "protocol", "main", "hidden_goal", "configuration", "entry_digest")
"""Columns that older files lack."""
COLUMNS = (*KEY_COLUMNS, "success", "return", "steps", *_LATER)
"""The header of the file; `return` is `EpisodeResult.total_reward`, because Python reserves the word."""


def write_results(path: Path, rows: Iterable[EpisodeResult]) -> None:
    """Write the rows as CSV, atomically; the same rows in any order give the same bytes.

    Raises ValueError if a method and control counts an attempt of an entry twice.
    """
    ordered = sorted(rows, key=lambda row: row.key)
    for before, after in pairwise(ordered):
        if before.key == after.key:
            raise ValueError(f"{_describe(after)} is counted twice")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in ordered:
        writer.writerow([int(value) if isinstance(value, bool) else value for value in row.values])  # None: empty
    write_atomically(path, text.getvalue().encode())


def read_results(path: Path) -> tuple[EpisodeResult, ...]:
    """Return the rows of a file that `write_results` or another tool wrote; further columns are ignored.

    Raises FileNotFoundError, or ValueError with the line number if a column is missing, a value
    cannot be read, or an attempt of an entry is counted twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a CSV file (not UTF-8 text)") from None
    odd = _CONTROL.search(text)
    if odd:
        number = text.count("\n", 0, odd.start()) + 1
        raise ValueError(f"{path}, line {number}: expected text, got the control character {odd[0]!r}")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = reader.fieldnames or ()
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {error}") from None
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise ValueError(f"{path}, line 1: the column {twice[0]} stands there twice")
    required = [name for name in COLUMNS if name not in _LATER]
    missing = [name for name in required if name not in header]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(required)}; missing: {', '.join(missing)}")
    rows: dict[tuple[Any, ...], EpisodeResult] = {}
    try:
        for line in reader:
            row = _from_text(line)
            if row.key in rows:
                raise ValueError(f"{_describe(row)} is counted twice")
            rows[row.key] = row
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return tuple(rows.values())


def digest_of_entries(names: Iterable[str]) -> str:
    """Return one digest of 12 hexadecimal digits for a list of entries, whatever their order and repetitions.

    `names` are the digests of the entries, or whatever else tells them apart.
    """
    return hashlib.sha256("\n".join(sorted(set(names))).encode()).hexdigest()[:12]


def _describe(row: EpisodeResult) -> str:
    control = f", control {row.control}" if row.control else ""
    return f"attempt {row.attempt} of {row.task}, seed {row.seed}, by {row.method}{control}"


def _from_text(line: Mapping[str, str]) -> EpisodeResult:
    if None in line or None in line.values():
        raise ValueError(f"expected as many values as the header has columns, {len(line)}")
    values: dict[str, Any] = {}
    for name in (name for name in COLUMNS if name in line):
        parse, expected = _PARSERS.get(name, (_line, "text on one line"))
        try:
            values["total_reward" if name == "return" else name] = parse(line[name])
        except (ValueError, KeyError):
            raise ValueError(f"{name} must be {expected}, got {line[name]!r}") from None
    return EpisodeResult(**values)


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _whole(text: str) -> int:
    """Return a whole number of 64 bits as everybody writes it; `int` also takes `1_000`, spaces and other digits."""
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or abs(int(text)) >= 2**63:
        raise ValueError
    return int(text)


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _number(text: str) -> float:
    if not re.fullmatch(r"[-+0-9.eE]+|-?(nan|inf)", text):
        raise ValueError
    return float(text)


_WHOLE = (_whole, "a whole number")
_FLAGS = {"0": False, "1": True}
_FLAG_OR_EMPTY = (lambda text: _FLAGS[text] if text else None, "0, 1 or empty")
_PARSERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "train_seed": _WHOLE, "seed": _WHOLE, "attempt": _WHOLE, "steps": _WHOLE,
    "success": (_FLAGS.__getitem__, "0 or 1"), "return": (_number, "a number"),
    "success_last": _FLAG_OR_EMPTY, "main": _FLAG_OR_EMPTY, "hidden_goal": _FLAG_OR_EMPTY,
    "first_success": (lambda text: _whole(text) if text else None, "a whole number or empty"),
}  # fmt: skip
