"""Paired comparisons: attempts, controls, methods and runs against one another on the entries that both played.

It pairs rows of the table of `wtl.analysis.episodes` and leaves intervals and verdicts to
`wtl.analysis.statistics`. An entry that was played after several trainings counts once, with its mean over them:
more training seeds are not more tasks. Trap: a control is compared with its own method and no other one, because
what it takes away is taken from that method's trials.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from wtl.analysis.episodes import SAME_FOR_ALL_SEEDS, CurveKey, by_attempt, curve_name, curves, main_method, main_rows
from wtl.analysis.statistics import PairedDifference, paired_difference


@dataclass(frozen=True)
class Comparison:
    """One attempt of a curve, `after`, minus one attempt of a curve, `before`, on the entries of both."""

    after: CurveKey
    after_attempt: int
    before: CurveKey
    before_attempt: int
    result: PairedDifference
    runs: tuple[str, str] = ("", "")
    """The run of each side, after and before; empty where both are of one run."""

    @property
    def name(self) -> str:
        """Both sides, for instance `mil@1 - mil.blind_retry@1`."""
        return " - ".join(self.sides)

    @property
    def sides(self) -> tuple[str, str]:
        """The two sides as they are named, after and before."""
        keys = ((self.after, self.after_attempt), (self.before, self.before_attempt))
        names = [f"{curve_name(key)}@{attempt}" for key, attempt in keys]
        first, second = (f"{run}: {name}" if run else name for run, name in zip(self.runs, names, strict=True))
        return first, second

    @property
    def record(self) -> dict[str, Any]:
        """What JSON says of it."""
        first, second = self.sides
        return {"first": first, "second": second, **asdict(self.result)}


def compare(before: pd.DataFrame, after: pd.DataFrame) -> PairedDifference | None:
    """Return success after minus success before on the entries that both have; None if they share none.

    Each side holds one attempt of one method and control. Where training seeds are common to both, only those are
    compared; else each side counts with the mean over its own. Tasks are resampled within families, each with all its
    entries.
    """
    common = set(before["train_seed"]) & set(after["train_seed"])
    sides = [rows[rows["train_seed"].isin(common)] if common else rows for rows in (before, after)]
    # Grouped in sorted order, so that the bootstrap draws the same tasks whatever the order of the rows.
    rates = [rows.groupby(list(SAME_FOR_ALL_SEEDS))["success"].mean() for rows in sides]
    paired = pd.concat(rates, axis=1, keys=["before", "after"], join="inner").sort_index()
    if paired.empty:
        return None
    families, tasks = (paired.index.get_level_values(name).tolist() for name in ("family", "task"))
    return paired_difference(paired["before"].to_numpy(), paired["after"].to_numpy(), families, tasks)


def gains(episodes: pd.DataFrame) -> tuple[Comparison, ...]:
    """Return attempt k minus attempt 0 of every method and control that has both, k >= 1."""
    found = []
    for key, curve in curves(episodes).items():
        attempts = by_attempt(curve)
        first = attempts.pop(0, None)
        for attempt, rows in attempts.items():
            if first is not None and (result := compare(first, rows)):
                found.append(Comparison(key, attempt, key, 0, result))
    return tuple(found)


def against_controls(episodes: pd.DataFrame, method: str | None = None) -> tuple[Comparison, ...]:
    """Return a method, or each but the main one, minus its own controls, at the last attempt that both played."""
    by_curve = {key: by_attempt(curve) for key, curve in curves(episodes).items()}
    main = main_method(episodes)
    found = []
    for key, control in by_curve.items():
        own = (key[0], "")
        shared = control.keys() & by_curve.get(own, {}).keys()
        wanted = key[0] == method if method else key[0] != main
        if wanted and key[1] and shared and (result := compare(control[max(shared)], by_curve[own][max(shared)])):
            found.append(Comparison(own, max(shared), key, max(shared), result))
    return tuple(found)


def against_others(episodes: pd.DataFrame) -> tuple[Comparison, ...]:
    """Return the main method minus every one of its controls, and minus every other method at the last attempt."""
    by_method = {key: by_attempt(curve) for key, curve in curves(episodes).items() if not key[1]}
    main = (main_method(episodes), "")
    mine = by_method.pop(main)
    found = [*against_controls(episodes, main[0])]
    for key, theirs in by_method.items():
        after, before = last_attempts(mine, theirs)
        if result := compare(theirs[before], mine[after]):
            found.append(Comparison(main, after, key, before, result))
    return tuple(found)


def last_attempts(first: dict[int, pd.DataFrame], second: dict[int, pd.DataFrame]) -> tuple[int, int]:
    """Return the attempts at which two methods are compared: the last one that both played.

    A method that ignores trials plays attempt 0 alone, and would do at any later one what it did there; it is compared
    with the other's last attempt. Where both read trials and share no attempt, each counts with its own last one.
    """
    own = max(first), max(second)
    shared = first.keys() & second.keys()
    return own if 0 in own or not shared else (max(shared), max(shared))


def between(
    first: tuple[str, pd.DataFrame], second: tuple[str, pd.DataFrame], attempt: int | None = None
) -> Comparison | None:
    """Return the main method of one run minus that of another, each by its label; None if they share no entry.

    They are compared at `attempt`, or at the last one (`last_attempts`).
    """
    (label, rows), (other_label, other_rows) = first, second
    mine, theirs = by_attempt(main_rows(rows)), by_attempt(main_rows(other_rows))
    after, before = last_attempts(mine, theirs) if attempt is None else (attempt, attempt)
    if after not in mine or before not in theirs:
        return None
    result = compare(theirs[before], mine[after])
    keys = (main_method(rows), ""), (main_method(other_rows), "")
    return Comparison(keys[0], after, keys[1], before, result, (label, other_label)) if result else None
