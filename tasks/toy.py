"""This module has two toy families with a known optimum; they take seconds on a CPU and need no simulator.

A point in the plane sees N red and N blue candidates, one of which is rewarded; nothing visible says which,
and in each family it is always of the family's colour. So cloning without context walks to some candidate
(1 in 2N), a policy that has watched a demonstration walks to one of the right colour (1 in N), and one
that has tried once and read its reward knows the candidate. Source: the toy of arXiv 1906.03352.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from wtl.core.episode import Episode
from wtl.core.relabelling import Outcomes
from wtl.core.rng import stream
from wtl.core.task import FamilySpec, ObservationLayout, Split, Task, TaskDistribution, TaskFamily

CANDIDATES = 2
"""N of each colour; the optimum is 1 / 2N without context, 1 / N after watching, 1 after one trial."""
# The families keep the names of the time when the toy was called a probe: tasks are named after their family, every
# random stream is seeded with a task's name, and so the names keep earlier runs repeatable.
COLOURS = {"probe-red": 0, "probe-blue": 1}
"""Which half of the candidates can be rewarded, by family: the first N or the last N."""
_DISTANCE, _SPEED, _RADIUS, _HORIZON_STEPS = 1.0, 0.12, 0.15, 24
_STREAM = "probe"  # for the same reason


class ToyEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """An environment is a point with 2N candidates around it, one of them rewarded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2 + 4 * CANDIDATES,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.position, self.candidates, self.rewarded = np.zeros(2), np.zeros((2 * CANDIDATES, 2)), 0
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Return the first observation, (2 + 4N,) float64: the point's position, then all candidates.

        `options={"task": Task}` is required. Raises ValueError for a task of another family.
        """
        task = (options or {}).get("task")
        if not isinstance(task, Task) or task.family != self.name:
            raise ValueError(f"{self.name} is reset with options={{'task': a task of {self.name}}}, got {task!r}")
        self.position = np.array(task.parameters[:2])
        self.candidates = np.array(task.parameters[2:-1]).reshape(2 * CANDIDATES, 2)
        self.rewarded, self._steps = int(task.parameters[-1]), 0
        return self._observation(), {}

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.position, self.candidates.ravel()])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return gymnasium's; the reward, at most 1, falls with the distance to the rewarded candidate."""
        self.position = self.position + _SPEED * np.clip(action, -1.0, 1.0)
        self._steps += 1
        reward, success = self.outcome(self.candidates[self.rewarded])
        return self._observation(), reward, False, self._steps >= _HORIZON_STEPS, {"success": success}

    def outcome(self, goal: np.ndarray) -> tuple[float, bool]:
        """Return the reward and the success of the present position if the goal stood at (2,)."""
        distance = float(np.linalg.norm(goal - self.position))
        return float(np.exp(-distance)), distance < _RADIUS

    def render(self) -> Any:
        """Return a picture, (96, 96, 3) uint8: the point is black, the rewarded candidate green."""
        picture = np.full((96, 96, 3), 255, np.uint8)
        red, blue, green, black = (213, 94, 0), (86, 180, 233), (0, 158, 115), (0, 0, 0)
        marks = [(candidate, red if i < CANDIDATES else blue) for i, candidate in enumerate(self.candidates)]
        marks += [(self.candidates[self.rewarded], green), (self.position, black)]
        for (x, y), colour in marks:
            column, row = (int(48 + 30 * c) for c in (x, -y))
            picture[max(row - 3, 0) : max(row + 4, 0), max(column - 3, 0) : max(column + 4, 0)] = colour
        return picture


