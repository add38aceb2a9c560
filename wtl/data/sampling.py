"""Random draws for a whole batch at once: which tasks, and which of their episodes.

A meta-batch is drawn in two steps, as in learn2learn's `NWays` and `KShots`: families first, each with the same
weight, then tasks of each family. Everything here gives the very numbers of the plain loop that the tests put
beside it, so a training run repeats bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np

Queries = Literal["any", "better", "other"]
"""Whose states a meta-batch asks about: those of all episodes of the task; or those of one trial that the context does
not hold, which earned more than every trial of the context (better), or is any one (other). `better` and `other` draw
the very same trials and differ in nothing but which of them is asked about."""


class RaggedArray:
    """Lists of whole numbers of different lengths in one flat array, so that a batch picks from many at once."""

    def __init__(self, lists: Sequence[Sequence[int] | np.ndarray]) -> None:
        self.counts = np.array([len(one) for one in lists])
        self._first = np.cumsum(self.counts) - self.counts
        self._flat = np.concatenate([np.asarray(one, dtype=int) for one in lists])

    def at(self, lists_B: np.ndarray, indices_BN: np.ndarray) -> np.ndarray:
        """Return the (B, N) numbers that stand at these indices of these lists."""
        return self._flat[self._first[lists_B][:, None] + indices_BN]


def choose_indices(generator: np.random.Generator, counts_B: np.ndarray, n: int) -> np.ndarray:
    """Return (B, n) indices below each count: different ones, or with repetition where there are fewer than n.

    They are the very numbers that `generator.choice(count, n, replace=count < n)` draws row after row, in one call:
    Floyd's algorithm and a shuffle, as numpy has it for counts up to 10,000. A test compares the two.
    """
    enough = counts_B >= n
    floyd = counts_B[:, None] - n + np.arange(1, n + 1)
    bounds = np.where(enough[:, None], floyd, counts_B[:, None])
    shuffle = np.where(enough[:, None], np.arange(n, 1, -1), 0)
    bounds = np.concatenate([bounds, shuffle], axis=1)
    drawn = np.zeros_like(bounds)
    drawn[bounds > 0] = generator.integers(bounds[bounds > 0])
    indices, swaps = drawn[:, :n], drawn[:, n:]
    for column in range(1, n):
        taken = enough & (indices[:, :column] == indices[:, column, None]).any(axis=1)
        indices[taken, column] = floyd[taken, column] - 1
    rows = np.flatnonzero(enough)
    for column, swap in zip(range(n - 1, 0, -1), swaps[rows].T, strict=True):
        indices[rows, column], indices[rows, swap] = indices[rows, swap], indices[rows, column]
    return indices


def choose_asked(
    generator: np.random.Generator, counts_B: np.ndarray, k: int, queries: Queries
) -> tuple[np.ndarray, np.ndarray]:
    """Return (B, k) ranks of the trials of each context, and (B,) that of the trial that is asked about.

    Args:
        counts_B: the trials of each task, more than k; rank 0 earned least. Of trials that earned the same, the later
            one counts as better.
        queries: not `any`.
    """
    drawn = choose_indices(generator, counts_B, k + 1)
    if queries == "better":
        drawn = np.sort(drawn, axis=1)
    return drawn[:, :-1], drawn[:, -1]


class TaskSampler:
    """Draws the tasks of a meta-batch: about as many of each family.

    With more families than contexts, each batch has one task of each of some families, other ones each time.
    """

    def __init__(
        self, tasks: Sequence[tuple[int, str]], contexts: int, weights: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """Index the tasks by family.

        Args:
            tasks: the number of each task and the name of its family.
            contexts: about how many tasks a batch has.
            weights: how many families each counts as; 1 where a family is not named.
        """
        members: dict[str, list[int]] = {}
        for number, family in tasks:
            members.setdefault(family, []).append(number)
        self._families = [f for f in members for _ in range(weights.get(f, 1))]
        self._members = members
        self._ways = min(len(self._families), contexts)
        self._shots = max(1, contexts // self._ways)

    def sample(self, seed: int) -> np.ndarray:
        """Return the numbers of the tasks that belong to this seed."""
        generator = random.Random(seed)
        generator.randint(0, 0)  # learn2learn's Taskset makes this draw first, and runs made with it stay repeatable
        families = generator.sample(self._families, k=self._ways)
        return np.array([n for family in families for n in generator.choices(self._members[family], k=self._shots)])
