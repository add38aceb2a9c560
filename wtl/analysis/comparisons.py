"""Paired comparisons: attempts, controls and methods against one another on the entries that both played.

It pairs rows of the table of `wtl.analysis.episodes` and leaves intervals and verdicts to
`wtl.analysis.statistics`. Trap: entries name the training seed, so runs of several seeds are never paired
with one another; `compare` pools them.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from wtl.analysis.episodes import CurveKey, by_attempt, curve_name, curves, main_method
from wtl.analysis.results import ENTRY_COLUMNS
from wtl.analysis.statistics import PairedDifference, paired_difference


@dataclass(frozen=True)
class Comparison:
    """One attempt of a curve, `after`, minus one attempt of a curve, `before`, on the entries of both."""

    after: CurveKey
    after_attempt: int
    before: CurveKey
    before_attempt: int
    result: PairedDifference

    @property
    def name(self) -> str:
        """Both sides, for instance `mil@1 - mil.blind_retry@1`."""
        before = f"{curve_name(self.before)}@{self.before_attempt}"
        return f"{curve_name(self.after)}@{self.after_attempt} - {before}"


def compare(*sides: tuple[pd.DataFrame, pd.DataFrame]) -> PairedDifference | None:
    """Return success after minus success before on the entries that both have; None if they share none.

    Args:
        sides: (before, after) of one run each, with one attempt of one method and control on each side.
            Several runs on the same tasks are pooled.

    Tasks are resampled within families, each with all its entries in all runs.
    """
    columns = [*ENTRY_COLUMNS, "success"]
    # Sorted, so that the bootstrap draws the same tasks whatever the order of the rows.
    paired = pd.concat(
        before[columns].merge(after[columns], on=list(ENTRY_COLUMNS), suffixes=("_before", "_after"), sort=True)
        for before, after in sides
    )
    if paired.empty:
        return None
    return paired_difference(
        paired["success_before"], paired["success_after"], paired["family"].tolist(), paired["task"].tolist()
    )


def gains(episodes: pd.DataFrame) -> tuple[Comparison, ...]:
    """Return attempt k minus attempt 0 of every method and control that has both, k >= 1."""
    found = []
    for key, curve in curves(episodes).items():
        attempts = by_attempt(curve)
        first = attempts.pop(0, None)
        for attempt, rows in attempts.items():
            if first is not None and (result := compare((first, rows))):
                found.append(Comparison(key, attempt, key, 0, result))
    return tuple(found)


def against_others(episodes: pd.DataFrame, attempt: int = 1) -> tuple[Comparison, ...]:
    """Return an attempt of the main method minus every control and every other method, on the same entries.

    A control is compared at its own last attempt; another method at `attempt`, or at its last one before that.
    """
    others = {key: by_attempt(curve) for key, curve in curves(episodes).items()}
    main = (main_method(episodes), "")
    attempts = others.pop(main)
    found = []
    for key, theirs in others.items():
        wanted = max(theirs) if key[1] else attempt
        after = max((a for a in attempts if a <= wanted), default=min(attempts))
        before = max((a for a in theirs if a <= after), default=None)
        if before is not None and (result := compare((theirs[before], attempts[after]))):
            found.append(Comparison(main, after, key, before, result))
    return tuple(found)
