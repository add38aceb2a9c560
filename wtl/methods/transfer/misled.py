"""Who plays the first trials: trajectory transfer that is told the goals of other tasks.

Its episodes miss as honest hypotheses do, so they are what the scorer has to read before it can play itself. It sees
the tasks (it must know which goals are not theirs), so it is a `Player` and no `Method`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wtl.core.rng import stream
from wtl.core.task import TaskDistribution
from wtl.data.store import EpisodeStore
from wtl.methods.transfer.config import InferenceConfig
from wtl.methods.transfer.tracking import Tracking, TrackingPolicy
from wtl.play.policy import Attempt, Session

TRIES = 16
"""Wrong goals that an episode can try one after another."""


@dataclass(frozen=True)
class MisledTransfer:
    """A `Player` that follows demonstrations to the goals of other tasks of the family."""

    track: Tracking
    """How a demonstration is followed."""
    near: float
    """A goal within this distance of a task's own is not another one, in the units of positions."""
    goal_of: Mapping[str, np.ndarray]
    """The goal of each task, by its name."""
    goals: Mapping[str, np.ndarray]
    """All goals (N, D) of each family."""
    source: str = "misled transfer"

    def policy(self, attempt: Attempt) -> TrackingPolicy:
        """See `Player.policy`. Raises ValueError for a session without a demonstration."""
        references = [session.context.demonstration for session in attempt.sessions]
        shown = [reference for reference in references if reference is not None]
        if len(shown) < len(references):
            raise ValueError(
                f"trajectory transfer needs a demonstration, got {len(references) - len(shown)} contexts without; "
                "in regime `none` choose another method"
            )
        offsets = np.stack([self._elsewhere(session) for session in attempt.sessions])
        layout = attempt.family.spec.layout
        return self.track(layout, shown, lambda rows, _: offsets[rows], attempt.seeds)

    def _elsewhere(self, session: Session) -> np.ndarray:
        """Return (TRIES, D) offsets from the demonstration's goal to those of other tasks, drawn at random."""
        goals, own = self.goals[session.task.family], self.goal_of.get(session.task.name)
        if own is not None:
            far = np.linalg.norm(goals - own, axis=-1) > self.near
            goals = goals[far] if far.any() else goals
        chosen = stream(session.seed, "astray").integers(len(goals), size=TRIES)
        return goals[chosen] - session.demonstrations[0].goal


def make_misled(
    config: InferenceConfig, track: Tracking, distribution: TaskDistribution, demonstrations: EpisodeStore
) -> MisledTransfer:
    """Return the player, which knows the goals of all demonstrated tasks but the test tasks."""
    goal_of: dict[str, np.ndarray] = {}
    of_family: dict[str, list[np.ndarray]] = {}
    for record in demonstrations.records:
        if record.task.split != "test":
            goal = np.array(record.goal, np.float32)
            goal_of[record.task.name] = goal
            of_family.setdefault(record.task.family, []).append(goal)
    goals = {family: np.stack(found) for family, found in of_family.items()}
    near = config.misled_steps * distribution.spec.layout.hand_step
    return MisledTransfer(track, near, goal_of, goals)
