"""Players that look at nothing: random actions, and recorded actions done once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wtl.core.rng import stream
from wtl.play.policy import Attempt, Policy, StepBatch


@dataclass(frozen=True)
class RandomActions:
    """A `Player` of uniformly random actions, drawn anew at each step."""

    source: str = "random"

    def policy(self, attempt: Attempt) -> Policy:
        """See `Player.policy`."""
        return _RandomPolicy(
            [stream(seed, "random actions") for seed in attempt.seeds], attempt.family.spec.action_size
        )


@dataclass(frozen=True)
class _RandomPolicy:
    generators: Sequence[np.random.Generator]
    action_size: int

    def act(self, step: StepBatch) -> np.ndarray:
        return np.stack([self.generators[row].uniform(-1.0, 1.0, self.action_size) for row in step.rows.tolist()])


@dataclass(frozen=True)
class Recorded:
    """A `Player` that does recorded actions once more, whatever it sees; the last one is repeated to the end."""

    actions: Sequence[np.ndarray]
    """(T, A) each, one a row of the attempt."""
    source: str

    def policy(self, attempt: Attempt) -> Recorded:
        """See `Player.policy`. Raises ValueError if there are not as many recordings as episodes."""
        if len(self.actions) != len(attempt.sessions):
            raise ValueError(f"{self.source} has {len(self.actions)} recordings for {len(attempt.sessions)} episodes")
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        return np.stack([self.actions[row][min(step.number, len(self.actions[row]) - 1)] for row in step.rows.tolist()])
