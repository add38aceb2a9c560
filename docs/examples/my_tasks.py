"""Task families of one's own: a gymnasium environment behind the adapter, and the function that builds a benchmark."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np

from wtl.core.task import FamilySpec, ObservationLayout, TaskDistribution, TaskFamily
from wtl.tasks.gymnasium_adapter import GymnasiumFamily


class Plane(gymnasium.Env[np.ndarray, np.ndarray]):
    """A hand in the plane, with a goal that it does not see. Any registered environment could stand here."""

    def __init__(self, render_mode: str | None = None) -> None:
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.render_mode, self.hand, self.goal = render_mode, np.zeros(2), np.ones(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Everything that differs between tasks comes from the seed."""
        super().reset(seed=seed)
        angle = self.np_random.uniform(0.0, 2.0 * np.pi)
        self.hand, self.goal = self.np_random.uniform(-0.1, 0.1, 2), np.array([np.cos(angle), np.sin(angle)])
        return self.hand.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """The reward falls with the distance, and `info` says whether the task is solved."""
        self.hand = self.hand + 0.1 * action
        distance = float(np.linalg.norm(self.goal - self.hand))
        return self.hand.copy(), float(np.exp(-distance)), False, False, {"success": distance < 0.1}

    def render(self) -> Any:
        """A picture for videos."""
        return np.full((96, 96, 3), 255, np.uint8)


def towards_goal(environment: Any) -> np.ndarray:
    """The expert, which sees the goal."""
    return np.clip(10.0 * (environment.goal - environment.hand), -1.0, 1.0)


def goal_of(environment: Any) -> np.ndarray:
    """A label of training and never an input."""
    return environment.goal


SPEC = FamilySpec(
    name="plane",
    layout=ObservationLayout(size=2, dimensions=2, points=(0,), hand_step=0.1),
    action_size=2, horizon_steps=40, goal_size=2, hidden_goal=True, reward_scale=1.0,
)  # fmt: skip


def build(
    *, seed: int, goals_per_family: int, validation_goals_per_family: int, test_goals_per_family: int,
    options: dict[str, Any], **others: Any,
) -> TaskDistribution:  # fmt: skip
    """Return the benchmark; `others` are settings of Meta-World, `options` are `tasks.options` of the configuration."""
    family = GymnasiumFamily(SPEC, functools.partial(Plane), expert=towards_goal, find_goal=goal_of)
    families: dict[str, TaskFamily] = {"plane": family}
    return TaskDistribution.sampled(
        families, seed=seed, goals_per_family=goals_per_family,
        validation_goals_per_family=validation_goals_per_family, test_goals_per_family=test_goals_per_family,
    )  # fmt: skip
