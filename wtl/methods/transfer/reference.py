"""A reference trajectory: what a successful episode says about the way, relative to the objects it goes by.

Free of learning. Sources: trajectory transfer and dynamic movement primitives (Ijspeert et al. 2013, doi
10.1162/NECO_a_00393); one demonstration, object-relative, on a thousand tasks (MT3, arXiv 2511.10110).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from wtl.core.bounds import Between, Bounded, Positive
from wtl.core.episode import Trajectory
from wtl.core.task import ObservationLayout


@dataclass(frozen=True)
class ReferenceConfig(Bounded):
    """How a trajectory is read. Lengths are in hand steps: the way of the hand in one step at full action."""

    moved_steps: Positive = 2.0
    """An object that stays within this distance has not been moved."""
    tail_steps: Annotated[int, Between(0, 10**6)] = 5
    """Control steps that are kept after the first success."""


@dataclass(frozen=True)
class Waypoint:
    """An object that the trajectory goes by: there it is shifted along with that object's start."""

    point: int
    """The object's index among the points of the layout."""
    start_D: np.ndarray
    """Where the object stood at the start of the reference."""
    progress: float
    """How far along the reference it is reached, from 0 to 1."""


@dataclass(frozen=True)
class Reference:
    """What a trajectory says about the way."""

    hand_TD: np.ndarray
    """Where the hand was, one row for each action."""
    actions_TA: np.ndarray
    """What was done there."""
    progress_T: np.ndarray
    """From 0 to 1: how far the first object had been brought, or the hand where nothing was moved."""
    waypoints: tuple[Waypoint, ...]
    """At progress 0 what the trajectory begins relative to; then, in this order, every other object that begins to
    move before the first has come to its end."""
    moved_from: int = 0
    """The first step at which all of them are on their way."""
    held_D: np.ndarray | None = None
    """Where the first object stood at the end, seen from the hand; None if nothing was moved."""


def until_success(trajectory: Trajectory, tail_steps: int) -> Trajectory:
    """Return a trajectory up to so many steps after its first success, or all of it."""
    solved = int(trajectory.successes.argmax()) + 1 if trajectory.success else len(trajectory)
    return trajectory.between(0, solved + tail_steps)


def read_reference(trajectory: Trajectory, layout: ObservationLayout, config: ReferenceConfig) -> Reference:
    """Return the reference of a trajectory up to shortly after its first success, or of all of it."""
    trajectory = until_success(trajectory, config.tail_steps)
    steps = len(trajectory)
    positions_TPD = layout.positions(trajectory.observations.astype(np.float64))
    hand = positions_TPD[:, 0]
    objects = [p for p in range(1, positions_TPD.shape[1]) if positions_TPD[0, p].any()]
    moved = {p: np.linalg.norm(positions_TPD[:, p] - positions_TPD[0, p], axis=-1) for p in objects}
    far = config.moved_steps * layout.hand_step
    touched = {p: int((way > far).argmax()) for p, way in moved.items() if way.max() > far}
    actions = trajectory.actions.astype(np.float64)
    if touched:
        first, *others = sorted(touched, key=touched.__getitem__)
        way = np.maximum.accumulate(moved[first])
        progress = way / way[-1]
        # What begins to move when the first has all but come to its end is not on the way there.
        others = [p for p in others if way[-1] - way[touched[p]] > far]
        waypoints = [Waypoint(first, positions_TPD[0, first], 0.0)]
        waypoints += [Waypoint(p, positions_TPD[0, p], float(progress[touched[p]])) for p in others]
        moved_from = min(max(touched[waypoint.point] for waypoint in waypoints), steps - 1)
        held = positions_TPD[-1, first] - hand[-1]
        return Reference(hand[:-1], actions, progress[:-1], tuple(waypoints), moved_from, held)
    nearest = sorted(objects, key=lambda p: float(np.linalg.norm(positions_TPD[:, p] - hand, axis=-1).min()))[:1]
    way = np.append(0.0, np.linalg.norm(np.diff(hand, axis=0), axis=-1).cumsum())
    progress = way / max(way[-1], 1e-9)
    beside = tuple(Waypoint(p, positions_TPD[0, p], 0.0) for p in nearest)
    return Reference(hand[:-1], actions, progress[:-1], beside)
