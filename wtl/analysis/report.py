"""What evaluations showed: the summary of their episodes and the paired comparisons, as tables.

Everything here is a pure function of results files; reading them, and which runs are one but for their seed, is the
work of `wtl.analysis.runs`, drawing is in `wtl.analysis.figures`, numbers for programs in `wtl.analysis.records`.
Runs that differ in more than their seed are never averaged: the first one minus each other is given instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from wtl.analysis.comparisons import Comparison, against_controls, against_others, between, compare, gains
from wtl.analysis.episodes import (
    POOLED,
    SAME_FOR_ALL_SEEDS,
    by_attempt,
    curves,
    entries_name,
    groups,
    main_method,
    main_rows,
    protocol_of,
    success_rates,
)
from wtl.analysis.runs import Pool, RunResults, pools
from wtl.analysis.statistics import PairedDifference
from wtl.analysis.tables import Cells, Table

_DIFFERENCE = ("n", "points", "95 % interval", "p", "verdict")
_ABOUT_DIFFERENCES = (
    "Points: first minus second on the same entries; interval: bootstrap over tasks within families, and "
    "Clopper-Pearson where all tasks of a family agree; p: sign-flipping permutation test over tasks. An interval that "
    "holds 0 is `no difference` if it is at most 20 points wide, else `undecided`."
)
_HIDDEN = (
    "hidden_goal: nothing visible at the start gives the goal away ({}), so a rise must come from the trials. "
    "visible_goal: the other families."
)


def report_tables(runs: Mapping[str, RunResults]) -> tuple[Table, ...]:
    """Return everything that `wtl report RUN...` prints; each setting of each run has tables of its own."""
    found = []
    pooled = pools(runs)
    for pool in pooled:
        rows, hidden = pool.rows, pool.hidden_goal_families
        found += [_success_table(pool), _comparison_table(pool.title, rows)]
        if rows["family"].nunique() > 1:
            found.append(_family_table(pool))
        only_hidden = rows[rows["family"].isin(hidden)]
        if 0 < len(only_hidden) < len(rows):
            found.append(_comparison_table(f"{pool.title}, families that hide their goal", only_hidden))
    if len(pooled) > 1 or any(len(pool.members) > 1 for pool in pooled):
        found.append(_run_table("runs compared", pooled))
        found += [_between_table(pooled[0], other) for other in pooled[1:]]
    return tuple(found)


def _success_table(pool: Pool) -> Table:
    rows = pool.rows
    attempts = sorted(rows["attempt"].unique())
    sections: dict[str, list[Cells]] = {}
    for (method, control), curve in curves(rows).items():
        name = f"↳ {control}" if control else method
        sections.setdefault(method, []).append((name, *_success_cells(curve, attempts)))
    header = ("method, ↳ control", "n", *_attempt_names(attempts))
    title = f"{pool.title}, {protocol_of(rows)}: success in %, 95 % Wilson interval"
    return Table(title, header, _not_empty(sections.values()), (entries_name(rows) + ".",))


def _comparison_table(title: str, rows: pd.DataFrame) -> Table:
    main = main_method(rows)
    sections = [
        [(_short(comparison, main), *_difference_cells(comparison.result)) for comparison in comparisons]
        for comparisons in (
            [gain for gain in gains(rows) if not gain.after[1]], against_others(rows), against_controls(rows),
        )
    ]  # fmt: skip
    return Table(
        f"{title}: differences of success of {main}, first minus second",
        ("attempts, same entries", *_DIFFERENCE), _not_empty(sections), (_ABOUT_DIFFERENCES,),
    )  # fmt: skip


def _short(comparison: Comparison, main: str) -> str:
    """Return both sides: `3 - 0`, `3 - blind_retry`, `3 - expert at 0`, and with the method before it if not main."""
    (method, _), (other, control) = comparison.after, comparison.before
    before = str(comparison.before_attempt)
    second = control or (before if other == method else f"{other} at {before}")
    return ("" if method == main else f"{method} at ") + f"{comparison.after_attempt} - {second}"


def _family_table(pool: Pool) -> Table:
    rows = main_rows(pool.rows)
    attempts = sorted(rows["attempt"].unique())
    first, last = attempts[0], attempts[-1]
    sections: tuple[list[Cells], list[Cells]] = ([], [])
    for group, members in groups(rows, pool.hidden_goal_families, pool.goals_known).items():
        by = by_attempt(members)
        gain = compare(by[first], by[last]) if first != last and {first, last} <= by.keys() else None
        cells = _difference_cells(gain)[1:] if gain else ("",) * 4
        sections[group not in POOLED].append((group, *_success_cells(members, attempts), *cells))
    header = ("group", "n", *_attempt_names(attempts), f"attempt {last} - {first}", *_DIFFERENCE[2:])
    title = f"{pool.title}: success of {rows['method'].iloc[0]} in % by family"
    return Table(title, header, _not_empty(sections), _about_groups(pool))


def _about_groups(pool: Pool) -> tuple[str, ...]:
    if not pool.goals_known:
        return ("Which families hide their goal is not known: no families.json lies beside the results file.",)
    hidden = sorted(set(pool.rows["family"]) & pool.hidden_goal_families)
    if not hidden:
        return ("Every family shows its goal at the start.",)
    return (_HIDDEN.format(", ".join(hidden)),)


def _run_table(title: str, pooled: Sequence[Pool]) -> Table:
    """Return one line per run, and the mean of the runs that differ in their seed alone."""
    mains = {pool: {label: main_rows(rows) for label, rows in pool.members.items()} for pool in pooled}
    attempts = sorted({attempt for runs in mains.values() for rows in runs.values() for attempt in rows["attempt"]})
    lines: list[Cells] = []
    means: list[Cells] = []
    for pool, runs in mains.items():
        for label, rows in runs.items():
            cells = (*_success_cells(rows, attempts), *_gain_cells(rows, attempts))
            lines.append((f"{label}, {pool.setting}: {rows['method'].iloc[0]}", *cells))
        if len(runs) > 1:
            name = f"{pool.label}: mean of {len(runs)} seeds (least to most)"
            together = pd.concat(runs.values(), ignore_index=True)
            means.append((name, "", *_mean_cells(list(runs.values()), attempts), *_gain_cells(together, attempts)))
    gained = (f"attempt {attempts[-1]} - {attempts[0]}",) * (len(attempts) > 1)
    header = ("run", "n", *_attempt_names(attempts), *gained)
    return Table(f"{title}: success of the main method in %", header, _not_empty([lines, means]))


def _between_table(first: Pool, second: Pool) -> Table:
    """Return the main method of one run minus that of another, at the last attempt by group, and at attempt 0."""
    title = f"{first.title} minus {second.title}: differences of success, same entries"
    header = ("group", f"first: {first.label}", f"second: {second.label}", *_DIFFERENCE)
    sections: tuple[list[Cells], list[Cells], list[Cells]] = ([], [], [])
    sides: tuple[str, str] | None = None
    for group, comparison in compare_pools(first, second).items():
        sides = sides or comparison.sides
        sections[group not in POOLED].append(_between_cells(group, comparison, first, second))
    begin = between((first.label, first.rows), (second.label, second.rows), attempt=0)
    if begin and sides and begin.sides != sides:
        sections[2].append(_between_cells("all, attempt 0", begin, first, second))
    if sides is None:
        return Table(title, header, (), ("They have no entry in common, so there is no difference to give.",))
    notes = [f"{' minus '.join(sides)}. {_ABOUT_DIFFERENCES}"]
    protocols = [protocol_of(pool.rows) for pool in (first, second)]
    if protocols[0] != protocols[1]:
        notes.append(f"The protocols differ: first {protocols[0]}; second {protocols[1]}.")
    elif _digests_differ(first.rows, second.rows):
        notes.append("Tasks and seeds are the same, starts or demonstrations are not: their digests differ.")
    return Table(title, header, _not_empty(sections), tuple(notes))


def compare_pools(first: Pool, second: Pool) -> dict[str, Comparison]:
    """Return the main method of one minus that of the other at the last attempt, by group, where they share entries."""
    sides = [
        groups(pool.rows, first.hidden_goal_families, first.goals_known and second.goals_known)
        for pool in (first, second)
    ]
    found = {}
    for group in sides[0].keys() & sides[1].keys():
        mine, theirs = (side[group] for side in sides)
        if comparison := between((first.label, mine), (second.label, theirs)):
            found[group] = comparison
    return {group: found[group] for group in sides[0] if group in found}


def _between_cells(group: str, comparison: Comparison, first: Pool, second: Pool) -> Cells:
    """Return the success of both on the entries that both played, and the difference."""
    entry, cells = list(SAME_FOR_ALL_SEEDS), []
    for pool, other, key, attempt in (
        (first, second, comparison.after, comparison.after_attempt),
        (second, first, comparison.before, comparison.before_attempt),
    ):
        rows = pool.rows.merge(other.rows[entry].drop_duplicates(), on=entry)
        wanted = groups(rows, first.hidden_goal_families).get(group, rows)
        cells.append(_success_cells(curves(wanted)[key], [attempt])[1])
    return (group, *cells, *_difference_cells(comparison.result))


def _digests_differ(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    digests = [dict(rows[["seed", "entry_digest"]].itertuples(index=False)) for rows in (first, second)]
    shared = digests[0].keys() & digests[1].keys()
    return any(digests[0][seed] and digests[1][seed] and digests[0][seed] != digests[1][seed] for seed in shared)


def _attempt_names(attempts: Sequence[int]) -> Cells:
    return tuple(f"attempt {attempt}" for attempt in attempts)


def _success_cells(rows: pd.DataFrame, attempts: Sequence[int]) -> Cells:
    """Return n, then one cell per attempt, which is empty where the attempt was not played."""
    rates = success_rates(rows)
    cells = {p.attempt: f"{_percent(p.successes / p.n)} {_interval(p.low, p.high)}" for p in rates.itertuples()}
    least, most = rates["entries"].min(), rates["entries"].max()
    seeds = rows["train_seed"].nunique()
    count = (str(least) if least == most else f"{least} to {most}") + (f" x {seeds} seeds" if seeds > 1 else "")
    return (count, *(cells.get(a, "") for a in attempts))


def _mean_cells(runs: Sequence[pd.DataFrame], attempts: Sequence[int]) -> Cells:
    """Return mean, minimum and maximum of the runs' rates per attempt, empty where a run lacks the attempt."""
    rates = pd.DataFrame([run.groupby("attempt")["success"].mean() for run in runs]).reindex(columns=attempts)
    return tuple(
        f"{_percent(rate.mean())} ({_percent(rate.min())} to {_percent(rate.max())})" if rate.notna().all() else ""
        for _, rate in rates.items()
    )


