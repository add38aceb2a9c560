"""Makes the table of `docs/evidence.md` from the committed CSV files: how much each of eight habits misleads here.

    python -m docs.make_evidence           # write it
    python -m docs.make_evidence --check   # exit code 1 if it is not what the CSV files say

Nothing is played: every number is a fact about episodes that stand in `experiments/`, and where entries are drawn, the
draws are seeded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from wtl.analysis.episodes import to_table
from wtl.analysis.results import read_results
from wtl.analysis.statistics import paired_difference, wilson_interval

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "evidence.md"
BEGIN, END = "<!-- habits: made by docs/make_evidence.py -->\n", "\n<!-- end of habits -->"
METHOD, DRAWS = "learned_transfer", 10_000


def _read(name: str) -> pd.DataFrame:
    table = to_table(read_results(ROOT / "experiments" / f"{name}.csv"))
    return table[table["control"] == ""]


def _of(table: pd.DataFrame, method: str, attempt: int) -> pd.DataFrame:
    return table[(table["method"] == method) & (table["attempt"] == attempt)]


def _rate(successes: pd.Series) -> str:
    interval = wilson_interval(float(successes.sum()), len(successes))
    return f"{100 * successes.mean():.0f} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def _gain(table: pd.DataFrame, first: int, last: int) -> str:
    """Return attempt `last` minus attempt `first` of the method, paired by entry, in points."""
    pairs = _pairs(table, first, last)
    found = paired_difference(pairs["success_x"], pairs["success_y"], list(pairs["family"]), list(pairs["task"]))
    return f"{100 * found.difference:+.0f} [{100 * found.low:+.0f}, {100 * found.high:+.0f}]"


def _pairs(table: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    keys = ["family", "task", "demonstration"]
    return _of(table, METHOD, first)[[*keys, "success"]].merge(_of(table, METHOD, last)[[*keys, "success"]], on=keys)


def _last_step() -> tuple[str, str]:
    rows = _of(_read("protocols/redrawn"), METHOD, 0)
    return _rate(rows["success"]), _rate(rows["success_last"].astype(bool))


def _first_to_finish() -> tuple[str, str]:
    rows = _of(_read("protocols/redrawn"), METHOD, 0)
    first = rows.groupby("family").head(0)
    for _, own in rows.groupby("family"):
        first = pd.concat([first, own.nsmallest(len(own) // 2, "steps")])
    return _rate(first["success"]), _rate(rows["success"])


def _same_start() -> tuple[str, str]:
    return _gain(_read("protocols/repeated"), 0, 3), _gain(_read("protocols/redrawn"), 0, 3)


def _many_guesses() -> tuple[str, str]:
    many, one = (_of(_read(f"protocols/{name}"), METHOD, 0) for name in ("redrawn", "redrawn-one-walk"))
    both = many[many["task"].isin(set(one["task"]))]
    return _rate(both["success"]), _rate(one["success"])


def _blind() -> tuple[str, str]:
    table = _read("protocols/redrawn")
    return _rate(_of(table, METHOD, 0)["success"]), _rate(_of(table, f"{METHOD}.blind_search", 0)["success"])


def _leak() -> tuple[str, str]:
    table = _read("protocols/redrawn-one-walk")
    return _rate(_of(table, f"{METHOD}.told_goal", 0)["success"]), _rate(_of(table, METHOD, 0)["success"])


def _chosen_on_test() -> tuple[str, str]:
    """Eight designs that are equally good by construction, each judged on 50 entries: the best looks better."""
    rows = _of(_read("protocols/redrawn"), METHOD, 3)["success"].to_numpy(float)
    generator = np.random.default_rng(0)
    best = rows[generator.integers(len(rows), size=(DRAWS, 8, 50))].mean(axis=2).max(axis=1)
    return f"{100 * best.mean():.0f}", f"{100 * rows.mean():.0f}"


def _few_entries() -> tuple[str, str]:
    """The same curve, read from 20 of its entries."""
    pairs = _pairs(_read("protocols/redrawn"), 0, 2)
    change = pairs["success_y"].to_numpy(float) - pairs["success_x"].to_numpy(float)
    generator = np.random.default_rng(0)
    gains = 100 * np.array([change[generator.choice(len(change), 20, replace=False)].mean() for _ in range(DRAWS)])
    low, high = np.percentile(gains, [2.5, 97.5])
    return f"{low:+.0f} to {high:+.0f}", _gain(_read("protocols/redrawn"), 0, 2)


HABITS: tuple[tuple[str, str, str, Callable[[], tuple[str, str]]], ...] = (
    ("success at any step", "attempt 0, any step", "the same episodes, last step", _last_step),
    ("first to finish", "attempt 0, the half of each family that finished first", "all", _first_to_finish),
    ("resets that repeat", "attempt 3 - 0, identical starts", "starts redrawn", _same_start),
    ("several guesses in one attempt", "attempt 0, many walks", "one walk, same tasks", _many_guesses),
    ("no search without learning beside it", "attempt 0", "blind search of as many walks", _blind),
    ("the goal leaks", "one walk, told the goal", "one walk, goal hidden", _leak),
    (
        "choosing on test families",
        "best of eight equal designs, 50 entries each",
        "what each is worth",
        _chosen_on_test,
    ),
    ("few entries", "attempt 2 - 0 from 20 entries, 95 % of draws", "from all 250", _few_entries),
)
"""The habit, what it shows, what is true, and how both are found in the files."""


def table() -> str:
    """Return the table in Markdown, in per cent or points, with 95 % intervals."""
    lines = ["| habit | what it shows | | what stands beside it here | |", "| --- | --- | --- | --- | --- |"]
    for habit, shown, beside, measure in HABITS:
        one, other = measure()
        lines.append(f"| {habit} | {shown} | **{one}** | {beside} | **{other}** |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    made = before + BEGIN + table() + END + rest.split(END)[1]
    if "--check" in sys.argv[1:]:
        if made != text:
            sys.exit(f"{PAGE} is not what the CSV files say; run python -m docs.make_evidence")
        return
    PAGE.write_text(made)


if __name__ == "__main__":
    main()
