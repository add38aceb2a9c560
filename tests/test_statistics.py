"""Intervals, verdicts and p-values against other tests of scipy and against numbers worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from wtl.analysis.statistics import _unseen, paired_difference, permutation_test, stratified_bootstrap, wilson_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 20), (1, 20), (13, 20), (20, 20), (999, 1000)])
def test_wilson_solves_the_score_equation(successes: int, n: int) -> None:
    # Both ends are the rates p from which the observed rate is z standard errors sqrt(p (1 - p) / n) away.
    z, rate = scipy.stats.norm.ppf(0.975), successes / n
    interval = wilson_interval(successes, n)
    for end in (interval.low, interval.high):
        assert (rate - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-12)
    assert 0 <= interval.low <= rate <= interval.high <= 1


def test_wilson_by_hand() -> None:
    z = 1.959963984540054
    assert wilson_interval(0, 10).low == 0
    assert wilson_interval(0, 10).high == pytest.approx(z**2 / (10 + z**2))  # the score equation at rate 0
    assert wilson_interval(10, 10).high == 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        wilson_interval(successes, n)


def test_the_bootstrap_of_two_values_by_hand() -> None:
    # Two draws from 0 and 1 have the mean 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    interval = stratified_bootstrap([0.0, 1.0], ["a", "a"])
    assert (interval.low, interval.high) == (0, 1)
    narrow = stratified_bootstrap([0.0, 1.0], ["a", "a"], confidence=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_the_bootstrap_agrees_with_scipy_in_one_stratum() -> None:
    values = np.random.default_rng(0).normal(size=60)
    ours = stratified_bootstrap(values, ["a"] * 60, samples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_strata_take_the_difference_between_families_out_of_the_interval() -> None:
    values = np.repeat([0.0, 1.0], 20)  # one family always fails, the other always succeeds
    families = ["a"] * 20 + ["b"] * 20
    assert stratified_bootstrap(values, families).width == 0
    assert stratified_bootstrap(values, ["a"] * 40).width > 0.2


def test_entries_of_one_task_are_not_independent() -> None:
    task_values = np.random.default_rng(0).integers(2, size=40).astype(float)
    values, tasks = np.repeat(task_values, 10), [str(i) for i in np.repeat(np.arange(40), 10)]
    by_task = stratified_bootstrap(values, ["a"] * 400, tasks)
    once_per_task = stratified_bootstrap(task_values, ["a"] * 40)
    assert (by_task.low, by_task.high) == pytest.approx((once_per_task.low, once_per_task.high))
    assert stratified_bootstrap(values, ["a"] * 400).width < by_task.width / 2.5


def test_tasks_of_one_name_in_two_families_are_two_tasks_and_lone_tasks_share_a_stratum() -> None:
    assert stratified_bootstrap([0.0, 1.0] * 10, [str(i) for i in range(20)]).width > 0.3
    assert paired_difference([0, 0], [1, 0], ["a", "b"], ["1", "1"]).tasks == 2


def test_the_bootstrap_is_the_same_for_the_same_seed_only() -> None:
    values = np.random.default_rng(0).normal(size=30)
    first, again, other = (stratified_bootstrap(values, ["a"] * 30, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_the_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    samples = (random.normal(size=50) for _ in range(300))
    intervals = [stratified_bootstrap(values, ["a"] * 50, samples=500) for values in samples]
    covered = sum(i.low <= 0 <= i.high for i in intervals)
    assert 0.90 <= covered / 300 <= 0.98


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="one length"):
        stratified_bootstrap([0.0, 1.0], ["a"])
    with pytest.raises(ValueError, match="no values"):
        stratified_bootstrap([], [])
    with pytest.raises(ValueError, match="finite"):
        stratified_bootstrap([np.nan], ["a"])
    with pytest.raises(ValueError, match="same length"):
        paired_difference([0, 1], [1], ["a", "a"])
    with pytest.raises(ValueError, match=r"after must lie in \[0, 1\]"):
        paired_difference([0.0], [3.0], ["a"])


def changes(up: int, down: int, same: int) -> tuple[list[bool], list[bool], list[str]]:
    before = [False] * up + [True] * down + [False] * same
    after = [True] * up + [False] * down + [False] * same
    return before, after, ["a"] * len(before)


def test_a_rise_and_a_fall() -> None:
    rise = paired_difference(*changes(up=60, down=5, same=35))
    assert (rise.verdict, rise.n, rise.tasks, rise.tasks_needed) == ("IMPROVED", 100, 100, None)
    assert rise.difference == pytest.approx(0.55)
    spread = 1.96 * np.sqrt((0.65 - 0.55**2) / 100)  # the normal interval of the same mean
    assert (rise.low, rise.high) == pytest.approx((0.55 - spread, 0.55 + spread), abs=0.02)
    fall = paired_difference(*changes(up=5, down=60, same=35))
    assert fall.verdict == "lower"
    assert fall.difference == pytest.approx(-0.55)


def test_no_change_is_held_only_where_the_interval_is_narrow() -> None:
    assert paired_difference(*changes(up=4, down=4, same=192)).verdict == "no difference"
    open_question = paired_difference(*changes(up=10, down=8, same=22))
    assert open_question.verdict == "undecided"
    # About 40 tasks gave a width of .42, and a width falls with the square root: (.42 / .2)^2 * 40 tasks.
    width = open_question.high - open_question.low
    assert open_question.tasks_needed == pytest.approx(40 * (width / 0.2) ** 2, abs=1)
    assert paired_difference(*changes(10, 8, 22), effect_that_matters=0.5).verdict == "no difference"


def test_tasks_that_all_agree_are_not_certain() -> None:
    # None of T seen: at most 1 - .025^(1/T) of the tasks differ (Clopper-Pearson).
    all_better = paired_difference(*changes(up=50, down=0, same=0))
    limit = scipy.stats.binomtest(0, 50).proportion_ci(method="exact").high
    assert (all_better.low, all_better.high) == pytest.approx((1 - 2 * limit, 1))
    none_changed = paired_difference(*changes(up=0, down=0, same=50))
    assert (none_changed.low, none_changed.high) == pytest.approx((-limit, limit))
    assert none_changed.verdict == "no difference"
    assert paired_difference(*changes(up=0, down=0, same=8)).verdict == "undecided"


def test_families_that_are_each_unanimous_have_an_interval_with_a_width() -> None:
    """One family rises in every task, four in none: a bootstrap within families sees no spread at all."""
    families = [name for name in "abcde" for _ in range(20)]
    after = [name == "a" for name in families]
    found = paired_difference([False] * 100, after, families)
    assert found.difference == pytest.approx(0.2) and found.verdict == "IMPROVED"
    # Not one of 20 tasks of `a` that may fall from +1 to -1: that costs most for what it hides.
    assert found.low == pytest.approx(0.2 - 0.4 * (1 - 0.025 ** (1 / 20)))
    assert found.high > 0.22
    alike = paired_difference([False] * 100, [True] * 100, families)
    assert alike.low == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 100)))  # as if they were one family
    # One family that is not unanimous: its spread and the others' doubt are added in squares.
    after[0] = False
    mixed = paired_difference([False] * 100, after, families)
    assert mixed.difference - mixed.low > 0.2 * 0.05 and mixed.high - mixed.difference > 0.03


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans(), st.booleans()), min_size=1))
def test_no_interval_is_without_width(rows: list[tuple[str, int, bool, bool]]) -> None:
    families, tasks, before, after = zip(*rows, strict=True)
    found = paired_difference(before, after, families, tasks, samples=200)
    assert found.low < found.high
    assert -1 <= found.low <= found.difference + 1e-9 and found.difference - 1e-9 <= found.high <= 1


def test_the_worst_that_nobody_saw_is_the_largest_move_that_hides() -> None:
    sizes, reaches = np.array([20, 10, 20, 5, 20]), np.array([0.4, 0.1, 0.2, 0.05, 0.0])
    limit = scipy.optimize.minimize(
        lambda s: -(reaches * s).sum(), np.full(5, 0.01), bounds=[(0, 0.99)] * 5, method="SLSQP",
        constraints={"type": "ineq", "fun": lambda s: (sizes * np.log1p(-s)).sum() - np.log(0.025)},
    )  # fmt: skip
    assert _unseen(sizes, reaches) == pytest.approx(-limit.fun, abs=1e-6)


def test_a_rise_in_a_few_tasks_is_no_rise_yet() -> None:
    """Four of forty tasks rose and none fell: the bootstrap's interval lies above 0, the sign test says 12 %."""
    found = paired_difference(*changes(up=4, down=0, same=36))
    assert found.low > 0 and found.p_value == pytest.approx(2 / 16)
    assert found.words == f"undecided (needs about {found.tasks_needed} tasks)"
    assert found.tasks_needed == pytest.approx(40 * (1.96 / 1.534) ** 2, abs=1)


