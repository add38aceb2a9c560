"""Demonstrations of one's own: everything that can be wrong with them is said before anything is written.

A demonstration's task is that of the run with the same name, or with the same parameters; where it is neither, its
parameters must be ones that the family can be reset to. What it did is never played again. Free of torch at import.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from wtl.core.episode import Episode
from wtl.core.task import Regime, Split, Task, TaskDistribution
from wtl.data.demonstrations import DemonstrationSampler
from wtl.data.formats.spec import check_numbers
from wtl.data.store import EpisodeStore, write_store


@dataclass(frozen=True)
class Adopted:
    """Checked demonstrations, as a run uses them."""

    episodes: tuple[Episode, ...]
    failed: int
    """Episodes that never succeeded, and were left out."""

    def write(self, directory: Path) -> None:
        """Write them as the run's own store."""
        write_store(directory, self.episodes)


def adopt_demonstrations(
    distribution: TaskDistribution, source: Path, regime: Regime, splits: Sequence[Split]
) -> Adopted:
    """Return the demonstrations of a store, fit for these tasks.

    Raises:
        ValueError: no finished store; an episode that is no demonstration, of an unknown family, another size or a
            task that its family does not have; a number that is not finite, an action out of range; no success; or no
            demonstration that may be shown for a task of these splits.
    """
    adopter = _Adopter(distribution, source)
    episodes = [adopter.adopted(number, episode) for number, episode in enumerate(EpisodeStore(source))]
    solved = tuple(episode for episode in episodes if episode.trajectory.success)
    for family in dict.fromkeys(episode.task.family for episode in episodes):
        if not any(episode.task.family == family for episode in solved):
            count = sum(episode.task.family == family for episode in episodes)
            raise ValueError(f"none of the {count} demonstrations of {family} in {source} succeeds; nothing to show")
    _check_coverage(solved, distribution, source, regime, splits)
    return Adopted(solved, len(episodes) - len(solved))


class _Adopter:
    """Checks one episode after the other and says which task of the run it is of."""

    def __init__(self, distribution: TaskDistribution, source: Path) -> None:
        self._distribution, self._source = distribution, source
        every = (*distribution.train, *distribution.validation, *distribution.test)
        self._by_name = {(task.family, task.name): task for task in every}
        self._by_parameters = {(task.family, task.parameters): task for task in every}
        self._by_rounded = _grouped(every)
        self._counts = {task.family: len(task.parameters) for task in every}

    def adopted(self, number: int, episode: Episode) -> Episode:
        """Return episode `number` of the store with its task, its goal and its labels as this run has them."""
        where = f"episode {number} of {self._source} (task {episode.task.name})"
        family = self._distribution.families.get(episode.task.family)
        if family is None or episode.role != "demonstration":
            raise ValueError(
                f"episode {number} of {self._source} is a {episode.role} of {episode.task.family}; not usable here, "
                f"where demonstrations of {_listed(self._distribution.families)} are expected"
            )
        spec = family.spec
        seen, done = episode.trajectory.observations.shape[1], episode.trajectory.actions.shape[1]
        if (seen, done) != (spec.layout.size, spec.action_size):
            raise ValueError(
                f"episode {number} of {self._source} has {seen} observation and {done} action numbers, "
                f"expected {spec.layout.size} and {spec.action_size}"
            )
        check_numbers(episode.trajectory, where)
        task = self._task(episode.task, where)
        goal = self._goal(episode, task, where)
        return replace(episode, task=task, goal=goal)

    def _task(self, task: Task, where: str) -> Task:
        known = self._by_name.get((task.family, task.name))
        if not task.parameters:
            return known or task
        expected = self._counts.get(task.family)
        if expected is not None and len(task.parameters) != expected:
            raise ValueError(
                f"{where} has {len(task.parameters)} parameters, and tasks of {task.family} have {expected}; leave "
                "them out if they are not known"
            )
        if (task.family, task.parameters) in self._by_parameters:
            return task
        # Somebody may have kept them as float32: the very task must be known again, or it would be shown for itself.
        near = self._by_rounded.get((task.family, _rounded(task)), []) if _is_rounded(task) else []
        if known in near or len(near) == 1:
            exact = known if known is not None and known in near else near[0]
            return replace(task, parameters=exact.parameters)
        if near:
            raise ValueError(
                f"{where} has parameters that were rounded to single precision and fit {len(near)} tasks, such as "
                f"{near[0].name}; give them in double precision, or leave them out"
            )
        self._reset(task, where)
        return task

    def _goal(self, episode: Episode, task: Task, where: str) -> np.ndarray:
        size = self._distribution.families[task.family].spec.goal_size
        if len(episode.goal) == size and (not size or np.isfinite(episode.goal).any()):
            return episode.goal
        if len(episode.goal) not in (0, size):
            raise ValueError(f"{where} has a goal of {len(episode.goal)} numbers, expected {size}")
        if not task.parameters:
            return np.full(size, np.nan)
        return np.array(self._distribution.families[task.family].goal(self._reset(task, where)))

    def _reset(self, task: Task, where: str) -> gymnasium.Env[Any, Any]:
        environment = self._environment(task.family)
        try:
            environment.reset(seed=0, options={"task": task})
        except (ValueError, IndexError, TypeError) as error:
            raise ValueError(f"{where} is of no task that its family has: {error}") from error
        return environment

    @functools.cache  # noqa: B019 - as many as there are families, for as long as the demonstrations are checked
    def _environment(self, family: str) -> gymnasium.Env[Any, Any]:
        return self._distribution.families[family].make_environment()


def _grouped(tasks: Iterable[Task]) -> dict[tuple[str, bytes], list[Task]]:
    found: dict[tuple[str, bytes], list[Task]] = {}
    for task in tasks:
        found.setdefault((task.family, _rounded(task)), []).append(task)
    return found


def _rounded(task: Task) -> bytes:
    return (np.array(task.parameters, np.float32) + np.float32(0.0)).tobytes()  # no negative zeros


def _is_rounded(task: Task) -> bool:
    return np.array_equal(np.array(task.parameters, np.float32).astype(np.float64), task.parameters)


def _check_coverage(
    episodes: Sequence[Episode], distribution: TaskDistribution, source: Path, regime: Regime, splits: Sequence[Split]
) -> None:
    sampler = DemonstrationSampler([episode.task for episode in episodes], regime)
    wanted = [task for split in splits for task in distribution.split(split)]
    bare = [task for task in wanted if not _has_something_to_show(sampler, task)]
    if bare:
        groups = dict.fromkeys(f"{task.family} ({task.split})" for task in bare)
        raise ValueError(
            f"{source} shows nothing for {len(bare)} of {len(wanted)} tasks, the first {bare[0].name}: in regime "
            f"`{regime}` each needs a demonstration of another task of its family and split, and missing are "
            f"{_listed(groups)}; bring some, or narrow demonstrations.splits={list(splits)}"
        )


def _has_something_to_show(sampler: DemonstrationSampler, task: Task) -> bool:
    if sampler.regime == "none":
        return True
    try:
        return len(sampler.candidates(task)) > 0
    except ValueError:
        return False


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")
