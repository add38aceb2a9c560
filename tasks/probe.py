"""Toy families with a known optimum, seconds on a CPU: the paper's "which of several places is it?".

A point in the plane sees N red and N blue places, one of which is rewarded; nothing visible says which,
and in each family it is always of the family's colour. So cloning without context walks to some place
(1 in 2N), a policy that has watched a demonstration walks to one of the right colour (1 in N), and one
that has tried once and read its reward knows the place. Source: the toy of arXiv 1906.03352.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from wtl.core.rng import stream
from wtl.core.task import FamilySpec, ObservationLayout, Split, Task, TaskDistribution

PLACES = 2
"""N of each colour; the optimum is 1 / 2N without context, 1 / N after watching, 1 after one trial."""
COLOURS = {"probe-red": 0, "probe-blue": 1}
"""Which half of the places can be rewarded: the first N or the last N."""
_REACH, _SPEED, _RADIUS, _HORIZON_STEPS = 1.0, 0.12, 0.15, 24


class ProbeEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point, N places around it, one of them rewarded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2 + 4 * PLACES,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.position, self.places, self.rewarded = np.zeros(2), np.zeros((2 * PLACES, 2)), 0
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """`options={"task": Task}` is required. Raises ValueError for a task of another family."""
        task = (options or {}).get("task")
        if not isinstance(task, Task) or task.family != self.name:
            raise ValueError(f"{self.name} is reset with options={{'task': a task of {self.name}}}, got {task!r}")
        self.position = np.array(task.parameters[:2])
        self.places = np.array(task.parameters[2:-1]).reshape(2 * PLACES, 2)
        self.rewarded, self._steps = int(task.parameters[-1]), 0
        return self._observation(), {}

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.position, self.places.ravel()])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move; the reward falls with the distance to the rewarded place."""
        self.position = self.position + _SPEED * np.clip(action, -1.0, 1.0)
        self._steps += 1
        distance = float(np.linalg.norm(self.places[self.rewarded] - self.position))
        info = {"success": distance < _RADIUS}
        return self._observation(), float(np.exp(-distance)), False, self._steps >= _HORIZON_STEPS, info

    def render(self) -> Any:
        """A small RGB picture: the point black, places red and blue, the rewarded one green."""
        picture = np.full((96, 96, 3), 255, np.uint8)
        marks = [(place, (213, 94, 0) if i < PLACES else (86, 180, 233)) for i, place in enumerate(self.places)]
        marks += [(self.places[self.rewarded], (0, 158, 115)), (self.position, (0, 0, 0))]
        for (x, y), colour in marks:
            column, row = (int(48 + 30 * c) for c in (x, -y))
            picture[max(row - 3, 0) : max(row + 4, 0), max(column - 3, 0) : max(column + 4, 0)] = colour
        return picture


@dataclass(frozen=True)
class ProbeFamily:
    """One colour of the place that is rewarded."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in COLOURS:
            raise ValueError(f"unknown probe family {self.name!r}, expected one of {sorted(COLOURS)}")

    @property
    def spec(self) -> FamilySpec:
        """See `TaskFamily.spec`."""
        size = 2 + 4 * PLACES
        return FamilySpec(
            name=self.name,
            layout=ObservationLayout(size, dimensions=2, points=tuple(range(0, size, 2)), hand_step=_SPEED),
            action_size=2,
            horizon_steps=_HORIZON_STEPS,
            goal_size=2,
            hidden_goal=True,
            reward_scale=1.0,
        )

    def make_environment(self, render: bool = False) -> ProbeEnvironment:
        """See `TaskFamily.make_environment`."""
        return ProbeEnvironment(self.name)

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """See `TaskFamily.sample_tasks`."""
        return tuple(self._draw(split, f"{self.name}/{split}/{i}", seed) for i in range(count))

    def _draw(self, split: Split, name: str, seed: int) -> Task:
        generator = stream(seed, "probe", name)
        # Red to the right and left, blue above and below, give or take.
        count = 2 * PLACES
        order = np.arange(count).reshape(PLACES, 2).T.ravel()
        angles = order * 2 * np.pi / count + generator.uniform(-0.3, 0.3, count)
        places = _REACH * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        start = generator.uniform(-0.2, 0.2, 2)
        rewarded = PLACES * COLOURS[self.name] + generator.integers(PLACES)
        parameters = (*start, *places.ravel(), rewarded)
        return Task(self.name, split, name, tuple(float(x) for x in parameters), name)

    def with_other_start(self, task: Task, seed: int) -> Task:
        """See `TaskFamily.with_other_start`: the point starts elsewhere."""
        start = stream(seed, "start").uniform(-0.2, 0.2, 2)
        parameters = (*(float(x) for x in start), *task.parameters[2:])
        return Task(self.name, task.split, f"{task.name}/other-start", parameters, task.goal_name)

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """See `TaskFamily.goal`."""
        assert isinstance(environment, ProbeEnvironment)
        return environment.places[environment.rewarded].copy()

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Straight to the rewarded place, at full speed until near."""
        assert isinstance(environment, ProbeEnvironment)
        way = self.goal(environment) - environment.position
        return way / max(float(np.linalg.norm(way)), _SPEED)

    def simulation_state(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """The point's position: with the task's parameters it is everything."""
        assert isinstance(environment, ProbeEnvironment)
        return environment.position.copy()


def distribution(
    *, seed: int, goals_per_family: int, validation_goals_per_family: int, test_goals_per_family: int
) -> TaskDistribution:
    """Both probe families, new places in every split."""
    families = {name: ProbeFamily(name) for name in COLOURS}

    def tasks(count: int, split: Split) -> tuple[Task, ...]:
        return tuple(task for family in families.values() for task in family.sample_tasks(count, seed, split))

    return TaskDistribution(
        families,
        tasks(goals_per_family, "train"),
        tasks(validation_goals_per_family, "validation"),
        tasks(test_goals_per_family, "test"),
    )
