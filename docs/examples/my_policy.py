"""A policy that somebody already has, and a method that reads trials and is not trained; both with all curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.methods.spec import Reads
from wtl.methods.wrapped import wrap_method, wrap_policy
from wtl.play.policy import StepBatch


class TheirPolicy:
    """Somebody's object; this one goes straight on for ever."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return (R, A) actions for (R, O) observations."""
        return np.tile([1.0, 0.0], (len(observations), 1))


SPEC = wrap_policy("theirs", TheirPolicy)


@dataclass(frozen=True)
class BestTrial:
    """A `Method` that plays again the actions of the best trial, and at first those of the demonstration.

    It is its own `Policy`: one list of actions a row.
    """

    source: str = "best_trial"
    actions: tuple[np.ndarray, ...] = ()

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> BestTrial:
        """Return the policy of one context a row."""
        shown = [context.trials or context.demonstrations for context in contexts]
        best = [max(trajectories, key=lambda t: float(t.rewards.sum())) for trajectories in shown]
        return BestTrial(self.source, tuple(trajectory.actions for trajectory in best))

    def act(self, step: StepBatch) -> np.ndarray:
        """Return the actions of the rows still running; the last one is held."""
        return np.stack([self.actions[row][min(step.number, len(self.actions[row]) - 1)] for row in step.rows])


def _best_trial(spec: FamilySpec) -> BestTrial:
    return BestTrial()


BEST_TRIAL = wrap_method("best_trial", _best_trial, Reads(demonstrations="required", trials=True))
