"""How sure a number is: intervals, paired differences with a verdict, a permutation test.

Pure functions on numpy; the unit of resampling is the task, because entries of one task are not
independent of one another. Trap: a percentile bootstrap sees only the tasks it was given, so where
they all agree it would be certain; `paired_difference` says what it does instead.
Sources: Wilson 1927 (doi 10.1080/01621459.1927.10502953); Efron and Tibshirani, An Introduction to
the Bootstrap, chapters 13 and 15.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

Verdict = Literal["IMPROVED", "HELD", "REGRESSED", "UNDERPOWERED"]

CONFIDENCE = 0.95
FEWEST_TASKS = 6
"""With fewer tasks that all change the same way a two-sided sign test cannot fall below 5 %."""


@dataclass(frozen=True)
class Interval:
    """Where a number may lie, with 95 % confidence unless said otherwise."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """From the lower to the upper end."""
        return self.high - self.low


@dataclass(frozen=True)
class PairedDifference:
    """What changed from before to after on the same entries."""

    difference: float
    """Mean of after - before, in [-1, 1]."""
    low: float
    high: float
    """The 95 % interval of the difference."""
    n: int
    """Pairs."""
    tasks: int
    """Different tasks among them, the unit of resampling."""
    verdict: Verdict
    tasks_needed: int | None
    """About how many tasks would give a verdict; only where it is UNDERPOWERED."""


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The Wilson score interval of a success rate, within [0, 1].

    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"a success rate needs n >= 1 and 0 <= successes <= n, got {successes} of {n}")
    z = float(norm.ppf((1 + confidence) / 2))
    rate, scale = successes / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / scale
    return Interval(
        0.0 if successes == 0 else max(0.0, centre - half),
        1.0 if successes == n else min(1.0, centre + half),
    )


def stratified_bootstrap(
    values: ArrayLike,
    strata: Sequence[Hashable],
    tasks: Sequence[Hashable] | None = None,
    *,
    samples: int = 10_000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """The percentile interval of the mean of `values` (N,) when tasks are drawn anew within strata.

    `strata` (N,) is the family of each value, `tasks` (N,) its task (default: each value is a task
    of its own). Each sample draws as many tasks of a family as it has, with replacement, and takes
    all values of a drawn task. Families with one task are drawn as one stratum: alone, they would
    add no width at all. Raises ValueError if the lengths differ, there is no value, or one is not finite.
    """
    values, strata, tasks = _checked(values, strata, tasks)
    sums, counts, families = _by_task(values, strata, tasks)
    random = np.random.default_rng(seed)
    total, size = np.zeros(samples), np.zeros(samples)
    for members in _strata_of_tasks(families):
        draw = members[random.integers(len(members), size=(samples, len(members)))]
        total += sums[draw].sum(axis=1)
        size += counts[draw].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(total / size, (tail, 1 - tail))
    return Interval(float(low), float(high))


def paired_difference(
    before: ArrayLike,
    after: ArrayLike,
    strata: Sequence[Hashable],
    tasks: Sequence[Hashable] | None = None,
    *,
    effect_that_matters: float = 0.2,
    samples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """What changed on the same entries: mean of `after` - `before` (N,), each in [0, 1], and a verdict.

    The interval is `stratified_bootstrap`'s (which explains `strata` and `tasks`). Where every task
    changed by the same amount d that interval has no width, though a task not seen may differ: with
    T tasks the share of such tasks is at most 1 - 0.025^(1/T) (Clopper-Pearson, none of T seen), each
    of which could have changed by as little as -1 or as much as +1, so the interval reaches that
    share of the way from d to -1 and to +1.

    IMPROVED, REGRESSED: the interval lies above, below 0. HELD: it holds 0 and is at most
    `effect_that_matters` wide, so neither a rise nor a fall of that size is possible. UNDERPOWERED:
    it holds 0 and is wider, or there are fewer than `FEWEST_TASKS` tasks, whatever the interval.
    Raises ValueError if the lengths differ, there is no pair, or a value is outside [0, 1].
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"before and after must have the same length, got {before.shape} and {after.shape}")
    for name, values in (("before", before), ("after", after)):
        if not np.all((values >= 0) & (values <= 1)):
            raise ValueError(f"{name} must lie in [0, 1]: successes or rates")
    change, strata, tasks = _checked(after - before, strata, tasks)
    sums, counts, _ = _by_task(change, strata, tasks)
    difference = float(change.mean())
    if np.allclose(sums / counts, difference, rtol=0, atol=1e-12):
        interval = _interval_of_unanimous_tasks(difference, len(counts))
    else:
        interval = stratified_bootstrap(change, strata, tasks, samples=samples, seed=seed)
    n, tasks_seen = len(change), len(counts)
    verdict = _verdict(interval, tasks_seen, effect_that_matters)
    needed = _tasks_needed(interval, tasks_seen, effect_that_matters) if verdict == "UNDERPOWERED" else None
    return PairedDifference(difference, interval.low, interval.high, n, tasks_seen, verdict, needed)


