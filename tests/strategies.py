"""Hypothesis strategies for the domain's types, shared by all tests; sizes are small, values are not tame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from wtl.core.episode import Episode, Trajectory
from wtl.core.task import ObservationLayout, Task
from wtl.tasks import make_distribution

PLANE = ObservationLayout(size=7, dimensions=2, points=(0, 2, 5), scalars=(4,))
"""A hand, two more places and one other number."""

FAMILIES = ("alpha", "beta")
TOY = make_distribution(
    "toy", seed=1, goals_per_family=3, validation_goals_per_family=2, test_goals_per_family=2
).families
"""The toy families by name."""
PROBE = TOY
"""The same by its old name, until no test file uses it."""
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


EXTRA_TYPES: tuple[Any, ...] = (
    np.float16, np.float32, np.float64, np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32,
    np.uint64, np.int64,
)  # fmt: skip


@st.composite
def extras(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Further arrays: numbers of every kind, pictures, strings, scalars and empty arrays."""
    found: dict[str, np.ndarray] = {}
    for name in draw(st.lists(st.sampled_from(["frames", "a/b", "depth", "é", "observations"]), max_size=3)):
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
        if draw(st.booleans()):
            found[name] = draw(npst.arrays(draw(st.sampled_from(EXTRA_TYPES)), shape))
        else:
            count = int(np.prod(shape))
            words = draw(st.lists(st.text(max_size=5).filter(_is_kept), min_size=count, max_size=count))
            found[name] = np.array(words, dtype=str).reshape(shape)
    return found


def _is_kept(word: str) -> bool:
    return not word.endswith("\0")  # numpy drops zeros at the end


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
    """Episodes with further arrays, and labels that may be NaN."""
    trajectory = replace(draw(trajectories()), extras=draw(extras()))
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
    return Episode(trajectory, task, role, attempt, seed, "test", goal, -trajectory.actions)


def same_trajectory(a: Trajectory, b: Trajectory) -> bool:
    """Bit for bit."""
    names = ("observations", "actions", "rewards", "successes")
    return (
        a.outcome_known == b.outcome_known
        and all(same_bits(getattr(a, n), getattr(b, n)) for n in names)
        and a.extras.keys() == b.extras.keys()
        and all(_same_extra(np.asarray(a.extras[n]), np.asarray(b.extras[n])) for n in a.extras)
    )


def _same_extra(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind == "U":  # how wide numpy makes a string does not matter
        return b.dtype.kind == "U" and a.shape == b.shape and a.tolist() == b.tolist()
    return same_bits(a, b)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Same type, shape and bytes; NaN equals NaN."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_episode(a: Episode, b: Episode) -> bool:
    """Bit for bit."""
    plain = ("task", "role", "attempt", "seed", "source")
    return (
        same_trajectory(a.trajectory, b.trajectory)
        and all(getattr(a, n) == getattr(b, n) for n in plain)
        and all(same_bits(getattr(a, n), getattr(b, n)) for n in ("goal", "expert_actions"))
    )
