"""How sure a number is: intervals, paired differences with a verdict, a permutation test.

Everything here is a pure function on numpy arrays and knows no files. The unit of resampling is the
task, because entries of one task are not independent of one another. Trap: a percentile bootstrap
sees only the tasks it was given, so where they all agree its interval has no width;
`paired_difference` says what it does instead.
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
from scipy import stats

Verdict = Literal["IMPROVED", "HELD", "REGRESSED", "UNDERPOWERED"]

CONFIDENCE = 0.95
FEWEST_TASKS = 6
"""A two-sided sign test on fewer tasks cannot fall below 5 %, even where all change the same way."""


@dataclass(frozen=True)
class Interval:
    """The interval in which a number lies, with 95 % confidence unless said otherwise."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """The distance from the lower to the upper end."""
        return self.high - self.low


@dataclass(frozen=True)
class PairedDifference:
    """The change from before to after on the same entries, with a verdict."""

    difference: float
    """Mean of after - before, in [-1, 1]."""
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    """Upper end of the 95 % interval of the difference."""
    n: int
    """Number of pairs."""
    tasks: int
    """Number of different tasks among the pairs; tasks are what is resampled."""
    verdict: Verdict
    tasks_needed: int | None
    """About how many tasks would give a verdict; None unless the verdict is UNDERPOWERED."""


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the Wilson score interval of a success rate, within [0, 1].

    Raises ValueError unless 0 <= successes <= n and n >= 1. Source: `scipy.stats.binomtest`.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"a success rate needs n >= 1 and 0 <= successes <= n, got {successes} of {n}")
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def stratified_bootstrap(
    values: ArrayLike,
    strata: Sequence[Hashable],
    tasks: Sequence[Hashable] | None = None,
    *,
    samples: int = 10_000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of the mean of `values` (N,), with tasks resampled within strata.

    `strata` (N,) is the family of each value, `tasks` (N,) its task (by default each value has its
    own task). Each sample draws as many tasks of a family as it has, with replacement, and takes
    all values of a drawn task. Families with one task are drawn as one stratum: alone, they would
    add no width at all. Raises ValueError if the lengths differ, there is no value, or one is not
    finite. Source: Efron and Tibshirani, chapter 13.
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
    """Return the mean change from `before` (N,) to `after` (N,), both in [0, 1], and a verdict.

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
    """Return the p-value of "before and after are exchangeable within each pair".

    The statistic is the mean of `after` - `before` (N,) each; "greater" asks whether after is larger.
    The value is exact where the pairs that differ can be exchanged in at most `samples` ways, else it
    comes from Monte Carlo, which counts the observation in and so never returns 0. The two-sided value is
    twice the smaller tail. Raises ValueError if the lengths differ or there is no pair.
    Source: `scipy.stats.permutation_test`.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1 or len(before) == 0:
        raise ValueError(f"expected two arrays of one length >= 1, got {before.shape} and {after.shape}")
    change = (after - before)[after != before]  # exchanging equal values changes nothing, so fewer ways to count
    change = np.pad(change, (0, max(0, 2 - len(change))))  # scipy refuses samples of fewer than two values
    result = stats.permutation_test(
        (change,), np.mean, permutation_type="samples", vectorized=True, n_resamples=samples,
        alternative=alternative, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.pvalue)


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
    """Return sum (T,), count (T,) and stratum of the values of each task; tasks in order of appearance."""
    numbers: dict[tuple[Hashable, Hashable], int] = {}
    task_of_value = [numbers.setdefault(key, len(numbers)) for key in zip(strata, tasks, strict=True)]
    return np.bincount(task_of_value, values), np.bincount(task_of_value), [stratum for stratum, _ in numbers]


def _strata_of_tasks(families: Sequence[Hashable]) -> list[np.ndarray]:
    """Return the indices of the tasks of each stratum; families with one task share a stratum."""
    members: dict[Hashable, list[int]] = {}
    for index, family in enumerate(families):
        members.setdefault(family, []).append(index)
    alone = [index for indices in members.values() if len(indices) == 1 for index in indices]
    strata = [np.array(indices) for indices in members.values() if len(indices) > 1]
    return [*strata, np.array(alone)] if alone else strata


def _interval_of_unanimous_tasks(difference: float, tasks: int) -> Interval:
    unseen = float(stats.binomtest(0, tasks).proportion_ci(CONFIDENCE, method="exact").high)
    return Interval(difference - unseen * (difference + 1), difference + unseen * (1 - difference))


def _verdict(interval: Interval, tasks: int, effect_that_matters: float) -> Verdict:
    if tasks < FEWEST_TASKS:
        return "UNDERPOWERED"
    if interval.low > 0:
        return "IMPROVED"
    if interval.high < 0:
        return "REGRESSED"
    return "HELD" if interval.width <= effect_that_matters else "UNDERPOWERED"


def _tasks_needed(interval: Interval, tasks: int, effect_that_matters: float) -> int:
    """Return about how many tasks a verdict needs: the width falls with the square root of their number."""
    if interval.low > 0 or interval.high < 0:
        return FEWEST_TASKS
    return max(FEWEST_TASKS, math.ceil(tasks * (interval.width / effect_that_matters) ** 2))