def permutation_test(
    before: ArrayLike,
    after: ArrayLike,
    *,
    alternative: Literal["two-sided", "greater"] = "two-sided",
    samples: int = 10_000,
    seed: int = 0,
) -> float:
    """The p-value of "before and after are exchangeable within each pair", by flipping signs.

    `before`, `after` (N,); the statistic is the mean of after - before, and "greater" asks whether
    after is larger. Exact where there are at most `samples` ways to flip the pairs that differ, else
    by Monte Carlo with the observed one counted in, so never 0. Raises ValueError if the lengths
    differ or there is no pair. Source: Good, Permutation, Parametric and Bootstrap Tests.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1 or len(before) == 0:
        raise ValueError(f"expected two arrays of one length >= 1, got {before.shape} and {after.shape}")
    change = after - before
    change = change[change != 0]  # flipping the sign of 0 changes nothing
    exact = 2.0 ** len(change) <= samples
    if exact:
        flips = (np.arange(2 ** len(change))[:, None] >> np.arange(len(change))) & 1
    else:
        flips = np.random.default_rng(seed).integers(2, size=(samples, len(change)))
    means, observed = (1 - 2 * flips) @ change, float(change.sum())
    tie = 1e-9 * max(1.0, float(np.abs(change).sum()))  # sums in another order differ in the last digits
    extreme = means >= observed - tie if alternative == "greater" else np.abs(means) >= abs(observed) - tie
    return float(extreme.mean()) if exact else float((extreme.sum() + 1) / (samples + 1))


def _checked(
    values: ArrayLike, strata: Sequence[Hashable], tasks: Sequence[Hashable] | None
) -> tuple[np.ndarray, Sequence[Hashable], Sequence[Hashable]]:
    array = np.asarray(values, dtype=np.float64)
    tasks = range(len(strata)) if tasks is None else tasks
    if array.ndim != 1 or not (len(array) == len(strata) == len(tasks)):
        raise ValueError(
            f"values, strata and tasks must have one length, got {array.shape}, {len(strata)} and {len(tasks)}"
        )
    if len(array) == 0:
        raise ValueError("there is nothing to average: no values")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite")
    return array, strata, tasks


def _by_task(
    values: np.ndarray, strata: Sequence[Hashable], tasks: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray, list[Hashable]]:
    """Sum (C,), count (C,) and stratum of the values of each task; tasks in order of appearance."""
    place: dict[tuple[Hashable, Hashable], int] = {}
    index = [place.setdefault(key, len(place)) for key in zip(strata, tasks, strict=True)]
    return np.bincount(index, values), np.bincount(index), [stratum for stratum, _ in place]


def _strata_of_tasks(families: Sequence[Hashable]) -> list[np.ndarray]:
    """Indices of the tasks of each stratum; families with one task share a stratum."""
    members: dict[Hashable, list[int]] = {}
    for index, family in enumerate(families):
        members.setdefault(family, []).append(index)
    alone = [index for indices in members.values() if len(indices) == 1 for index in indices]
    strata = [np.array(indices) for indices in members.values() if len(indices) > 1]
    return [*strata, np.array(alone)] if alone else strata


def _share_unseen(tasks: int) -> float:
    tail = (1 - CONFIDENCE) / 2
    return 1.0 - math.pow(tail, 1 / tasks)


def _interval_of_unanimous_tasks(difference: float, tasks: int) -> Interval:
    share = _share_unseen(tasks)
    return Interval(difference - share * (difference + 1), difference + share * (1 - difference))


def _verdict(interval: Interval, tasks: int, effect_that_matters: float) -> Verdict:
    if tasks < FEWEST_TASKS:
        return "UNDERPOWERED"
    if interval.low > 0:
        return "IMPROVED"
    if interval.high < 0:
        return "REGRESSED"
    return "HELD" if interval.width <= effect_that_matters else "UNDERPOWERED"


def _tasks_needed(interval: Interval, tasks: int, effect_that_matters: float) -> int:
    """The width of an interval falls with the square root of the number of tasks."""
    if interval.low > 0 or interval.high < 0:
        return FEWEST_TASKS
    return max(FEWEST_TASKS, math.ceil(tasks * (interval.width / effect_that_matters) ** 2))