def test_a_handful_of_tasks_wins_nothing() -> None:
    five = paired_difference(*changes(up=5, down=0, same=0))
    assert (five.low > 0, five.verdict) == (False, "undecided")
    assert paired_difference(*changes(up=6, down=0, same=0)).verdict == "IMPROVED"
    before, after, strata = changes(up=50, down=0, same=0)
    few = paired_difference(before, after, strata, tasks=[str(i % 5) for i in range(50)])
    assert (few.verdict, few.n, few.tasks) == ("undecided", 50, 5)


def test_the_permutation_test_by_hand() -> None:
    # Four pairs that all rose: one of sixteen sign patterns is as large, two are as far from 0.
    assert permutation_test([0] * 4, [1] * 4, alternative="greater") == 1 / 16
    assert permutation_test([0] * 4, [1] * 4) == 2 / 16
    assert permutation_test([1] * 4, [0] * 4, alternative="greater") == 1
    assert permutation_test([0], [1], alternative="greater") == 1 / 2
    assert permutation_test([0, 1], [0, 1]) == permutation_test([1], [1]) == 1  # nothing differs


def test_the_permutation_test_agrees_with_the_obvious_one() -> None:
    random = np.random.default_rng(0)
    before, after = random.normal(size=9), random.normal(0.4, size=9)
    means = [np.mean(np.array(signs) * (after - before)) for signs in product((1, -1), repeat=9)]
    observed = np.mean(after - before)
    assert permutation_test(before, after) == np.mean(np.abs(means) >= abs(observed) - 1e-12)
    assert permutation_test(before, after, alternative="greater") == np.mean(means >= observed - 1e-12)


def test_the_permutation_test_samples_where_it_cannot_count() -> None:
    # 40 pairs that differ, 30 rose: the sign test is the same test, and exact.
    before, after = [0] * 30 + [1] * 10, [1] * 30 + [0] * 10
    exact = scipy.stats.binomtest(30, 40, alternative="greater").pvalue
    assert permutation_test(before, after, alternative="greater") == pytest.approx(exact, abs=0.001)
    assert permutation_test([0] * 60, [1] * 60) == 2 / 10_001  # twice the smaller tail, as scipy counts
    assert permutation_test(before, after, seed=3) == permutation_test(before, after, seed=3)
    with pytest.raises(ValueError, match="one length"):
        permutation_test([0], [1, 1])
