"""Draws for a whole batch, each beside the plain loop whose very numbers it must give."""

from __future__ import annotations

import random
import warnings

import gym_notices.notices
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wtl.data.sampling import RaggedArray, TaskSampler, choose_indices

gym_notices.notices.notices.clear()  # learn2learn brings gym, which has much to say
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import learn2learn

COUNTS = st.lists(st.integers(1, 12) | st.integers(1, 10_000), min_size=1, max_size=20)


@given(COUNTS, st.integers(1, 5), st.integers(0, 2**32))
def test_indices_are_those_of_generator_choice_row_after_row(counts: list[int], n: int, seed: int) -> None:
    slow, fast = np.random.default_rng(seed), np.random.default_rng(seed)
    for _ in range(2):  # the second time starts in the middle of a 64-bit draw
        expected = [slow.choice(count, n, replace=count < n) for count in counts]
        np.testing.assert_array_equal(choose_indices(fast, np.array(counts), n), expected)
        assert slow.bit_generator.state == fast.bit_generator.state


@given(COUNTS, st.integers(0, 2**32))
def test_integers_below_many_bounds_are_those_of_one_bound_after_the_other(counts: list[int], seed: int) -> None:
    """What the queries of a batch are drawn with."""
    slow, fast = np.random.default_rng(seed), np.random.default_rng(seed)
    assert fast.integers(np.array(counts)).tolist() == [int(slow.integers(count)) for count in counts]
    assert slow.bit_generator.state == fast.bit_generator.state


class Pairs(torch.utils.data.Dataset):
    """(number, family) of every task."""

    def __init__(self, pairs: list[tuple[int, int]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.pairs[index]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 12), st.integers(0, 2**32))
def test_tasks_are_those_of_learn2learns_own_transforms(sizes: list[int], contexts: int, seed: int) -> None:
    tasks = [(10 * family + i, family) for family, size in enumerate(sizes) for i in range(size)]
    dataset, own = learn2learn.data.MetaDataset(Pairs(tasks)), learn2learn.data.transforms
    ways = min(contexts, len(sizes))
    shots = max(1, contexts // ways)
    transforms = [
        own.NWays(dataset, ways),
        own.KShots(dataset, shots, replacement=True),
        own.LoadData(dataset),
    ]
    slow = learn2learn.data.Taskset(dataset, transforms, num_tasks=-1, task_collate=lambda s: [n for n, _ in s])
    fast = TaskSampler([(number, f"family {family}") for number, family in tasks], contexts)
    random.seed(seed)
    assert slow.sample() == fast.sample(seed).tolist()


def test_a_family_of_weight_three_counts_as_three() -> None:
    tasks = [(number, f"family {number}") for number in range(10)]
    sampler = TaskSampler(tasks, 6, {"family 0": 3})
    drawn = [number for seed in range(400) for number in sampler.sample(seed)]
    assert len(drawn) == 400 * 6  # more families than contexts: other ones each time
    shares = np.bincount(drawn, minlength=10) / len(drawn)
    np.testing.assert_allclose(shares, [3 / 12] + [1 / 12] * 9, atol=0.02)


def test_a_ragged_array_gives_what_stands_in_them() -> None:
    lists = RaggedArray([[3, 4], [], [5, 6, 7]])
    assert lists.counts.tolist() == [2, 0, 3]
    assert lists.at(np.array([2, 0]), np.array([[0, 2], [1, 1]])).tolist() == [[5, 7], [4, 4]]
