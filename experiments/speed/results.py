"""This module holds measurements, their CSV files and their tables; nothing is measured here."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wtl.analysis.tables import Table
from wtl.core.files import write_atomically

STEPPING_COLUMNS = ("family", "stock", "fast", "envpool")
"""The columns of stepping.csv, in steps per CPU second; `envpool` is empty where it was not measured."""

Speeds = Mapping[str, Mapping[str, float]]
"""Family -> `stock`, `fast` and, where it was measured, `envpool`, in steps per CPU second."""


@dataclass(frozen=True)
class Measurement:
    """A measurement is one line of measurements.csv."""

    section: str
    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Ratios:
    """The ratios say how one speed compares with another over all families."""

    median: float
    least: float
    least_family: str
    most: float
    most_family: str
    families: int


def ratios(speeds: Speeds, over: str, under: str) -> Ratios | None:
    """The result covers the families that have both speeds; it is None if none has."""
    found = sorted((s[over] / s[under], family) for family, s in speeds.items() if over in s and under in s)
    if not found:
        return None
    return Ratios(statistics.median([r for r, _ in found]), *found[0], *found[-1], len(found))


def stepping_table(speeds: Speeds) -> Table:
    """The table has a row for every family, then median, least and most of the ratios."""
    pairs = (("fast", "stock"), ("fast", "envpool"))
    rows = []
    for family, own in speeds.items():
        cells = [f"{own[name]:.0f}" if name in own else "" for name in STEPPING_COLUMNS[1:]]
        cells += [f"{own[over] / own[under]:.2f}" if over in own and under in own else "" for over, under in pairs]
        rows.append((family, *cells))
    summaries = [ratios(speeds, *pair) for pair in pairs]
    ends = [
        (f"median of {len(speeds)}", *(f"{s.median:.2f}" if s else "" for s in summaries)),
        ("least", *(f"{s.least:.2f} ({s.least_family})" if s else "" for s in summaries)),
        ("most", *(f"{s.most:.2f} ({s.most_family})" if s else "" for s in summaries)),
    ]
    bottom = tuple((name, "", "", "", *cells) for name, *cells in ends)
    note = "EnvPool: its own MuJoCo 3.6, its goals cannot be set" if summaries[1] else "EnvPool is not installed"
    header = ("family", "stock", "fast", "EnvPool", "fast / stock", "fast / EnvPool")
    return Table(f"steps per CPU second of one process ({note})", header, (tuple(rows), bottom))


def measurement_tables(measurements: Iterable[Measurement]) -> list[Table]:
    """The result has one table a section."""
    sections: dict[str, list[tuple[str, ...]]] = {}
    for m in measurements:
        sections.setdefault(m.section, []).append((m.name, f"{m.value:.{_decimals(m.value)}f}", m.unit))
    return [Table(section, ("what", "value", "unit"), (tuple(rows),)) for section, rows in sections.items()]


def _decimals(value: float) -> int:
    """The result leaves three significant digits, and whole numbers from 100 on."""
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 or value == 0 else 4


def write_speeds(path: Path, speeds: Speeds) -> None:
    """This writes stepping.csv."""
    rows = [[family, *(_whole(own.get(name)) for name in STEPPING_COLUMNS[1:])] for family, own in speeds.items()]
    _write(path, STEPPING_COLUMNS, rows)


def write_measurements(path: Path, measurements: Sequence[Measurement]) -> None:
    """This writes measurements.csv; sections that stand in the file already and were not measured now stay."""
    measured = {m.section for m in measurements}
    kept = [m for m in read_measurements(path) if m.section not in measured] if path.is_file() else []
    rows = [[m.section, m.name, f"{m.value:.6g}", m.unit] for m in (*kept, *measurements)]
    _write(path, ("section", "name", "value", "unit"), rows)


def read_measurements(path: Path) -> list[Measurement]:
    """The result is what `write_measurements` wrote. Raises ValueError for a file of another kind."""
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    if not lines or lines[0] != ["section", "name", "value", "unit"]:
        raise ValueError(f"{path} is no file of measurements; choose another --out")
    return [Measurement(section, name, float(value), unit) for section, name, value, unit in lines[1:]]


def _whole(value: float | None) -> str:
    return "" if value is None else str(round(value))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
