"""An environment of one's own as a task family: gymnasium's MountainCarContinuous, whose seed draws where it starts.

PYTHONPATH=docs/examples wtl run toy tasks.benchmark=my_environment:build directory=runs/car
"""

import functools
from typing import Any

import gymnasium
import numpy as np

from tasks.gymnasium_adapter import GymnasiumFamily, GymnasiumStep
from wtl import FamilySpec, ObservationLayout, TaskDistribution

SPEC = FamilySpec(
    name="car",
    layout=ObservationLayout(size=2, dimensions=1, points=(0,), scalars=(1,)),  # position, velocity
    action_size=1, horizon_steps=300, goal_size=1, hidden_goal=False, reward_scale=100.0,
)  # fmt: skip


def is_at_the_flag(step: GymnasiumStep) -> bool:
    return step.terminated


def expert(environment: Any) -> np.ndarray:
    return np.array([1.0 if environment.unwrapped.state[1] >= 0 else -1.0])  # push the way it rolls


def goal(environment: Any) -> np.ndarray:
    return np.array([environment.unwrapped.goal_position])


def build(*, options: Any, **counts: Any) -> TaskDistribution:
    make = functools.partial(gymnasium.make, "MountainCarContinuous-v0")
    family = GymnasiumFamily(SPEC, make, is_solved=is_at_the_flag, expert=expert, find_goal=goal)
    kept = ("seed", "goals_per_family", "validation_goals_per_family", "test_goals_per_family")
    return TaskDistribution.sampled({"car": family}, **{name: counts[name] for name in kept})