@dataclass(frozen=True)
class ToyFamily:
    """A family is one colour of the rewarded candidate."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in COLOURS:
            raise ValueError(f"unknown toy family {self.name!r}, expected one of {sorted(COLOURS)}")

    @property
    def spec(self) -> FamilySpec:
        """The spec follows `TaskFamily.spec`."""
        size = 2 + 4 * CANDIDATES
        return FamilySpec(
            name=self.name,
            layout=ObservationLayout(size, dimensions=2, points=tuple(range(0, size, 2)), hand_step=_SPEED),
            action_size=2,
            horizon_steps=_HORIZON_STEPS,
            goal_size=2,
            hidden_goal=True,
            reward_scale=1.0,
        )

    def make_environment(self, render: bool = False) -> ToyEnvironment:
        """Return a new environment; every toy environment can be rendered."""
        return ToyEnvironment(self.name)

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """Return `count` tasks; each depends on its own number and not on `count`."""
        return tuple(self._draw(split, f"{self.name}/{split}/{i}", seed) for i in range(count))

    def _draw(self, split: Split, name: str, seed: int) -> Task:
        generator = stream(seed, _STREAM, name)
        # Red to the right and left, blue above and below, give or take.
        count = 2 * CANDIDATES
        order = np.arange(count).reshape(CANDIDATES, 2).T.ravel()
        angles = order * 2 * np.pi / count + generator.uniform(-0.3, 0.3, count)
        candidates = _DISTANCE * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        start = generator.uniform(-0.2, 0.2, 2)
        rewarded = CANDIDATES * COLOURS[self.name] + generator.integers(CANDIDATES)
        parameters = (*start, *candidates.ravel(), rewarded)
        return Task(self.name, split, name, tuple(float(x) for x in parameters), name)

    def with_other_start(self, task: Task, seed: int) -> Task:
        """Return the same task with the point starting elsewhere."""
        start = stream(seed, "start").uniform(-0.2, 0.2, 2)
        parameters = (*(float(x) for x in start), *task.parameters[2:])
        return Task(self.name, task.split, f"{task.name}/other-start", parameters, task.goal_name)

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (2,), the position of the rewarded candidate."""
        assert isinstance(environment, ToyEnvironment)
        return environment.candidates[environment.rewarded].copy()

    def reached(self, observations: np.ndarray) -> np.ndarray:
        """See `Relabels.reached`: where the point is."""
        return np.asarray(observations)[..., :2]

    def outcomes(self, episode: Episode, goals: np.ndarray) -> Outcomes:
        """See `Relabels.outcomes`; the toy counts in double precision, so the actions are replayed."""
        environment, path = self.make_environment(), episode.trajectory
        environment.reset(options={"task": episode.task})
        own = self.goal(environment)
        exact = [own if np.array_equal(goal, own.astype(np.float32)) else goal.astype(np.float64) for goal in goals]
        rewards, successes = np.zeros((len(goals), len(path)), np.float32), np.zeros((len(goals), len(path)), np.bool_)
        for t, action in enumerate(path.actions):
            seen = environment.step(action)[0].astype(np.float32)
            if not np.array_equal(seen, path.observations[t + 1]):
                raise ValueError(
                    f"the episode of task {episode.task.name} takes another path at step {t} of its replay"
                )
            for n, goal in enumerate(exact):
                rewards[n, t], successes[n, t] = environment.outcome(goal)
        return Outcomes(rewards, successes)

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (2,), which leads straight to the rewarded candidate, at full speed until near."""
        assert isinstance(environment, ToyEnvironment)
        way = self.goal(environment) - environment.position
        return way / max(float(np.linalg.norm(way)), _SPEED)


def distribution(
    *, seed: int, goals_per_family: int, validation_goals_per_family: int, test_goals_per_family: int
) -> TaskDistribution:
    """Return both toy families, with new candidates in every split."""
    families: dict[str, TaskFamily] = {name: ToyFamily(name) for name in COLOURS}
    return TaskDistribution.sampled(
        families,
        seed=seed,
        goals_per_family=goals_per_family,
        validation_goals_per_family=validation_goals_per_family,
        test_goals_per_family=test_goals_per_family,
    )
