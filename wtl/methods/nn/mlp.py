"""A policy without context: features, two hidden layers, a mixture over actions."""

from __future__ import annotations

from torch import Tensor, nn

from wtl.core.task import FamilySpec
from wtl.methods.nn.features import ObservationFeatures
from wtl.methods.nn.mixture import Mixture, MixtureHead


class MlpNetwork(nn.Module):
    """(..., O) observations -> mixtures over actions."""

    def __init__(self, spec: FamilySpec, width: int, components: int) -> None:
        super().__init__()
        self.features = ObservationFeatures(spec.layout)
        self.trunk = nn.Sequential(
            nn.Linear(self.features.size, width), nn.LayerNorm(width), nn.GELU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(),
        )  # fmt: skip
        self.head = MixtureHead(width, components, spec.action_size)

    def forward(self, observations: Tensor) -> Mixture:
        """See the class."""
        return self.head(self.trunk(self.features(observations)))
