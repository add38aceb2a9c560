"""This module makes task families of generated parameters, and keeps those that their own expert solves.

Trap: every family is drawn from its number, so which families come out depends on their count alone, not on a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from wtl.core.rng import stream
from wtl.core.task import FamilySpec, ObservationLayout, Split, Task
from wtl.tasks.procedural.environment import HORIZON_STEPS, ProceduralEnvironment
from wtl.tasks.procedural.parameters import parameters_of, stream_name

GRIPPER_INDEX = 3


@dataclass(frozen=True)
class ProceduralFamily:
    """A family is one draw of `FamilyParameters` with its tasks."""

    name: str
    layout: ObservationLayout
    """The layout of the families that it is trained beside: 18 numbers, Meta-World's."""

    @property
    def spec(self) -> FamilySpec:
        """The spec follows `TaskFamily.spec`; sizes and the scale of rewards are Meta-World's."""
        parameters = parameters_of(self.name)
        return FamilySpec(
            name=self.name,
            layout=self.layout,
            action_size=4,
            horizon_steps=HORIZON_STEPS,
            goal_size=3,
            hidden_goal=parameters.goal == "hidden" and parameters.kind != "slide",
            reward_scale=10.0,
            gripper_index=GRIPPER_INDEX,
        )

    def make_environment(self, render: bool = False) -> ProceduralEnvironment:
        """Return a new environment; each can be rendered."""
        return ProceduralEnvironment(self.name, self.layout)

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """Return `count` tasks; a larger count begins with the same ones."""
        generator = stream(seed, "sketch tasks", stream_name(self.name), split)
        names = [f"{self.name}/{split}/{i}" for i in range(count)]
        return tuple(Task(self.name, split, name, self._draw(generator), name) for name in names)

    def _draw(self, generator: np.random.Generator) -> tuple[float, ...]:
        p = parameters_of(self.name)
        start = generator.uniform(p.start_low, p.start_high)
        if p.kind == "slide":
            goal = start + p.travel * p.rail + p.travel**2 * p.bend
        elif p.goal in ("hidden", "second"):
            goal = generator.uniform(p.goal_low, p.goal_high)
        else:
            goal = (p.goal_low + p.goal_high) / 2
            if p.goal == "beside":
                goal = goal + (start - (p.start_low + p.start_high) / 2)
        return tuple(float(x) for x in (*start, *goal))

    def with_other_start(self, task: Task, seed: int) -> Task:
        """Return the same task with the object starting elsewhere."""
        p = parameters_of(self.name)
        start = stream(seed, "start").uniform(p.start_low, p.start_high)
        parameters = (*(float(x) for x in start), *task.parameters[3:])
        return Task(self.name, task.split, f"{task.name}/other-start", parameters, task.goal_name)

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (3,), where the object, or the hand where there is none to move, has to be, in metres."""
        assert isinstance(environment, ProceduralEnvironment)
        return environment.goal.copy()

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (4,), the scripted expert's action."""
        assert isinstance(environment, ProceduralEnvironment)
        return environment.expert_action()


def families(count: int, layout: ObservationLayout) -> dict[str, ProceduralFamily]:
    """Return `count` families by name; a draw that its own expert does not solve is skipped."""
    found: dict[str, ProceduralFamily] = {}
    number = 0
    while len(found) < count:
        family = ProceduralFamily(f"procedural-{number:04d}", layout)
        if _is_solvable(family):
            found[family.name] = family
        number += 1
    return found


def _is_solvable(family: ProceduralFamily) -> bool:
    environment = family.make_environment()
    for task in family.sample_tasks(8, 0, "train"):
        environment.reset(options={"task": task})
        if environment.solved:
            return False
        for _ in range(160):
            environment.step(environment.expert_action())
            if environment.solved:
                break
        # A task that is solved in a few steps shows a learner nothing.
        if not environment.solved or environment.steps < 15:
            return False
    return True
