"""Hypothesis strategies for the domain's types, shared by all tests; sizes are small, values are not tame."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tasks import make_distribution
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import ObservationLayout, Task
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings, play

PLANE = ObservationLayout(size=7, dimensions=2, points=(0, 2, 5), scalars=(4,))
"""A hand, two more places and one other number."""

FAMILIES = ("alpha", "beta")
PROBE = make_distribution(
    "toy", seed=1, goals_per_family=3, validation_goals_per_family=2, test_goals_per_family=2
).families
"""The toy families by name."""
_names = st.text('abcdefghijklmnopqrstuvwxyz0123456789-/," é', min_size=1, max_size=12)
_numbers = st.floats(-2, 2, width=32)


def arrays(
    *shape: int, elements: SearchStrategy[Any] = _numbers, dtype: Any = np.float32
) -> SearchStrategy[np.ndarray]:
    """Arrays of this shape."""
    return npst.arrays(dtype, shape, elements=elements)


@st.composite
def tasks(draw: st.DrawFn, family: str | None = None) -> Task:
    """Tasks with odd names and any number of parameters."""
    name = draw(_names)
    parameters = tuple(draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4)))
    split = draw(st.sampled_from(("train", "validation", "test")))
    return Task(family or draw(st.sampled_from(FAMILIES)), split, name, parameters, draw(_names))


@st.composite
def trajectories(draw: st.DrawFn, observation_size: int = 7, action_size: int = 2, most_steps: int = 9) -> Trajectory:
    """Trajectories of 1 .. `most_steps` steps."""
    steps = draw(st.integers(1, most_steps))
    return Trajectory(
        draw(arrays(steps + 1, observation_size)),
        draw(arrays(steps, action_size, elements=st.floats(-1, 1, width=32))),
        draw(arrays(steps, elements=st.floats(0, 10, width=32))),
        draw(arrays(steps, elements=st.booleans(), dtype=np.bool_)),
    )


@st.composite
def episodes(draw: st.DrawFn, task: Task | None = None) -> Episode:
    """Episodes, with or without simulation states, labels that may be NaN."""
    trajectory = draw(trajectories())
    steps, action_size = trajectory.actions.shape
    role = draw(st.sampled_from(("demonstration", "trial")))
    return Episode(
        trajectory,
        task or draw(tasks()),
        role,
        draw(st.integers(0, 3)),
        draw(st.integers(0, 2**63 - 1)),
        draw(st.text(max_size=8)),
        draw(arrays(2)),
        draw(arrays(steps, action_size, elements=st.floats(-1, 1, width=32) | st.just(np.nan))),
        draw(arrays(steps + 1, draw(st.integers(0, 2)), elements=st.floats(-9, 9), dtype=np.float64)),
    )


def make_task(name: str, family: str = "alpha", split: Any = "train", goal_name: str = "") -> Task:
    """A task whose parameters follow from its name."""
    return Task(family, split, name, tuple(float(b) for b in name.encode()), goal_name or name)


def make_trajectory(steps: int, seed: int = 0, layout: ObservationLayout = PLANE, action_size: int = 2) -> Trajectory:
    """A random trajectory that succeeds at its last step."""
    generator = np.random.default_rng(seed)
    return Trajectory(
        generator.normal(size=(steps + 1, layout.size)),
        generator.uniform(-1, 1, (steps, action_size)),
        generator.uniform(0, 1, steps),
        np.arange(steps) == steps - 1,
    )


def make_episode(task: Task, role: Any = "demonstration", steps: int = 6, seed: int = 0, attempt: int = 0) -> Episode:
    """A random episode of a task; its goal is the first two parameters of the task."""
    trajectory = make_trajectory(steps, seed)
    goal = np.array([*task.parameters, 0.0, 0.0][:2]) / 100
    return Episode(trajectory, task, role, attempt, seed, "test", goal, -trajectory.actions, np.zeros((steps + 1, 1)))


def same_trajectory(a: Trajectory, b: Trajectory) -> bool:
    """Bit for bit."""
    names = ("observations", "actions", "rewards", "successes")
    return a.outcome_known == b.outcome_known and all(same_bits(getattr(a, n), getattr(b, n)) for n in names)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Same type, shape and bytes; NaN equals NaN."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_episode(a: Episode, b: Episode) -> bool:
    """Bit for bit."""
    plain = ("task", "role", "attempt", "seed", "source")
    arrays_ = ("goal", "expert_actions", "states")
    return (
        same_trajectory(a.trajectory, b.trajectory)
        and all(getattr(a, n) == getattr(b, n) for n in plain)
        and all(same_bits(getattr(a, n), getattr(b, n)) for n in arrays_)
    )


def rolled_out(family: Any, tasks: Any, player: Any, horizon_steps: int, after_success_steps: int | None = 5) -> Any:
    """Episodes of these tasks, seeds 0 .. B - 1, labelled by the expert; the player knows nothing beforehand."""
    sessions = [Session(task, Context(), (), seed) for seed, task in enumerate(tasks)]
    environments = [family.make_environment() for _ in tasks]
    attempt = Attempt(family, environments, sessions, [Context()] * len(tasks), range(len(tasks)))
    return play(attempt, player, RolloutSettings(horizon_steps, after_success_steps, ask_expert=True))
