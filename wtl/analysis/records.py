"""What evaluations showed, as numbers for programs: nested for JSON, one row a number for CSV.

`summarise` counts; `differences` pairs; both pool only runs that differ in their training seed alone. The tables that
people read are made by `wtl.analysis.report`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import pandas as pd

from wtl.analysis.comparisons import Comparison, against_controls, against_others, gains
from wtl.analysis.episodes import curve_name, curves, entries_name, groups, main_method, protocol_of, success_rates
from wtl.analysis.report import compare_pools
from wtl.analysis.runs import Pool, RunResults, pools

Summary = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]
"""Method, control (empty for the method itself), group, then the points of its improvement curve by attempt:
`{"attempt": 1, "n": 40, "successes": 28, "low": 0.55, "high": 0.82}`, with the 95 % Wilson interval."""

COLUMNS = (
    "run", "setting", "protocol", "entries", "method", "control", "main", "group", "attempt", "seeds", "n",
    "successes", "success", "low", "high", "minus", "difference", "difference_low", "difference_high", "p", "verdict",
)  # fmt: skip
"""The header of `wtl report --csv`. `difference` is this row less the one that `minus` names, on the same entries."""


def summarise(rows: pd.DataFrame, hidden_goal_families: frozenset[str]) -> Summary:
    """Return success by attempt: `{method: {control or "": {group: [point, ...]}}}`. Give it one setting only."""
    summary: Summary = {}
    for (method, control), curve in curves(rows).items():
        summary.setdefault(method, {})[control] = {
            group: success_rates(members).drop(columns="entries").to_dict("records")
            for group, members in groups(curve, hidden_goal_families).items()
        }
    return summary


def report_json(runs: Mapping[str, RunResults]) -> dict[str, Any]:
    """Return what `wtl report RUN... --json` prints.

    For one run it is `summarise` of it, for several `summarise` of each by its label; beside that stand `entries`
    and `protocols`, what was played in each setting, and `differences`, see `differences`.
    """
    summaries = {label: summarise(run.rows, run.hidden_goal_families) for label, run in runs.items()}
    content: dict[str, Any] = dict(next(iter(summaries.values()))) if len(summaries) == 1 else dict(summaries)
    pooled = pools(runs)
    content["entries"] = {pool.title: entries_name(pool.rows) for pool in pooled}
    content["protocols"] = {pool.title: protocol_of(pool.rows) for pool in pooled}
    content["differences"] = differences(pooled)
    return content


def differences(pooled: list[Pool]) -> list[dict[str, Any]]:
    """Return every paired difference, first minus second, by group.

    In each run they are attempt k minus attempt 0, every method minus each of its own controls, the main method minus
    every other; between runs, the main method of the first minus that of each other, at the last attempt.
    """
    found = [
        {"run": pool.title, "group": group, **comparison.record}
        for pool in pooled
        for group, members in groups(pool.rows, pool.hidden_goal_families, pool.goals_known).items()
        for comparison in _within(members)
    ]
    for other in pooled[1:]:
        for group, comparison in compare_pools(pooled[0], other).items():
            found.append({"run": f"{pooled[0].title} minus {other.title}", "group": group, **comparison.record})
    return found


def _within(rows: pd.DataFrame) -> list[Comparison]:
    if (rows["control"] != "").all():  # a group that the method itself did not play
        return []
    return [*(gain for gain in gains(rows) if not gain.after[1]), *against_others(rows), *against_controls(rows)]


def report_csv(runs: Mapping[str, RunResults]) -> str:
    """Return what `wtl report RUN... --csv` prints: one row for each attempt, curve, group and setting.

    A later attempt is compared with attempt 0 of its method, a control with its method, another method with the main
    one, and the main method of a further run, at the last attempt, with that of the first run.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    pooled = pools(runs)
    for pool in pooled:
        writer.writerows(_rows(pool))
    for other in pooled[1:]:
        for group, comparison in compare_pools(pooled[0], other).items():
            writer.writerow(_between_row(group, comparison, other))
    return text.getvalue()


def _rows(pool: Pool) -> list[dict[str, Any]]:
    all_rows = pool.rows
    facts = {"run": pool.label, "setting": pool.setting, "protocol": protocol_of(all_rows)}
    facts["entries"] = entries_name(all_rows)
    found = []
    for group, members in groups(all_rows, pool.hidden_goal_families, pool.goals_known).items():
        # The side that is not the reference: the later attempt of a gain, else what the method is compared with.
        compared = {}
        for c in _within(members):
            is_gain = c.after == c.before
            key, attempt = (c.after, c.after_attempt) if is_gain else (c.before, c.before_attempt)
            compared[(key, attempt)] = (c, is_gain)
        for key, curve in curves(members).items():
            for point in success_rates(curve).itertuples():
                row = {
                    **facts, "method": key[0], "control": key[1], "main": int(key[0] == main_method(all_rows)),
                    "group": group, "attempt": point.attempt,
                    "seeds": curve["train_seed"].nunique(), "n": point.n, "successes": point.successes,
                    "success": point.successes / point.n, "low": point.low, "high": point.high,
                }  # fmt: skip
                if (key, row["attempt"]) in compared:
                    comparison, is_gain = compared[(key, row["attempt"])]
                    row |= _difference(comparison, turned=not is_gain)
                found.append(row)
    return found


def _difference(comparison: Comparison, turned: bool) -> dict[str, Any]:
    """Return the columns of a difference; turned, it is the second side less the first."""
    result, (first, second) = comparison.result, comparison.sides
    low, high, verdict = result.low, result.high, str(result.verdict)
    if turned:
        low, high = -high, -low
        verdict = {"IMPROVED": "lower", "lower": "IMPROVED"}.get(verdict, verdict)
    return {
        "minus": first if turned else second, "difference": (-result.difference if turned else result.difference) + 0.0,
        "difference_low": low, "difference_high": high, "p": result.p_value, "verdict": verdict,
    }  # fmt: skip


def _between_row(group: str, comparison: Comparison, other: Pool) -> dict[str, Any]:
    return {
        "run": other.label, "setting": other.setting, "protocol": protocol_of(other.rows),
        "entries": entries_name(other.rows), "method": curve_name(comparison.before), "main": 1, "group": group,
        "attempt": comparison.before_attempt, "n": comparison.result.n, **_difference(comparison, turned=True),
    }  # fmt: skip
