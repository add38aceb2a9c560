"""What an evaluation showed: the summary of its rows, the paired comparisons, and both as tables.

Everything here is a pure function of the rows of `evaluation/episodes.csv`; drawing is in
`wtl.analysis.figures`, TensorBoard in `wtl.analysis.tensorboard`. Trap: a rate over rows of several regimes or splits
mixes what must not be mixed, so tables and figures keep them apart with `by_setting`; `summarise`
pools whatever it is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import rich.box
import rich.table
from rich.console import Console
from rich.text import Text

from wtl.analysis.results import (
    POOLED,
    CurveKey,
    EpisodeResult,
    Rows,
    by_attempt,
    by_setting,
    curve_name,
    curves,
    groups,
    main_method,
    main_rows,
    read_results,
)
from wtl.analysis.statistics import PairedDifference, paired_difference, wilson_interval

_STYLES = {"IMPROVED": "bold green", "REGRESSED": "bold red", "UNDERPOWERED": "yellow"}


class Point(TypedDict):
    """One point of an improvement curve: successes out of n and the 95 % Wilson interval of the rate."""

    attempt: int
    n: int
    successes: int
    low: float
    high: float


Summary = dict[str, dict[str, dict[str, list[Point]]]]
"""Method, control (empty for the method itself), group, then the points by attempt."""


@dataclass(frozen=True)
class RunResults:
    """The evaluation of one run."""

    rows: tuple[EpisodeResult, ...]
    hidden_goal_families: frozenset[str]
    """Families whose start does not give the goal away."""


@dataclass(frozen=True)
class Comparison:
    """One attempt of a curve, after, minus one attempt of a curve, before, on the entries of both."""

    after: CurveKey
    after_attempt: int
    before: CurveKey
    before_attempt: int
    result: PairedDifference

    @property
    def name(self) -> str:
        """For instance `wtl@1 - wtl.blind_retry@1`."""
        before = f"{curve_name(self.before)}@{self.before_attempt}"
        return f"{curve_name(self.after)}@{self.after_attempt} - {before}"


def load_run(run: Path) -> RunResults:
    """Read `episodes.csv` and `families.json` of a run directory, or of its `evaluation` directory.

    Raises FileNotFoundError if one is missing, ValueError if one cannot be read; both say what to do.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"there is no run directory {run}; make it with `wtl run CONFIG`")
    nested = run / "evaluation"
    directory = nested if nested.is_dir() else run
    for name in ("episodes.csv", "families.json"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{run} is not evaluated: no {directory / name}; run `wtl evaluate`")
    rows = read_results(directory / "episodes.csv")
    if not rows:
        raise ValueError(f"{directory / 'episodes.csv'} holds no episodes; evaluate again")
    hidden = _read_families(directory / "families.json")
    unknown = sorted({row.family for row in rows} - hidden.keys())
    if unknown:
        raise ValueError(f"{directory / 'families.json'} must name {', '.join(unknown)}; evaluate again")
    return RunResults(rows, frozenset(name for name, is_hidden in hidden.items() if is_hidden))


def load_runs(runs: Iterable[Path]) -> dict[str, RunResults]:
    """`load_run` of each, by the name of its directory, or by the path where names would clash."""
    paths = list(runs)
    names = [path.resolve().name for path in paths]
    clash = len(set(names)) < len(names)
    return {str(path) if clash else name: load_run(path) for path, name in zip(paths, names, strict=True)}


def point(attempt: int, rows: Rows) -> Point:
    """How many of these rows, all of one attempt, succeeded."""
    successes = sum(row.success for row in rows)
    interval = wilson_interval(successes, len(rows))
    return Point(attempt=attempt, n=len(rows), successes=successes, low=interval.low, high=interval.high)


def summarise(rows: Rows, hidden_goal_families: frozenset[str]) -> Summary:
    """What `wtl report RUN --json` prints: `{method: {control or "": {group: [point, ...]}}}`."""
    summary: Summary = {}
    for (method, control), attempts in curves(rows).items():
        mine = [row for members in attempts.values() for row in members]
        summary.setdefault(method, {})[control] = {
            group: [point(attempt, members) for attempt, members in by_attempt(members).items()]
            for group, members in groups(mine, hidden_goal_families).items()
        }
    return summary


def compare(*sides: tuple[Rows, Rows]) -> PairedDifference | None:
    """Success after minus success before on the entries that both have; None if they share none.

    Args:
        sides: (before, after) of one run each, one attempt of one method and control on each side. Several runs on the
            same tasks are pooled.

    Tasks are resampled within families, each with all its entries in all runs.
    """
    pairs = []
    for before, after in sides:
        earlier, later = ({row.entry: row.success for row in side} for side in (before, after))
        pairs += [(earlier[entry], later[entry], entry) for entry in sorted(earlier.keys() & later.keys())]
    if not pairs:
        return None
    befores, afters, entries = zip(*pairs, strict=True)
    return paired_difference(befores, afters, [entry.family for entry in entries], [entry.task for entry in entries])


def gains(rows: Rows) -> tuple[Comparison, ...]:
    """Attempt k minus attempt 0 of every method and control that has both, k >= 1."""
    found = []
    for key, attempts in curves(rows).items():
        for attempt in sorted(attempts.keys() - {0}):
            result = compare((attempts.get(0, []), attempts[attempt]))
            if result:
                found.append(Comparison(key, attempt, key, 0, result))
    return tuple(found)


def against_others(rows: Rows, attempt: int = 1) -> tuple[Comparison, ...]:
    """An attempt of the main method minus every control and every other method on the same entries.

    A control is compared at its own last attempt; another method at `attempt`, or at its last one before that.
    """
    found = []
    main = (main_method(rows), "")
    every = curves(rows)
    first = min(every[main])
    for key, attempts in every.items():
        wanted = max(attempts) if key[1] else attempt
        mine = max(a for a in every[main] if a <= max(wanted, first))
        comparable = [a for a in attempts if a <= mine]
        if key == main or not comparable:
            continue
        result = compare((attempts[max(comparable)], every[main][mine]))
        if result:
            found.append(Comparison(main, mine, key, max(comparable), result))
    return tuple(found)


def _read_families(path: Path) -> dict[str, bool]:
    """Whether each family hides its goal, from `{"reach-v3": {"hidden_goal": true}, ...}`."""
    try:
        content = json.loads(path.read_text())
        families = {name: about["hidden_goal"] for name, about in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        families = {"": None}
    if not all(isinstance(hidden, bool) for hidden in families.values()):
        raise ValueError(f'{path} must hold {{"FAMILY": {{"hidden_goal": true}}, ...}}; evaluate again')
    return families


@dataclass(frozen=True)
class Table:
    """A table before it is printed."""

    title: str
    header: tuple[str, ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]
    """Rows, in groups that the terminal separates by a rule."""


def report_tables(runs: Mapping[str, RunResults]) -> tuple[Table, ...]:
    """Everything `wtl report RUN...` prints; each run, regime and split has tables of its own."""
    found, mains, hiding = [], [], []
    for label, run in runs.items():
        for setting, rows in by_setting(run.rows).items():
            title = f"{label}, {setting}"
            mains.append((title, setting, main_rows(rows)))
            found += [_success_table(title, rows), _comparison_table(title, rows)]
            if len({row.family for row in rows}) > 1:
                found.append(_family_table(title, rows, run.hidden_goal_families))
            hidden = [row for row in rows if row.family in run.hidden_goal_families]
            if 0 < len(hidden) < len(rows):
                found.append(_comparison_table(f"{title}, families that hide their goal", hidden))
                hiding.append((title, setting, main_rows(hidden)))
    if len(mains) > 1:
        found.append(_run_table("runs compared", mains))
    if len(hiding) > 1:
        found.append(_run_table("runs compared, families that hide their goal", hiding))
    return tuple(found)


def print_tables(tables: Iterable[Table], *, markdown: bool = False, console: Console | None = None) -> None:
    """Print to the terminal, or as Markdown to be pasted."""
    console = console or Console()
    for table in tables:
        if markdown:
            console.print(to_markdown(table), markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(_to_rich(table))


def to_markdown(table: Table) -> str:
    """The table with its title in bold above; ends with a newline."""
    rows = [row for section in table.sections for row in section]
    lines = [table.header, ("---",) * len(table.header), *rows]
    return f"**{table.title}**\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _to_rich(table: Table) -> rich.table.Table:
    made = rich.table.Table(title=table.title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(table.header):
        made.add_column(name, no_wrap=index < 2)
    for section in table.sections:
        for row in section:
            style = next((style for word, style in _STYLES.items() if row[-1].startswith(word)), "")
            made.add_row(*row[:-1], Text(row[-1], style))
        made.add_section()
    return made


def _success_table(title: str, rows: Rows) -> Table:
    attempts = sorted({row.attempt for row in rows})
    sections: dict[str, list[tuple[str, ...]]] = {}
    for key, mine in curves(rows).items():
        name = f"↳ {key[1]}" if key[1] else key[0]
        sections.setdefault(key[0], []).append((name, *_success_cells(mine, attempts)))
    header = ("method, ↳ control", "n", *(f"attempt {attempt}" for attempt in attempts))
    return Table(f"{title}: success in %, 95 % Wilson interval", header, _frozen(sections.values()))


def _comparison_table(title: str, rows: Rows) -> Table:
    sections = [
        [(comparison.name, *_difference_cells(comparison.result)) for comparison in comparisons]
        for comparisons in ([g for g in gains(rows) if not g.after[1]], against_others(rows))
    ]
    header = ("method@attempt, same entries", "n", "points", "95 % interval", "verdict")
    return Table(f"{title}: differences of success, first minus second", header, _frozen(sections))


def _family_table(title: str, rows: Rows, hidden_goal_families: frozenset[str]) -> Table:
    mine = main_rows(rows)
    attempts = sorted({row.attempt for row in mine})
    first, last = attempts[0], attempts[-1]
    sections: tuple[list[tuple[str, ...]], list[tuple[str, ...]]] = ([], [])
    for group, members in groups(mine, hidden_goal_families).items():
        by = by_attempt(members)
        gain = compare((by.get(first, []), by.get(last, [])))
        verdict = _difference_cells(gain)[-1] if gain else ""
        sections[group not in POOLED].append((group, *_success_cells(by, attempts), verdict))
    header = ("group", "n", *(f"attempt {attempt}" for attempt in attempts), f"attempt {last} - {first}")
    return Table(f"{title}: success of {mine[0].method} in % by family", header, _frozen(sections))


def _run_table(title: str, mains: Sequence[tuple[str, str, Rows]]) -> Table:
    attempts = sorted({row.attempt for _, _, rows in mains for row in rows})
    first, last = attempts[0], attempts[-1]

    def gain(runs: Sequence[Mapping[int, Rows]]) -> tuple[str, ...]:
        """The last column; none where there is one attempt only."""
        sides = [(run[first], run[last]) for run in runs if first in run and last in run]
        result = compare(*sides) if len(sides) == len(runs) else None
        if result is None or first == last:
            return ("",) * (first < last)
        _, points, interval, _ = _difference_cells(result)
        return (f"{points} {interval}" + (" UNDERPOWERED" if result.verdict == "UNDERPOWERED" else ""),)

    lines = []
    alike: dict[tuple[str, frozenset[str]], list[Mapping[int, Rows]]] = {}
    for name, setting, rows in mains:
        run = by_attempt(rows)
        alike.setdefault((setting, frozenset(row.task for row in rows)), []).append(run)
        lines.append((f"{name}: {rows[0].method}", *_success_cells(run, attempts), *gain([run])))
    means = []
    for (setting, _), runs in alike.items():
        rates = [[sum(r.success for r in run[a]) / len(run[a]) for run in runs if a in run] for a in attempts]
        cells = [
            f"{_percent(sum(r) / len(r))} ({_percent(min(r))} to {_percent(max(r))})" if len(r) == len(runs) else ""
            for r in rates
        ]
        if len(runs) > 1:
            means.append((f"{setting}: mean of {len(runs)} runs (least to most)", "", *cells, *gain(runs)))
    gained = (f"attempt {last} - {first}",) * (first < last)
    header = ("run", "n", *(f"attempt {attempt}" for attempt in attempts), *gained)
    return Table(f"{title}: success of the main method in %", header, _frozen([lines, means]))


def _success_cells(rows: Mapping[int, Rows], attempts: Sequence[int]) -> tuple[str, ...]:
    """n, then one cell per attempt."""
    points = {attempt: point(attempt, members) for attempt, members in rows.items()}
    sizes = sorted({p["n"] for p in points.values()})
    cells = [
        f"{_percent(p['successes'] / p['n'])} [{_percent(p['low'])}, {_percent(p['high'])}]" if p else ""
        for p in map(points.get, attempts)
    ]
    return (str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}", *cells)


def _difference_cells(result: PairedDifference) -> tuple[str, ...]:
    needed = f" (about {result.tasks_needed} tasks would do)" if result.tasks_needed else ""
    interval = f"[{_percent(result.low):+d}, {_percent(result.high):+d}]"
    return str(result.n), f"{_percent(result.difference):+d}", interval, result.verdict + needed


def _percent(share: float) -> int:
    return round(100 * share)


def _frozen(sections: Iterable[Sequence[tuple[str, ...]]]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    return tuple(tuple(section) for section in sections if section)
