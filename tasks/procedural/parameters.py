"""This module draws the parameters that make a procedurally generated family, from nothing but its name.

Trap: the draws follow one another from one random generator, so a draw that is moved or added changes every family.
Source: domain randomisation, arXiv 1703.06907.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wtl.core.rng import seed_for, stream

_ABOVE = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class FamilyParameters:
    """The parameters are what makes a family; all of them are drawn once, from its name. Lengths are in metres."""

    kind: Literal["carry", "push", "slide", "reach"]
    """How the object moves; in `reach` the hand alone does."""
    goal: Literal["hidden", "fixed", "beside", "second"]
    """Where the goal comes from: it is drawn unseen, always the same, beside the object, or the second point shown."""
    start_low: np.ndarray
    start_high: np.ndarray
    """(3,) each, the corners of the box of the object's starts."""
    goal_low: np.ndarray
    goal_high: np.ndarray
    """(3,) each, the corners of the box of goals."""
    hand: np.ndarray
    """(3,) where the hand starts."""
    touch: np.ndarray
    """(3,) from the object's reported position to where the hand has to be."""
    approach: np.ndarray
    """(3,) from the touching point to where the hand comes from."""
    narrow: float
    """The distance from the line of approach within which the expert goes on."""
    close: float
    """The distance to the touching point from which the expert acts."""
    gain: float
    """The expert's action a metre of distance."""
    lag: float
    """The share of the way to its target that the hand goes in one step."""
    grip: tuple[float, float]
    """The gripper's effort before and after the touch, in [-1, 1]."""
    width: float
    """Opening of the gripper when it holds the object, in [0, 1]."""
    lift: float
    """The height at which a carried object travels; 0 means straight to the goal."""
    rail: np.ndarray
    """(3,) the direction in which a sliding object moves, of length 1."""
    bend: np.ndarray
    """(3,) how the rail bends, a metre: it is multiplied with the square of the distance."""
    travel: float
    """The length of the rail."""
    radius: float
    """The distance to the goal below which the task is solved."""
    rewards: tuple[float, float]
    """The largest rewards for reaching the object and for moving it, together below 10."""
    reach_scale: float
    move_scale: float
    """The distances at which these two rewards have fallen to 1/e."""
    turn: np.ndarray
    """(4,) what stands where Meta-World has a quaternion."""


def stream_name(name: str) -> str:
    """Return the name with which a family's random streams are seeded."""
    # Earlier runs called these families sketches; their seeds are kept, so the same families come out.
    return name.replace("procedural-", "sketch-", 1)


@functools.cache
def parameters_of(name: str) -> FamilyParameters:
    """Return the parameters of a family; the name is its seed."""
    g = stream(seed_for(0, "sketch", stream_name(name)), "plot")
    kind = str(g.choice(["carry", "push", "slide", "reach"], p=[0.4, 0.2, 0.33, 0.07]))
    goal = str(g.choice(["hidden", "fixed", "beside", "second"], p=[0.45, 0.2, 0.2, 0.15]))
    start_low, start_high = _draw_starts(g, kind)
    approach, touch = _draw_approach(g, kind)
    rail = _draw_rail(g)
    is_flat = kind == "push" or (kind == "carry" and g.random() < 0.3)
    goal_low, goal_high = _draw_goals(g, is_flat)
    before = float(g.choice([-1.0, 0.0, 1.0] if kind in ("slide", "push") else [-1.0, 0.0]))
    return FamilyParameters(
        kind=kind,  # type: ignore[arg-type]
        goal=goal,  # type: ignore[arg-type]
        start_low=start_low,
        start_high=start_high,
        goal_low=goal_low,
        goal_high=goal_high,
        hand=np.array([0.0, 0.6, 0.2]) + g.uniform(-0.06, 0.06, 3) * (g.random() < 0.3),
        touch=touch,
        approach=approach * g.uniform(0.06, 0.18),
        narrow=float(g.uniform(0.015, 0.05)),
        close=float(g.uniform(0.012, 0.03)),
        gain=float(g.choice([5.0, 10.0, 10.0, 10.0, 25.0])),
        lag=float(g.uniform(0.15, 0.4)),
        grip=(before, float(g.choice([0.6, 0.8, 1.0])) if kind == "carry" else before),
        width=float(g.uniform(0.25, 0.7)),
        lift=float(g.uniform(0.08, 0.25)) if g.random() < 0.5 and not is_flat else 0.0,
        rail=rail,
        bend=np.cross(rail, g.uniform(-1, 1, 3)) * g.uniform(0, 4) * (g.random() < 0.5),
        travel=float(g.uniform(0.05, 0.22)),
        radius=float(g.uniform(0.02, 0.07)),
        rewards=(float(g.uniform(0.5, 3.0)), float(g.uniform(2.0, 7.0))),
        reach_scale=float(g.uniform(0.03, 0.2)),
        move_scale=float(g.uniform(0.05, 0.3)),
        turn=g.uniform(-1, 1, 4) * (g.random(4) < 0.5),
    )


def _draw_starts(g: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    height = 0.02 if kind in ("carry", "push") and g.random() < 0.8 else float(g.uniform(0.05, 0.3))
    middle = g.uniform([-0.2, 0.5, height], [0.2, 0.8, height])
    spread = g.uniform(0.02, 0.12) * np.array([1.0, 1.0, 0.0])
    return middle - spread, middle + spread


def _draw_approach(g: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the direction of the approach, of length 1, and the touching point."""
    sideways = g.uniform([-1, -1, 0.0], [1, 1, 0.6])
    is_from_above = g.random() < (0.85 if kind == "carry" else 0.5)
    reach = 0.03 if kind == "carry" else 0.06
    touch = g.uniform(-reach, reach, 3) * (g.random(3) < 0.7)
    return _ABOVE if is_from_above else sideways / np.linalg.norm(sideways), touch


def _draw_rail(g: np.random.Generator) -> np.ndarray:
    rail = g.uniform([-1, -1, -0.6], [1, 1, 0.6]) * (g.random(3) < 0.6)
    return rail / np.linalg.norm(rail) if rail.any() else np.array([0.0, -1.0, 0.0])


def _draw_goals(g: np.random.Generator, is_flat: bool) -> tuple[np.ndarray, np.ndarray]:
    middle = g.uniform([-0.2, 0.45, 0.02], [0.2, 0.88, 0.02 if is_flat else 0.3])
    spread = g.uniform(0.03, 0.2) * np.array([1.0, 0.6, 0.0 if is_flat or g.random() < 0.6 else 0.6])
    return middle - spread, middle + spread
