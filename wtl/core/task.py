"""What there is to solve: tasks, families of tasks, and how they are split.

A family is one environment with one kind of goal; a task is a family with its hidden parameters
fixed. Only demonstrators and expert labels may read `Task.parameters`: what a policy sees is a
`wtl.core.episode.Trajectory`, which has no room for them. Source: arXiv 1906.03352.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import gymnasium
import numpy as np

Regime = Literal["goal", "family", "none"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class ObservationLayout:
    """Which numbers of an observation are places in the world and which are not."""

    size: int
    """O, the length of one observation."""
    dimensions: int
    """Coordinates of one place: 3 on Meta-World, 2 in the plane."""
    points: tuple[int, ...]
    """Index of the first coordinate of each place; the first place is the learner's hand.
    A place whose coordinates are all zero is absent."""
    scalars: tuple[int, ...] = ()
    """Indices of the numbers that are not coordinates (gripper opening, quaternions)."""
    hand_step: float = 0.0
    """How far an action of 1 along an axis moves the hand in one step, in the units of places, if the first numbers of
    an action are the hand's motion along the axes; 0 if they are not."""

    def __post_init__(self) -> None:
        covered = [p + d for p in self.points for d in range(self.dimensions)] + list(self.scalars)
        if sorted(covered) != list(range(self.size)):
            raise ValueError(
                f"an observation layout must name each of its {self.size} numbers once, got {sorted(covered)}"
            )

    def positions(self, observations: np.ndarray) -> np.ndarray:
        """(..., O) -> (..., P, D), the hand first."""
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
    gripper_index: int | None = None
    """Index of the action number that opens and closes a gripper; exploration noise never touches it."""
    weight: int = 1
    """How often it counts where families are drawn: more for the few that matter among many made up for training."""


@dataclass(frozen=True)
class Task:
    """One family with its hidden parameters fixed."""

    family: str
    split: Split
    name: str
    """Unique, for instance `reach-v3/test/17`."""
    parameters: tuple[float, ...]
    """The hidden numbers (`rand_vec` on Meta-World). Never shown to a policy."""
    goal_name: str
    """Tasks of a family with the same goal name have the same hidden goal."""


class TaskFamily(Protocol):
    """A source of tasks. Implementations must be picklable: workers build their own environments."""

    @property
    def spec(self) -> FamilySpec:
        """Sizes, horizon and what is hidden."""
        ...

    def make_environment(self, render: bool = False) -> gymnasium.Env[Any, Any]:
        """A gymnasium environment; `reset(options={"task": task})` chooses the task and
        `info["success"]` of each step tells whether it is solved now."""
        ...

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """`count` tasks of a split, the same for the same arguments."""
        ...

    def with_other_start(self, task: Task, seed: int) -> Task:
        """A task with the same hidden goal and another start. Raises ValueError if there is none."""
        ...

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """(G,) where the expert goes, in world coordinates; hidden from policies."""
        ...

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """(A,) what the expert, who sees the goal, does in the present state; within [-1, 1]."""
        ...


@dataclass(frozen=True)
class TaskDistribution:
    """Families and their tasks by split; no task stands in two splits."""

    families: Mapping[str, TaskFamily]
    train: tuple[Task, ...]
    validation: tuple[Task, ...]
    test: tuple[Task, ...]

    def __post_init__(self) -> None:
        seen: dict[tuple[str, tuple[float, ...]], str] = {}
        for task in (*self.train, *self.validation, *self.test):
            if task.family not in self.families:
                raise ValueError(f"task {task.name} is of family {task.family}, which is not in the distribution")
            key = (task.family, task.parameters)
            if key in seen:
                raise ValueError(f"tasks {seen[key]} and {task.name} are the same; splits must be disjoint")
            seen[key] = task.name

    def weights(self, hidden_goal_weight: int = 1) -> dict[str, int]:
        """As how many families each counts where families share something out."""
        return {
            name: family.spec.weight * (hidden_goal_weight if family.spec.hidden_goal else 1)
            for name, family in self.families.items()
        }

    def split(self, name: Split) -> tuple[Task, ...]:
        """The tasks of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    @property
    def spec(self) -> FamilySpec:
        """The spec of the first family; all families of a distribution share their sizes."""
        return next(iter(self.families.values())).spec
