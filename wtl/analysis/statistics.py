"""How sure a number is: intervals, paired differences with a verdict, a permutation test.

Everything here is a pure function on numpy arrays and knows no files. The unit of resampling is the
task, because entries of one task are not independent of one another. Trap: a percentile bootstrap
sees only the tasks it was given, so a family whose tasks all agree adds no width, and where each
family is unanimous the interval has none; `paired_difference` says what it does instead.
Sources: Wilson 1927 (doi 10.1080/01621459.1927.10502953); Efron and Tibshirani, An Introduction to
the Bootstrap, chapters 13 and 15; Clopper and Pearson 1934 (doi 10.1093/biomet/26.4.404); Zou and
Donner 2008 (doi 10.1002/sim.3095).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

Verdict = Literal["IMPROVED", "lower", "no difference", "undecided"]

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
    """About how many tasks would give a verdict; None unless the verdict is `undecided`."""
    p_value: float
    """Two-sided `permutation_test` of the tasks, before against after."""

    @property
    def words(self) -> str:
        """The verdict as tables print it, for instance `undecided (needs about 63 tasks)`."""
        return self.verdict + (f" (needs about {self.tasks_needed} tasks)" if self.tasks_needed else "")


def wilson_interval(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the Wilson score interval of a success rate, within [0, 1]; it always has a width.

    Neither number need be whole: the rate of several training seeds on the same n entries is no surer than one of n.
    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"a success rate needs n >= 1 and 0 <= successes <= n, got {successes} of {n}")
    z, rate = float(stats.norm.ppf((1 + confidence) / 2)), successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == n else high)


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
    return _resampled(sums, counts, _strata_of_tasks(families), samples, confidence, seed)


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

    The interval is `stratified_bootstrap`'s (which explains `strata` and `tasks`) for the families whose tasks differ
    from one another. In the others a bootstrap sees no spread, though a task not seen may differ: with T tasks the
    share of such tasks is at most 1 - 0.025^(1/T) (Clopper-Pearson, none of T seen), and each of them could have
    changed by as little as -1 or as much as +1 (`_unseen` spreads that over several families). The two parts are
    independent, so their distances to the limits are added in squares (MOVER, Zou and Donner 2008). The interval
    is never without width.

    IMPROVED, lower: the interval lies above, below 0, and the permutation test over tasks says so too (p <= 5 %),
    because a bootstrap of the few tasks that changed is narrower than they warrant. no difference: it holds 0 and is
    at most `effect_that_matters` wide, so neither a rise nor a fall of that size is possible. undecided: all else, and
    whatever rests on fewer than `FEWEST_TASKS` tasks.
    Raises ValueError if the lengths differ, there is no pair, or a value is outside [0, 1].
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"before and after must have the same length, got {before.shape} and {after.shape}")
    for name, values in (("before", before), ("after", after)):
        if not np.all((values >= 0) & (values <= 1)):
            raise ValueError(f"{name} must lie in [0, 1]: successes or rates")
    change, strata, tasks = _checked(after - before, strata, tasks)
    sums, counts, families = _by_task(change, strata, tasks)
    interval = _interval_of_change(sums, counts, families, samples, seed)
    n, seen = len(change), len(counts)
    p_value = _p_value(sums, samples, seed)
    verdict = _verdict(interval, p_value, seen, effect_that_matters)
    needed = _tasks_needed(interval, p_value, seen, effect_that_matters) if verdict == "undecided" else None
    return PairedDifference(float(change.mean()), interval.low, interval.high, n, seen, verdict, needed, p_value)


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


def _p_value(changes: np.ndarray, samples: int, seed: int) -> float:
    """Return `permutation_test` of the changes (T,) of tasks; where all are of one size it is the exact sign test."""
    changed = changes[np.abs(changes) > 1e-12]
    if len(changed) and np.ptp(np.abs(changed)) < 1e-12:
        return float(stats.binomtest(int((changed > 0).sum()), len(changed)).pvalue)
    return permutation_test(np.zeros(len(changes)), changes, samples=samples, seed=seed)


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


def _resampled(
    sums: np.ndarray, counts: np.ndarray, strata: Sequence[np.ndarray], samples: int, confidence: float, seed: int
) -> Interval:
    """Return the percentile interval of the mean over the tasks (T,) of these strata, which hold their indices."""
    random = np.random.default_rng(seed)
    total, size = np.zeros(samples), np.zeros(samples)
    for members in strata:
        draw = members[random.integers(len(members), size=(samples, len(members)))]
        total += sums[draw].sum(axis=1)
        size += counts[draw].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(total / size, (tail, 1 - tail))
    return Interval(float(low), float(high))


def _interval_of_change(
    sums: np.ndarray, counts: np.ndarray, families: Sequence[Hashable], samples: int, seed: int
) -> Interval:
    """Return the interval of the mean change: bootstrap where tasks differ, Clopper-Pearson where they all agree."""
    rates, strata = sums / counts, _strata_of_tasks(families)
    agree = [bool(np.ptp(rates[members]) < 1e-12) for members in strata]
    unanimous = [members for members, same in zip(strata, agree, strict=True) if same]
    others = [members for members, same in zip(strata, agree, strict=True) if not same]
    difference, below, above = sums.sum() / counts.sum(), 0.0, 0.0
    if others:
        own = np.concatenate(others)
        share, middle = counts[own].sum() / counts.sum(), sums[own].sum() / counts[own].sum()
        spread = _resampled(sums, counts, others, samples, CONFIDENCE, seed)
        below, above = share * (middle - spread.low), share * (spread.high - middle)
    if unanimous:
        sizes = np.array([len(members) for members in unanimous])
        shares = np.array([counts[members].sum() for members in unanimous]) / counts.sum()
        changes = np.array([rates[members[0]] for members in unanimous])
        below = math.hypot(below, _unseen(sizes, shares * (1 + changes)))
        above = math.hypot(above, _unseen(sizes, shares * (1 - changes)))
    return Interval(max(-1.0, float(difference - below)), min(1.0, float(difference + above)))


def _unseen(sizes: np.ndarray, reaches: np.ndarray) -> float:
    """Return how far tasks that nobody saw can move a mean, with 97.5 % confidence.

    In each of F families all of `sizes` (F,) tasks agree. If a share s of a family's tasks differs, the mean moves by
    s times its `reaches` (F,), and none of them is seen with probability (1 - s)^size. This is the largest move among
    the shares for which the product of these probabilities is at least 2.5 %. In one family, and in several of one
    reach a task, s is Clopper-Pearson's 1 - 0.025^(1/T) for all T tasks.
    """
    # Lagrange: 1 - s is proportional to size / reach, in the families where that is below 1; the worst ones first.
    worst = np.argsort(-reaches / sizes, kind="stable")
    worst = worst[reaches[worst] > 0]
    move = 0.0
    for count in range(1, len(worst) + 1):
        size, reach = sizes[worst[:count]], reaches[worst[:count]]
        level = math.exp((math.log((1 - CONFIDENCE) / 2) + (size * np.log(reach / size)).sum()) / size.sum())
        left = level * size / reach
        if left.max() < 1 + 1e-12:
            move = float((reach * (1 - left)).sum())
    return move


def _verdict(interval: Interval, p_value: float, tasks: int, effect_that_matters: float) -> Verdict:
    if tasks < FEWEST_TASKS:
        return "undecided"
    if interval.low > 0 or interval.high < 0:
        if p_value > 1 - CONFIDENCE:
            return "undecided"
        return "IMPROVED" if interval.low > 0 else "lower"
    return "no difference" if interval.width <= effect_that_matters else "undecided"


def _tasks_needed(interval: Interval, p_value: float, tasks: int, effect_that_matters: float) -> int:
    """Return about how many tasks a verdict needs: widths and standard errors fall with the square root of them."""
    factor = interval.width / effect_that_matters
    if interval.low > 0 or interval.high < 0:
        factor = stats.norm.isf((1 - CONFIDENCE) / 2) / max(stats.norm.isf(p_value / 2), 0.1)
    return max(FEWEST_TASKS, math.ceil(tasks * factor**2))