def _gain_cells(rows: pd.DataFrame, attempts: Sequence[int]) -> Cells:
    """Return the last column: last minus first attempt of the table; no cell where there is one attempt."""
    first, last = attempts[0], attempts[-1]
    if first == last:
        return ()
    by = by_attempt(rows)
    result = compare(by[first], by[last]) if {first, last} <= by.keys() else None
    if result is None:
        return ("",)
    _, points, interval, *_ = _difference_cells(result)
    return (f"{points} {interval}" + (" undecided" if result.verdict == "undecided" else ""),)


def _difference_cells(result: PairedDifference) -> Cells:
    p = f"{result.p_value:.3f}" if result.p_value >= 0.001 else "< 0.001"
    return str(result.n), f"{_percent(result.difference):+d}", _interval(result.low, result.high, "+"), p, result.words


def _percent(share: float) -> int:
    return round(100 * share)


def _interval(low: float, high: float, sign: str = "") -> str:
    """Return both ends in %, with as many decimals as tell them apart."""
    for digits in range(4):
        ends = [f"{round(100 * end, digits) + 0.0:{sign}.{digits}f}" for end in (low, high)]
        if ends[0] != ends[1]:
            break
    return f"[{ends[0]}, {ends[1]}]"


def _not_empty(sections: Iterable[Sequence[Cells]]) -> tuple[tuple[Cells, ...], ...]:
    return tuple(tuple(section) for section in sections if section)
