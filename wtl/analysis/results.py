"""One row per evaluated episode, and the CSV file that every later tool reads.

The same entries (`EpisodeResult.entry`) are used by every method and every control, and within a
method and control every (entry, attempt) is counted exactly once: a file that breaks this is refused.
Trap: the demonstration is part of the entry, so a control that shows another demonstration, or none,
still names the demonstration of its entry, else it could not be paired.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from wtl.core.files import write_atomically
from wtl.core.task import Regime, Split

COLUMNS = (
    "method", "control", "regime", "split", "family", "task", "demonstration",
    "train_seed", "seed", "attempt", "success", "return", "steps",
)  # fmt: skip
"""The header of the file; `return` is `EpisodeResult.total_reward`, a reserved word in Python."""

_FLAGS = {"0": False, "1": True}


@dataclass(frozen=True, order=True)
class Entry:
    """What was attempted, whoever attempted it: the unit by which methods are paired."""

    regime: Regime
    split: Split
    family: str
    task: str
    """Name of the task, for instance `reach-v3/test/17`."""
    demonstration: str
    """Name of the demonstration's task; empty where the regime has no demonstration."""
    train_seed: int
    """Seed of the training that the evaluated checkpoint comes from."""
    seed: int
    """Seed of the episode."""


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode of an evaluation ended."""

    method: str
    control: str
    """Empty for the method itself, else the control under which it ran, for instance `blind_retry`."""
    regime: Regime
    split: Split
    family: str
    task: str
    demonstration: str
    train_seed: int
    seed: int
    attempt: int
    """Trials before this episode: 0 after watching only."""
    success: bool
    """True if the success flag was up at any step."""
    total_reward: float
    """Sum of the rewards, undiscounted, in the units of the environment."""
    steps: int
    """Length of the episode, at least 1."""

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
        """What was attempted, the same for every method, control and attempt."""
        return Entry(**{field.name: getattr(self, field.name) for field in fields(Entry)})


Rows = Sequence[EpisodeResult]
CurveKey = tuple[str, str]
"""Method and control; one improvement curve each."""

POOLED = ("all", "hidden_goal", "visible_goal")
"""The groups of `groups` that are not a family."""


def write_results(path: Path, rows: Iterable[EpisodeResult]) -> None:
    """Write the rows as CSV, atomically; the same rows in any order give the same bytes.

    Raises ValueError if a method and control counts an attempt of an entry twice.
    """
    ordered = sorted(rows, key=_identity)
    for before, after in zip(ordered, ordered[1:], strict=False):
        if _identity(before) == _identity(after):
            raise ValueError(f"{_describe(after)} is counted twice")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in ordered:
        values = [getattr(row, "total_reward" if name == "return" else name) for name in COLUMNS]
        writer.writerow([_to_text(value) for value in values])
    write_atomically(path, text.getvalue().encode())


def read_results(path: Path) -> tuple[EpisodeResult, ...]:
    """The rows of a file that `write_results` or another tool wrote; further columns are ignored.

    Raises FileNotFoundError, or ValueError with the line number if a column is missing, a value
    cannot be read, or an attempt of an entry is counted twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a CSV file (not UTF-8 text)") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
    rows: dict[tuple[str, str, Entry, int], EpisodeResult] = {}
    try:
        for line in reader:
            row = _from_text(line)
            if _identity(row) in rows:
                raise ValueError(f"{_describe(row)} is counted twice")
            rows[_identity(row)] = row
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return tuple(rows.values())


def curve_name(key: CurveKey) -> str:
    """`wtl` for the method itself, `wtl.blind_retry` for its control."""
    method, control = key
    return f"{method}.{control}" if control else method


def main_method(rows: Rows) -> str:
    """The method with the most attempts of its own; among equals `wtl`, else the first by name.

    Raises ValueError if no row stands for a method itself (with an empty control).
    """
    attempts: dict[str, set[int]] = {}
    for row in rows:
        if not row.control:
            attempts.setdefault(row.method, set()).add(row.attempt)
    if not attempts:
        raise ValueError("no method was evaluated: every row has a control")
    return min(attempts, key=lambda method: (-len(attempts[method]), method != "wtl", method))


def main_rows(rows: Rows) -> list[EpisodeResult]:
    """The rows of the main method itself, without its controls."""
    main = main_method(rows)
    return [row for row in rows if row.method == main and not row.control]


def curves(rows: Rows) -> dict[CurveKey, dict[int, list[EpisodeResult]]]:
    """The rows of each method and control by attempt; the main method first, then by name."""
    main = main_method(rows)
    found: dict[CurveKey, dict[int, list[EpisodeResult]]] = {}
    for row in sorted(rows, key=lambda row: (row.method != main, row.method, row.control, row.attempt)):
        found.setdefault((row.method, row.control), {}).setdefault(row.attempt, []).append(row)
    return found


def groups(rows: Rows, hidden_goal_families: frozenset[str]) -> dict[str, list[EpisodeResult]]:
    """The rows of `all`, `hidden_goal`, `visible_goal` and each family, without the empty ones."""
    found = {
        "all": list(rows),
        "hidden_goal": [row for row in rows if row.family in hidden_goal_families],
        "visible_goal": [row for row in rows if row.family not in hidden_goal_families],
    }
    for family in sorted({row.family for row in rows}):
        found[family] = [row for row in rows if row.family == family]
    return {name: members for name, members in found.items() if members}


def by_setting(rows: Rows) -> dict[str, list[EpisodeResult]]:
    """The rows of each regime and split, by a name such as `family-test`."""
    found: dict[str, list[EpisodeResult]] = {}
    for row in sorted(rows, key=lambda row: (row.regime, row.split)):
        found.setdefault(f"{row.regime}-{row.split}", []).append(row)
    return found


def by_attempt(rows: Rows) -> dict[int, list[EpisodeResult]]:
    """The rows of each attempt, in the order of the attempts."""
    found: dict[int, list[EpisodeResult]] = {}
    for row in sorted(rows, key=lambda row: row.attempt):
        found.setdefault(row.attempt, []).append(row)
    return found


def _identity(row: EpisodeResult) -> tuple[str, str, Entry, int]:
    return row.method, row.control, row.entry, row.attempt


def _describe(row: EpisodeResult) -> str:
    control = f", control {row.control}" if row.control else ""
    return f"attempt {row.attempt} of {row.task}, seed {row.seed}, by {row.method}{control}"


def _to_text(value: str | float) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return repr(float(value)) if isinstance(value, float) else str(value)


def _from_text(line: Mapping[str, str]) -> EpisodeResult:
    if None in line or None in line.values():
        raise ValueError(f"expected as many values as the header has columns, {len(COLUMNS)} or more")
    if line["success"] not in _FLAGS:
        raise ValueError(f"success must be 0 or 1, got {line['success']!r}")
    numbers = {name: _integer(name, line[name]) for name in ("train_seed", "seed", "attempt", "steps")}
    try:
        total_reward = float(line["return"])
    except ValueError:
        raise ValueError(f"return must be a number, got {line['return']!r}") from None
    texts = {name: line[name] for name in COLUMNS[: COLUMNS.index("train_seed")]}
    return EpisodeResult(**texts, **numbers, success=_FLAGS[line["success"]], total_reward=total_reward)  # type: ignore[arg-type]


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, got {text!r}") from None
