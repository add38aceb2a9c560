"""What a ranker is used for: to give trajectories rewards where there is no reward function.

Its rewards get their scale from the demonstration: 0 is how it began, the family's largest reward how it ended. A trial
never says that it succeeded, because without a reward function nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from wtl.core.episode import Context, Trajectory
from wtl.core.task import FamilySpec
from wtl.data.segments import SETTLE_STEPS
from wtl.methods.drex.network import Ranker
from wtl.play.policy import Method, Policy

_ENDING_STEPS = 5


@dataclass(frozen=True)
class RankedRewards:
    """The rewards of a ranker."""

    ranker: Ranker
    spec: FamilySpec

    @torch.inference_mode()
    def rewards(self, trajectory: Trajectory, demonstration: Trajectory) -> np.ndarray:
        """Return (T,) rewards as they come out of the network, whose scale and zero mean nothing."""
        self.ranker.eval()
        states = torch.tensor(trajectory.observations[1:])
        settled = trajectory.observations[min(SETTLE_STEPS, len(trajectory))]
        around = (settled, demonstration.observations[0], demonstration.observations[-1])
        found = self.ranker(states, *(torch.tensor(x).expand_as(states) for x in around))
        return found.numpy().astype(np.float64)

    def mean_reward(self, trajectory: Trajectory, demonstration: Trajectory) -> float:
        """Return the predicted return of an episode by its length, which is what episodes are ranked by."""
        return float(self.rewards(trajectory, demonstration).mean())

    def best(self, trajectories: Sequence[Trajectory], demonstration: Trajectory) -> int:
        """Return the index of the trajectory that is ranked first."""
        return int(np.argmax([self.mean_reward(trajectory, demonstration) for trajectory in trajectories]))

    def relabelled(self, context: Context) -> Context:
        """Return a context with these rewards in place of the true ones, and without successes of its trials.

        Where the demonstration does not end better than it began, the ranker does not know the task, and the trials say
        nothing of their outcome. Raises ValueError for a context without a demonstration.
        """
        shown = context.demonstration
        if shown is None:
            raise ValueError("a ranked reward is relative to a demonstration, but the context has none")
        raw = self.rewards(shown, shown)
        low, high = float(raw[0]), float(raw[-_ENDING_STEPS:].mean())

        def scaled(trajectory: Trajectory) -> np.ndarray:
            share = (self.rewards(trajectory, shown) - low) / (high - low)
            return self.spec.reward_scale * np.clip(share, 0.0, 1.0)

        if high <= low:
            return context.with_trials(Trajectory.with_outcome_masked)
        demonstrations = tuple(replace(shown_, rewards=scaled(shown_)) for shown_ in context.demonstrations)
        trials = tuple(
            replace(trial, rewards=scaled(trial), successes=np.zeros(len(trial), bool)) for trial in context.trials
        )
        return replace(context, demonstrations=demonstrations, trials=trials)


@dataclass(frozen=True)
class WithRankedRewards:
    """A `Method` that reads ranked rewards in place of the true ones, for instance what `wtl.load` returns."""

    method: Method
    rewards: RankedRewards

    @property
    def source(self) -> str:
        """The method's."""
        return f"{self.method.source}, ranked rewards"

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        """See `Method.adapt`. Raises ValueError for a context without a demonstration."""
        return self.method.adapt([self.rewards.relabelled(context) for context in contexts], seeds)


@dataclass(frozen=True)
class WithoutRewards:
    """A `Method` whose trials say nothing of their outcome."""

    method: Method

    @property
    def source(self) -> str:
        """The method's."""
        return f"{self.method.source}, no rewards"

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        """See `Method.adapt`."""
        return self.method.adapt([c.with_trials(Trajectory.with_outcome_masked) for c in contexts], seeds)
