"""This module defines what there is to solve: tasks, families of tasks, and how tasks are split.

A family is one environment with one kind of goal; a task is a family with its hidden parameters
fixed. It says nothing about learning. Trap: only experts may read `Task.parameters`; a policy sees a
`wtl.core.episode.Trajectory`, which has no room for them. Source: arXiv 1906.03352, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import gymnasium
import numpy as np

Regime = Literal["goal", "family", "none"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class ObservationLayout:
    """A layout says which numbers of an observation are positions in the world and which are not."""

    size: int
    """O, the length of one observation."""
    dimensions: int
    """D, the coordinates of one position: 3 on Meta-World, 2 in the plane."""
    points: tuple[int, ...]
    """Index of the first coordinate of each of the P positions; the first position is the hand's.
    A position whose coordinates are all zero is absent."""
    scalars: tuple[int, ...] = ()
    """Indices of the numbers that are not coordinates (gripper opening, quaternions)."""
    hand_step: float = 0.0
    """The distance by which an action of 1 along an axis moves the hand in one step, in the unit of the positions.
    It presumes that the first D numbers of an action move the hand along the axes; 0 says that they do not."""

    def __post_init__(self) -> None:
        covered = [p + d for p in self.points for d in range(self.dimensions)] + list(self.scalars)
        if sorted(covered) != list(range(self.size)):
            raise ValueError(
                f"an observation layout must name each of its {self.size} numbers once, got {sorted(covered)}"
            )

    def positions(self, observations: np.ndarray) -> np.ndarray:
        """Return the positions (..., P, D) of observations (..., O), the hand first."""
        return np.stack([observations[..., p : p + self.dimensions] for p in self.points], axis=-2)


@dataclass(frozen=True)
class FamilySpec:
    """What every task of a family has in common."""

    name: str
    layout: ObservationLayout
    action_size: int
    """A; every action lies in [-1, 1]^A."""
    horizon_steps: int
    """The longest episode."""
    goal_size: int
    """G, the numbers of the goal that the expert aims at (`TaskFamily.goal`)."""
    hidden_goal: bool
    """True where nothing visible at the start gives the goal away."""
    reward_scale: float
    """The largest reward of one step; rewards are divided by it before a network reads them."""
    weight: int = 1
    """How many families it counts as where families share something out: more for the few that matter among many
    that were made for training."""
    gripper_index: int | None = None
    """Index of the action number that opens and closes a gripper; exploration noise never touches it, because noise
    would break grasps. None where there is no gripper."""


@dataclass(frozen=True)
class Task:
    """One family with its hidden parameters fixed."""

    family: str
    split: Split
    name: str
    """Unique, for instance `reach-v3/test/17`."""
    parameters: tuple[float, ...]
    """The hidden numbers (`rand_vec` on Meta-World). They are never shown to a policy. None at all say that they are
    not known, as for somebody's own demonstrations."""
    goal_name: str
    """Tasks of a family with the same goal name have the same hidden goal."""

    def __post_init__(self) -> None:
        # Numbers of any kind may come in, numpy's too; from here on they are compared and written as plain ones.
        object.__setattr__(self, "parameters", tuple(map(float, self.parameters)))


class TaskFamily(Protocol):
    """A source of tasks. Implementations must be picklable: workers build their own environments."""

    @property
    def spec(self) -> FamilySpec:
        """The spec holds the sizes, the horizon and whether the goal is hidden."""
        ...

    def make_environment(self, render: bool = False) -> gymnasium.Env[Any, Any]:
        """Return a new gymnasium environment; with `render` it can draw pictures.

        `reset(options={"task": task})` chooses the task, `info["success"]` of each step says whether the task is
        solved now, and an episode ends where a step returns terminated or truncated. Observations (O,) are the
        caller's to keep: the environment never changes an array that it has returned.
        """
        ...

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """Return `count` tasks of a split, the same for the same arguments."""
        ...

    def with_other_start(self, task: Task, seed: int) -> Task:
        """Return a task with the same hidden goal and another start. Raises ValueError if there is none."""
        ...

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (G,), where the expert goes, in world coordinates; it is hidden from policies."""
        ...

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (A,) within [-1, 1]: what the expert, who sees the goal, does in the present state.

        A family without an expert returns NaN.
        """
        ...


SHARED_SIZES = ("layout", "action_size", "goal_size", "reward_scale")
"""The fields of `FamilySpec` in which all families of a distribution agree, because one network reads all of them."""


@dataclass(frozen=True)
class TaskDistribution:
    """Families and their tasks by split; no task stands in two splits."""

    families: Mapping[str, TaskFamily]
    train: tuple[Task, ...]
    validation: tuple[Task, ...]
    test: tuple[Task, ...]
    hidden_goal_weight: int = 1
    """How many families a family with a hidden goal counts as, on top of its own `FamilySpec.weight`."""

    def __post_init__(self) -> None:
        self._check_sizes()
        seen: dict[tuple[str, tuple[float, ...]], str] = {}
        for task in (*self.train, *self.validation, *self.test):
            if task.family not in self.families:
                raise ValueError(f"task {task.name} is of family {task.family}, which is not in the distribution")
            key = (task.family, task.parameters)
            if key in seen:
                raise ValueError(f"tasks {seen[key]} and {task.name} are the same; splits must be disjoint")
            seen[key] = task.name

    def _check_sizes(self) -> None:
        specs = [family.spec for family in self.families.values()]
        for spec in specs[1:]:
            for name in SHARED_SIZES:
                first, other = getattr(specs[0], name), getattr(spec, name)
                if first != other:
                    raise ValueError(
                        f"families of a distribution share their {name}: {specs[0].name} has {first}, "
                        f"{spec.name} has {other}"
                    )

    @classmethod
    def sampled(
        cls,
        families: Mapping[str, TaskFamily],
        *,
        seed: int,
        goals_per_family: int,
        validation_goals_per_family: int,
        test_goals_per_family: int,
    ) -> Self:
        """Return so many tasks of every family in each split, as `TaskFamily.sample_tasks` draws them."""

        def tasks(count: int, split: Split) -> tuple[Task, ...]:
            return tuple(task for family in families.values() for task in family.sample_tasks(count, seed, split))

        return cls(
            families,
            tasks(goals_per_family, "train"),
            tasks(validation_goals_per_family, "validation"),
            tasks(test_goals_per_family, "test"),
        )

    @property
    def weights(self) -> dict[str, int]:
        """The weights say how many families each family counts as where families share something out."""
        specs = {name: family.spec for name, family in self.families.items()}
        return {
            name: spec.weight * (self.hidden_goal_weight if spec.hidden_goal else 1) for name, spec in specs.items()
        }

    def split(self, name: Split) -> tuple[Task, ...]:
        """Return the tasks of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    @property
    def spec(self) -> FamilySpec:
        """The spec is that of the first family; all families of a distribution share their sizes."""
        return next(iter(self.families.values())).spec
