"""A policy without context: features, two hidden layers, a mixture over actions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.methods.learner import Losses
from wtl.methods.nn.features import ObservationFeatures
from wtl.methods.nn.mixture import Mixture, MixtureHead


def two_layers(size: int, width: int) -> nn.Sequential:
    """Return two hidden layers, (..., size) -> (..., width)."""
    return nn.Sequential(
        nn.Linear(size, width), nn.LayerNorm(width), nn.GELU(),
        nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(),
    )  # fmt: skip


class MlpNetwork(nn.Module):
    """(..., O) observations in, mixtures over actions out."""

    def __init__(self, spec: FamilySpec, width: int, components: int) -> None:
        super().__init__()
        self.features = ObservationFeatures(spec.layout)
        self.trunk = two_layers(self.features.size, width)
        self.head = MixtureHead(width, components, spec.action_size)

    def forward(self, observations: Tensor) -> Mixture:
        """Return the mixtures (...) of observations (..., O)."""
        return self.head(self.trunk(self.features(observations)))


@dataclass(frozen=True)
class MlpLearner:
    """Trains a policy without context: likelihood of the expert's actions, or of what was done."""

    network: MlpNetwork
    expert: bool = True
    """Whether the labels are what the expert would do, and not what was done."""
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        labels = batch.expert_actions_BQA if self.expert else batch.actions_BQA
        action = -self.network(batch.observations_BQO).log_probability(labels).mean()
        return Losses(action, action)
