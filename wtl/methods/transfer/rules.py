"""What a success says about where the end goes when the next attempt begins elsewhere.

A rule gives the goal offset for any start: the end stays in place, or it goes along with the start of an object. A
demonstration and every success are each judged from their own start. The end that goes along with an object must do so
in the demonstration and in all successes; the end that stays in place has the same place in all successes, while the
demonstration, whose goal is another one, says nothing about it. Free of learning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wtl.core.episode import Trajectory
from wtl.core.task import ObservationLayout
from wtl.methods.transfer.reference import ReferenceConfig, read_reference


def offsets_after_success(
    demonstration: Trajectory,
    successes: Sequence[Trajectory],
    start_O: np.ndarray,
    layout: ObservationLayout,
    config: ReferenceConfig,
    doubt: float,
) -> np.ndarray:
    """Return (N, D) goal offsets of the demonstration for an episode that begins with `start_O`, the best first.

    Args:
        successes: trials that succeeded, at least one, each from its own start.
        doubt: how far off an end may be that goes along with an object, before "it stays in place" is preferred; in
            the units of positions.
    """
    reference = read_reference(demonstration, layout, config)
    moved = 0 if reference.held_D is None else reference.waypoints[0].point  # the hand, where nothing was moved
    then = layout.positions(demonstration.observations[0].astype(np.float64))
    now = layout.positions(np.asarray(start_O, np.float64))
    end = _end(demonstration, layout, config, moved)
    starts = [layout.positions(trial.observations[0].astype(np.float64)) for trial in successes]
    moves = np.stack([_end(trial, layout, config, moved) - end for trial in successes])

    rules = [(doubt + _spread(moves - moves.mean(axis=0)), moves.mean(axis=0))]
    for point in range(1, len(layout.points)):
        if all(positions[point].any() for positions in (then, now, *starts)):
            off = moves - np.stack([positions[point] - then[point] for positions in starts])
            rules.append((_spread(off), now[point] - then[point]))
    return np.stack([offset for _, offset in sorted(rules, key=lambda rule: rule[0])])


def _end(trajectory: Trajectory, layout: ObservationLayout, config: ReferenceConfig, point: int) -> np.ndarray:
    """Return (D,): where a point was when the task was last solved, at most shortly after the first success.

    Later it has come nearer to the goal, unless it has only passed by.
    """
    solved = np.flatnonzero(trajectory.successes[: int(trajectory.successes.argmax()) + 1 + config.tail_steps])
    end = int(solved[-1]) + 1 if len(solved) else len(trajectory)
    return layout.positions(trajectory.observations[end].astype(np.float64))[point]


def _spread(away_ND: np.ndarray) -> float:
    return float(np.sqrt(np.square(away_ND).sum(axis=-1).mean()))
