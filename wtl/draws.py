"""Random draws for a whole batch at once: which tasks, and which of their episodes.

learn2learn's task machinery draws the tasks: a way is a family and a shot is a task of it, so every family
has the same weight. Everything here gives the very numbers of the plain loop beside which the tests put it,
so that a training run repeats bit for bit. Trap: learn2learn draws from Python's global generator.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch


class Lists:
    """Lists of numbers in one flat array, so that a batch picks from many of them at once."""

    def __init__(self, lists: Sequence[Sequence[int] | np.ndarray]) -> None:
        self.counts = np.array([len(one) for one in lists])
        self._first = np.cumsum(self.counts) - self.counts
        self._flat = np.concatenate([np.asarray(one, dtype=int) for one in lists])

    def at(self, lists_B: np.ndarray, places_BN: np.ndarray) -> np.ndarray:
        """(B, N) what stands at these places of these lists."""
        return self._flat[self._first[lists_B][:, None] + places_BN]


def choose_places(generator: np.random.Generator, counts_B: np.ndarray, n: int) -> np.ndarray:
    """(B, n) places below each count: different ones, or with repetition where there are fewer than n.

    The very numbers that `generator.choice(count, n, replace=count < n)` draws row after row, in one call: Floyd's
    algorithm and a shuffle, as numpy has it for counts up to 10,000. A test compares the two.
    """
    enough = counts_B >= n
    floyd = counts_B[:, None] - n + np.arange(1, n + 1)
    bounds = np.where(enough[:, None], floyd, counts_B[:, None])
    shuffle = np.where(enough[:, None], np.arange(n, 1, -1), 0)
    bounds = np.concatenate([bounds, shuffle], axis=1)
    drawn = np.zeros_like(bounds)
    drawn[bounds > 0] = generator.integers(bounds[bounds > 0])
    places, swaps = drawn[:, :n], drawn[:, n:]
    for column in range(1, n):
        taken = enough & (places[:, :column] == places[:, column, None]).any(axis=1)
        places[taken, column] = floyd[taken, column] - 1
    rows = np.flatnonzero(enough)
    for column, swap in zip(range(n - 1, 0, -1), swaps[rows].T, strict=True):
        places[rows, column], places[rows, swap] = places[rows, swap], places[rows, column]
    return places


def make_taskset(
    tasks: Sequence[tuple[int, str]], contexts: int, weights: Mapping[str, int] = MappingProxyType({})
) -> Any:
    """A learn2learn Taskset whose `sample()` gives the numbers of about `contexts` tasks, as many of each family.

    With more families than contexts, each batch has a task each of other families. tasks: (number, name of its family)
    of each; weights: as how many families one counts, 1 if it is not named.
    """
    # Here and not above: acting needs batches too, and learn2learn takes seconds to import.
    from wtl.quiet import learn2learn

    copies = [(family, copy) for family in dict.fromkeys(f for _, f in tasks) for copy in range(weights.get(family, 1))]
    labels = {own: i for i, own in enumerate(copies)}
    pairs = [(number, labels[f, copy]) for number, f in tasks for copy in range(weights.get(f, 1))]
    dataset = learn2learn.data.MetaDataset(_NumberedTasks(pairs))
    ways = min(len(labels), contexts)
    transforms = [
        WaysAndShots(dataset, ways, max(1, contexts // ways), learn2learn.data.task_dataset.DataDescription),
        learn2learn.data.transforms.LoadData(dataset),
    ]
    return learn2learn.data.Taskset(dataset, transforms, num_tasks=-1, task_collate=_task_numbers)


class WaysAndShots:
    """A learn2learn transform that makes the draws of its NWays and KShots (with replacement) and no others.

    Those two build a description of every task of the store for each batch and deep-copy the drawn ones, which
    took more than half of a batch's time; the tasks that come out are the same, which a test holds.
    """

    def __init__(self, dataset: Any, ways: int, shots: int, describe: Callable[[int], Any]) -> None:
        self._dataset, self._ways, self._shots, self._describe = dataset, ways, shots, describe

    def __call__(self, _: object) -> list[Any]:
        families = random.sample(self._dataset.labels, k=self._ways)
        indices = self._dataset.labels_to_indices
        return [self._describe(i) for family in families for i in random.choices(indices[family], k=self._shots)]


class _NumberedTasks(torch.utils.data.Dataset):
    """(task number, family number) pairs, the form that learn2learn's transforms read."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self._pairs[index]


def _task_numbers(samples: Sequence[tuple[int, int]]) -> list[int]:
    return [number for number, _ in samples]
