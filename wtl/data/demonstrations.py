"""Which demonstration may be shown for which task: one rule, for training and evaluation alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from wtl.core.episode import Context, Episode
from wtl.core.rng import stream
from wtl.core.task import Regime, Task
from wtl.data.store import EpisodeStore

ContextSource = Callable[[Task, Context], Context]
"""Adds to a context what else is known of a task (an instruction, a desired return); see `MethodSpec.sources`."""


class DemonstrationSampler:
    """Chooses among demonstrations of these tasks.

    A demonstration may be shown for a task of the same split and family, in regime `goal` of the same hidden goal,
    and never for the identical task: Meta-World resets deterministically, so replaying it would solve the task and
    measure nothing. A task is its parameters, or its name where a demonstration's parameters are not known.
    """

    def __init__(self, tasks: Sequence[Task], regime: Regime) -> None:
        """Take the task of each demonstration, in the demonstrations' order."""
        self._tasks, self.regime = tasks, regime
        self._by_key: dict[tuple[str, str, str], list[int]] = {}
        for i, task in enumerate(tasks):
            self._by_key.setdefault(self._key(task), []).append(i)

    def _key(self, task: Task) -> tuple[str, str, str]:
        return (task.split, task.family, task.goal_name if self.regime == "goal" else "")

    def candidates(self, task: Task) -> np.ndarray:
        """Return the numbers (N,) of the demonstrations that may be shown for a task; none in regime `none`.

        Raises:
            ValueError: there is none, in another regime.
        """
        if self.regime == "none":
            return np.zeros(0, dtype=int)
        found = [i for i in self._by_key.get(self._key(task), []) if not _same(self._tasks[i], task)]
        if not found:
            raise ValueError(f"no demonstration of another task for {task.name} in regime `{self.regime}`")
        return np.array(found)

    def choose(self, task: Task, count: int, seed: int) -> list[int]:
        """Return the numbers of `count` different demonstrations for a task, or as many as there are."""
        candidates = self.candidates(task)
        order = stream(seed, "demonstration for", task.name).permutation(len(candidates))
        return [int(candidates[i]) for i in order[:count]]


def _same(shown: Task, task: Task) -> bool:
    return shown.parameters == task.parameters if shown.parameters else shown.name == task.name


class DemonstrationStore:
    """A store of demonstrations with the rule of what may be shown, and what else is known of a task."""

    def __init__(self, directory: Path, regime: Regime, sources: Sequence[ContextSource] = ()) -> None:
        """Open the store. Raises StoreError if it cannot be read."""
        self.episodes = EpisodeStore(directory)
        self._sources = tuple(sources)
        self.sampler = DemonstrationSampler([record.task for record in self.episodes.records], regime)

    def choose(self, task: Task, count: int, seed: int) -> tuple[Episode, ...]:
        """Return `count` different demonstrations that may be shown for a task, or as many as there are.

        Raises:
            ValueError: there is none, in a regime that shows some.
        """
        return tuple(self.episodes.episode(i) for i in self.sampler.choose(task, count, seed))

    def first_context(self, task: Task, demonstrations: Sequence[Episode]) -> Context:
        """Return what is known of a task before anything was tried."""
        return with_sources(task, first_context(demonstrations), self._sources)


def first_context(demonstrations: Sequence[Episode]) -> Context:
    """Return what these demonstrations show, and nothing else."""
    return Context(tuple(episode.trajectory for episode in demonstrations))


def with_sources(task: Task, context: Context, sources: Sequence[ContextSource]) -> Context:
    """Return the context with what the sources add to it, one after the other."""
    for source in sources:
        context = source(task, context)
    return context
