"""A policy without context: features, two hidden layers, a mixture over actions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.methods.learner import Losses
from wtl.methods.nn.features import ObservationFeatures
from wtl.methods.nn.mixture import Mixture, MixtureHead


class MlpNetwork(nn.Module):
    """(..., O) observations in, mixtures over actions out."""

    def __init__(self, spec: FamilySpec, width: int, components: int) -> None:
        super().__init__()
        self.features = ObservationFeatures(spec.layout)
        self.trunk = nn.Sequential(
            nn.Linear(self.features.size, width), nn.LayerNorm(width), nn.GELU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(),
        )  # fmt: skip
        self.head = MixtureHead(width, components, spec.action_size)

    def forward(self, observations: Tensor) -> Mixture:
        """Return the mixtures (...) of observations (..., O)."""
        return self.head(self.trunk(self.features(observations)))


@dataclass(frozen=True)
class MlpLearner:
    """Trains a policy without context: likelihood of the expert's actions."""

    network: MlpNetwork
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        action = -self.network(batch.observations_BQO).log_probability(batch.expert_actions_BQA).mean()
        return Losses(action, action)
