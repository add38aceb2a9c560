"""A policy that is told the goal: what is visible, and the way from each thing to the goal, to a mixture of actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.methods.learner import Losses
from wtl.methods.nn.features import ObservationFeatures
from wtl.methods.nn.mixture import Mixture, MixtureHead
from wtl.methods.nn.mlp import two_layers

_LIMIT = 5.0


class GoalNetwork(nn.Module):
    """(..., O) observations and (..., D) goals, which are positions, in; mixtures over actions out."""

    def __init__(self, spec: FamilySpec, width: int, components: int) -> None:
        """Build it. Raises ValueError where goals are not positions."""
        super().__init__()
        layout = spec.layout
        if spec.goal_size != layout.dimensions:
            raise ValueError(
                f"hindsight is for goals that are positions, of {layout.dimensions} numbers; those of {spec.name} have "
                f"{spec.goal_size}"
            )
        self.features = ObservationFeatures(layout)
        self.trunk = two_layers(self.features.size + (len(layout.points) + 1) * layout.dimensions, width)
        self.head = MixtureHead(width, components, spec.action_size)

    def forward(self, observations: Tensor, goals: Tensor) -> Mixture:
        """Return the mixtures (...)."""
        positions, here = self.features.positions(observations)
        ways = (goals[..., None, :] - positions) * here[..., None]
        place = (goals - self.features.middle[0])[..., None, :]
        seen = torch.cat([ways, place], dim=-2) / self.features.scale
        return self.head(
            self.trunk(torch.cat([self.features(observations), seen.clamp(-_LIMIT, _LIMIT).flatten(-2)], -1))
        )


@dataclass(frozen=True)
class GoalLearner:
    """Trains it: the likelihood of what was done, given the goal of the episode."""

    network: GoalNetwork
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`; nobody says what would have been better than what was done."""
        action = -self.network(batch.observations_BQO, batch.goals_BQG).log_probability(batch.actions_BQA).mean()
        return Losses(action, action)
