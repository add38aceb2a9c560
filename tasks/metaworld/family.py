"""This module makes each of Meta-World's 50 environments a task family with an expert.

It knows one family at a time; `benchmark.py` puts families together. Trap: the scripted experts read the goal, which
observations do not hold, so they are handed `_target_pos`, and their output is clipped. Source: metaworld 3.1.1,
https://meta-world.github.io.
"""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from wtl.core.episode import Episode
from wtl.core.relabelling import Outcomes
from wtl.core.rng import seed_for
from wtl.core.task import FamilySpec, ObservationLayout, Split, Task
from wtl.tasks.metaworld import splits
from wtl.tasks.metaworld.environment import VISIBLE, MetaWorldEnvironment
from wtl.tasks.metaworld.relabelling import FINGERS_BELOW_HAND, replayed_outcomes
from wtl.tasks.metaworld.sampling import RandVecSampler, official_rand_vecs

LAYOUT = ObservationLayout(
    size=VISIBLE, dimensions=3, points=(0, 4, 11), scalars=(3, 7, 8, 9, 10, 14, 15, 16, 17), hand_step=0.01
)
"""Hand, gripper opening, then position and quaternion of two objects; metres."""
GRIPPER_INDEX = 3
_HAND_GOES_TO_THE_GOAL = frozenset({"reach-v3", "reach-wall-v3"})
"""Elsewhere it is the first object, or a point that moves with it.

The experts of these families move the hand to the goal although the reward measures the fingers, 4.5 cm below:
they stop 5 mm inside the success radius of 5 cm, where no imitator succeeds. They are given the hand's own goal."""


@dataclass(frozen=True)
class MetaWorldFamily:
    """A family is one of Meta-World's 50 environments."""

    name: str
    """With its version, for instance `reach-v3`."""
    fast: bool = True
    """Accelerated stepping, bit-identical to stock."""
    reward_version: str = "v2"
    goals_per_start: int = 1
    """Tasks beyond the official ones that share one object start, so that the start does not give the goal away."""
    weight: int = 1
    """How many families it counts as in training."""

    def __post_init__(self) -> None:
        if self.name not in ALL_V3_ENVIRONMENTS:
            raise ValueError(
                f"unknown Meta-World family {self.name!r}; `wtl tasks` lists all {len(splits.ALL_FAMILIES)}"
            )

    @property
    def spec(self) -> FamilySpec:
        """The spec follows `TaskFamily.spec`; rewards of version 2 reach 10."""
        return FamilySpec(
            name=self.name,
            layout=LAYOUT,
            action_size=4,
            horizon_steps=500,
            goal_size=3,
            hidden_goal=self.name in splits.HIDDEN_GOAL,
            reward_scale=10.0,
            weight=self.weight,
            gripper_index=GRIPPER_INDEX,
        )

    def make_environment(self, render: bool = False) -> MetaWorldEnvironment:
        """Return a new environment; about 70 MB for the first of a process, 23 MB for each further one."""
        return MetaWorldEnvironment(self.name, self.reward_version, self.fast, render)

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """Return ML1's tasks: train with `seed`, test with `seed + 1`, the first 50 exactly Meta-World's.

        Any beyond 50, and all of the validation split, are drawn freshly from the family's own space.
        """
        official = official_rand_vecs([self.name], seed + (split == "test"))[self.name] if split != "validation" else []
        return self.tasks_from(official, count, seed, split)

    def tasks_from(self, official: Sequence[np.ndarray], count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """Return `count` tasks: first those of the official rand_vecs, then fresh ones."""
        vectors = [*official[:count]]
        if count > len(vectors):
            vectors += self._fresh(count - len(vectors), seed_for(seed, "fresh", self.name, split))
        names = [f"{self.name}/{split}/{i}" for i in range(count)]
        return tuple(
            Task(self.name, split, name, _numbers(vector), name) for name, vector in zip(names, vectors, strict=True)
        )

    def _fresh(self, count: int, seed: int) -> list[np.ndarray]:
        sampler = RandVecSampler(self.name)
        drawn = sampler.draw(seed)
        vectors: list[np.ndarray] = []
        while len(vectors) < count:
            vector = next(drawn)
            if self.name in splits.HIDDEN_GOAL and len(vectors) % self.goals_per_start:
                vector = np.concatenate([vectors[-1][:3], vector[3:]])
                if not sampler.accepts(vector):
                    continue
            vectors.append(vector)
        return vectors

    def with_other_start(self, task: Task, seed: int) -> Task:
        """See `TaskFamily.with_other_start`. Raises ValueError where the family has one start only."""
        sampler = _kept_sampler(self.name)
        low, high = sampler.space.low, sampler.space.high
        if (low[:3] == high[:3]).all():
            raise ValueError(f"{self.name} has a single start, so regime `goal` does not exist for it; use `family`")
        hidden = self.name in splits.HIDDEN_GOAL
        for vector in sampler.draw(seed):
            candidate = np.concatenate([vector[:3], np.array(task.parameters)[3:]]) if hidden else vector
            if not np.array_equal(candidate, task.parameters) and sampler.accepts(candidate):
                name = f"{task.name}/other-start"
                return Task(self.name, task.split, name, _numbers(candidate), task.goal_name)
        raise AssertionError("draws are endless")

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (3,), Meta-World's `_target_pos`, in metres."""
        assert isinstance(environment, MetaWorldEnvironment)
        return np.array(environment.sawyer._target_pos, dtype=np.float64)

    def reached(self, observations: np.ndarray) -> np.ndarray:
        """See `Relabels.reached`: (..., 3) m, where the fingers are (reach, reach-wall) or the first object is.

        Where the success of a family goes by another point of the object (a peg's head, a nut's ring), or where the
        goal is not a place for the object (door-lock), that is a goal nearby, and `outcomes` says whether it counts.
        """
        positions = LAYOUT.positions(np.asarray(observations))
        fingers = self.name in _HAND_GOES_TO_THE_GOAL
        return positions[..., 0, :] - FINGERS_BELOW_HAND if fingers else positions[..., 1, :]

    def outcomes(self, episode: Episode, goals: np.ndarray) -> Outcomes:
        """See `Relabels.outcomes`: the actions are replayed once, and Meta-World's reward function asked for each goal.

        The goal is `_target_pos`, which alone is moved; a box, a hoop or a shelf that stands around it is not.

        Raises:
            ValueError: rewards are of version 1, which computes lengths from the goal at the reset; or the replay takes
                another path, because the episode was played under noise or with other versions.
        """
        return replayed_outcomes(self, episode, goals)

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (4,), the action of Meta-World's scripted policy, which is given the goal, clipped."""
        assert isinstance(environment, MetaWorldEnvironment)
        observation = environment.full_observation.copy()
        observation[36:39] = environment.sawyer._target_pos
        if self.name in _HAND_GOES_TO_THE_GOAL:
            observation[36:39] += observation[:3] - environment.sawyer.tcp_center
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Constant(s) may be too high": its output is clipped below
            action = environment.policy.get_action(observation)
        return np.clip(action, -1.0, 1.0)


@functools.cache
def _kept_sampler(name: str) -> RandVecSampler:
    """Return the sampler of a family, which costs an environment; its draws depend on their seeds alone."""
    return RandVecSampler(name)


def _numbers(vector: np.ndarray) -> tuple[float, ...]:
    return tuple(float(number) for number in vector)


def version() -> str:
    """Return the version of the installed Meta-World, for instance `3.1.1`."""
    return importlib.metadata.version("metaworld")
