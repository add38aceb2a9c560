"""What an evaluation showed: the summary of its episodes and the paired comparisons, as tables.

Everything here is a pure function of `evaluation/episodes.csv` and `families.json`; drawing is in
`wtl.analysis.figures`, TensorBoard in `wtl.analysis.tensorboard`. Trap: `summarise` pools whatever it
is given, so give it one regime and split; the tables keep them apart themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wtl.analysis.comparisons import against_others, compare, gains
from wtl.analysis.episodes import (
    POOLED,
    by_attempt,
    by_setting,
    curves,
    groups,
    main_rows,
    protocol_of,
    success_rates,
    to_table,
)
from wtl.analysis.results import read_results
from wtl.analysis.statistics import PairedDifference
from wtl.analysis.tables import Cells, Table
from wtl.core.records import check_files

Summary = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]
"""Method, control (empty for the method itself), group, then the points of its improvement curve by
attempt: `{"attempt": 1, "n": 40, "successes": 28, "low": 0.55, "high": 0.82}`, with the 95 % Wilson interval."""


@dataclass(frozen=True, eq=False)
class RunResults:
    """The evaluation of one run."""

    rows: pd.DataFrame
    """Its episodes; `wtl.analysis.episodes` describes the table."""
    hidden_goal_families: frozenset[str]
    """Names of the families whose first observation does not give the goal away."""


def load_run(run: Path) -> RunResults:
    """Return what `episodes.csv` and `families.json` of a run directory, or of its `evaluation` directory, hold.

    Raises FileNotFoundError if one is missing, ValueError if one cannot be read; both say what to do.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"there is no run directory {run}; make it with `wtl run CONFIG`")
    nested = run / "evaluation"
    directory = nested if nested.is_dir() else run
    for name in ("episodes.csv", "families.json"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{run} is not evaluated: no {directory / name}; run `wtl evaluate`")
    check_files(directory)
    rows = to_table(read_results(directory / "episodes.csv"))
    if rows.empty:
        raise ValueError(f"{directory / 'episodes.csv'} holds no episodes; evaluate again")
    hidden = _read_families(directory / "families.json")
    unknown = sorted(set(rows["family"]) - hidden.keys())
    if unknown:
        raise ValueError(f"{directory / 'families.json'} must name {', '.join(unknown)}; evaluate again")
    return RunResults(rows, frozenset(name for name, is_hidden in hidden.items() if is_hidden))


def load_runs(runs: Iterable[Path]) -> dict[str, RunResults]:
    """Return `load_run` of each, by the name of its directory, or by its path where two names are the same."""
    paths = list(runs)
    names = [path.resolve().name for path in paths]
    clash = len(set(names)) < len(names)
    return {str(path) if clash else name: load_run(path) for path, name in zip(paths, names, strict=True)}


def _read_families(path: Path) -> dict[str, bool]:
    """Return whether each family hides its goal, from `{"reach-v3": {"hidden_goal": true}, ...}`."""
    try:
        content = json.loads(path.read_text())
        families = {name: about["hidden_goal"] for name, about in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        families = {"": None}
    if not all(isinstance(hidden, bool) for hidden in families.values()):
        raise ValueError(f'{path} must hold {{"FAMILY": {{"hidden_goal": true}}, ...}}; evaluate again')
    return families


def summarise(rows: pd.DataFrame, hidden_goal_families: frozenset[str]) -> Summary:
    """Return what `wtl report RUN --json` prints: `{method: {control or "": {group: [point, ...]}}}`."""
    summary: Summary = {}
    for (method, control), curve in curves(rows).items():
        summary.setdefault(method, {})[control] = {
            group: success_rates(members).to_dict("records")
            for group, members in groups(curve, hidden_goal_families).items()
        }
    return summary


def report_tables(runs: Mapping[str, RunResults]) -> tuple[Table, ...]:
    """Return everything that `wtl report RUN...` prints; each run, regime and split has tables of its own."""
    found, mains, mains_hidden = [], [], []
    for label, run in runs.items():
        for setting, rows in by_setting(run.rows).items():
            title = f"{label}, {setting}"
            mains.append((title, setting, main_rows(rows)))
            found += [_success_table(f"{title}, {protocol_of(rows)}", rows), _comparison_table(title, rows)]
            if rows["family"].nunique() > 1:
                found.append(_family_table(title, main_rows(rows), run.hidden_goal_families))
            hidden = rows[rows["family"].isin(run.hidden_goal_families)]
            if 0 < len(hidden) < len(rows):
                found.append(_comparison_table(f"{title}, families that hide their goal", hidden))
                mains_hidden.append((title, setting, main_rows(hidden)))
    if len(mains) > 1:
        found.append(_run_table("runs compared", mains))
    if len(mains_hidden) > 1:
        found.append(_run_table("runs compared, families that hide their goal", mains_hidden))
    return tuple(found)


def _success_table(title: str, rows: pd.DataFrame) -> Table:
    attempts = sorted(rows["attempt"].unique())
    sections: dict[str, list[Cells]] = {}
    for (method, control), curve in curves(rows).items():
        name = f"↳ {control}" if control else method
        sections.setdefault(method, []).append((name, *_success_cells(curve, attempts)))
    header = ("method, ↳ control", "n", *_attempt_names(attempts))
    return Table(f"{title}: success in %, 95 % Wilson interval", header, _not_empty(sections.values()))


def _comparison_table(title: str, rows: pd.DataFrame) -> Table:
    sections = [
        [(comparison.name, *_difference_cells(comparison.result)) for comparison in comparisons]
        for comparisons in ([gain for gain in gains(rows) if not gain.after[1]], against_others(rows))
    ]
    header = ("method@attempt, same entries", "n", "points", "95 % interval", "verdict")
    return Table(f"{title}: differences of success, first minus second", header, _not_empty(sections))


def _family_table(title: str, rows: pd.DataFrame, hidden_goal_families: frozenset[str]) -> Table:
    attempts = sorted(rows["attempt"].unique())
    first, last = attempts[0], attempts[-1]
    pooled: list[Cells] = []
    families: list[Cells] = []
    for group, members in groups(rows, hidden_goal_families).items():
        gain = compare((members[members["attempt"] == first], members[members["attempt"] == last]))
        verdict = _difference_cells(gain)[-1] if gain else ""
        section = pooled if group in POOLED else families
        section.append((group, *_success_cells(members, attempts), verdict))
    header = ("group", "n", *_attempt_names(attempts), f"attempt {last} - {first}")
    method = rows["method"].iloc[0]
    return Table(f"{title}: success of {method} in % by family", header, _not_empty([pooled, families]))


def _run_table(title: str, mains: Sequence[tuple[str, str, pd.DataFrame]]) -> Table:
    """Return one line per run, and the mean of the runs that share a setting and its tasks.

    `mains` holds title, setting and the main method's rows of each run.
    """
    attempts = sorted({attempt for _, _, rows in mains for attempt in rows["attempt"]})
    lines: list[Cells] = []
    alike: dict[tuple[str, frozenset[str]], list[pd.DataFrame]] = {}
    for name, setting, rows in mains:
        alike.setdefault((setting, frozenset(rows["task"])), []).append(rows)
        cells = (*_success_cells(rows, attempts), *_gain_cells([rows], attempts))
        lines.append((f"{name}: {rows['method'].iloc[0]}", *cells))
    means = [
        (f"{setting}: mean of {len(runs)} runs (least to most)", "", *_mean_cells(runs, attempts),
         *_gain_cells(runs, attempts))
        for (setting, _), runs in alike.items() if len(runs) > 1
    ]  # fmt: skip
    gained = (f"attempt {attempts[-1]} - {attempts[0]}",) * (len(attempts) > 1)
    header = ("run", "n", *_attempt_names(attempts), *gained)
    return Table(f"{title}: success of the main method in %", header, _not_empty([lines, means]))


def _attempt_names(attempts: Sequence[int]) -> Cells:
    return tuple(f"attempt {attempt}" for attempt in attempts)


def _success_cells(rows: pd.DataFrame, attempts: Sequence[int]) -> Cells:
    """Return n, then one cell per attempt, which is empty where the attempt was not played."""
    rates = success_rates(rows)
    cells = {
        p.attempt: f"{_percent(p.successes / p.n)} [{_percent(p.low)}, {_percent(p.high)}]" for p in rates.itertuples()
    }
    least, most = rates["n"].min(), rates["n"].max()
    return (str(least) if least == most else f"{least} to {most}", *(cells.get(a, "") for a in attempts))


def _mean_cells(runs: Sequence[pd.DataFrame], attempts: Sequence[int]) -> Cells:
    """Return mean, minimum and maximum of the runs' rates per attempt, empty where a run lacks the attempt."""
    rates = pd.DataFrame([run.groupby("attempt")["success"].mean() for run in runs]).reindex(columns=attempts)
    return tuple(
        f"{_percent(rate.mean())} ({_percent(rate.min())} to {_percent(rate.max())})" if rate.notna().all() else ""
        for _, rate in rates.items()
    )


def _gain_cells(runs: Sequence[pd.DataFrame], attempts: Sequence[int]) -> Cells:
    """Return the last column: last minus first attempt, pooled over runs; no cell where there is one attempt."""
    first, last = attempts[0], attempts[-1]
    if first == last:
        return ()
    sides = [(by[first], by[last]) for by in map(by_attempt, runs) if first in by and last in by]
    result = compare(*sides) if len(sides) == len(runs) else None
    if result is None:
        return ("",)
    _, points, interval, _ = _difference_cells(result)
    return (f"{points} {interval}" + (" UNDERPOWERED" if result.verdict == "UNDERPOWERED" else ""),)


def _difference_cells(result: PairedDifference) -> Cells:
    needed = f" (about {result.tasks_needed} tasks would do)" if result.tasks_needed else ""
    interval = f"[{_percent(result.low):+d}, {_percent(result.high):+d}]"
    return str(result.n), f"{_percent(result.difference):+d}", interval, result.verdict + needed


def _percent(share: float) -> int:
    return round(100 * share)


def _not_empty(sections: Iterable[Sequence[Cells]]) -> tuple[tuple[Cells, ...], ...]:
    return tuple(tuple(section) for section in sections if section)
