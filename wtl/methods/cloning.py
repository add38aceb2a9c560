"""This is the trial policy with: no context. Plain behaviour cloning over all training tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.methods.learner import Losses, load_weights, save_policy, spec_from_json, spec_to_json
from wtl.methods.nn.acting import ActingConfig, MixtureActor
from wtl.methods.nn.mlp import MlpNetwork


@dataclass(frozen=True)
class CloningConfig:
    """Sizes and behaviour of the cloning baseline."""

    width: int = 128
    components: int = 5
    acting: ActingConfig = field(default_factory=lambda: ActingConfig("held"))


class Cloning:
    """Observation in, action out; contexts are ignored."""

    method = "cloning"
    compiles = True

    def __init__(self, config: CloningConfig, spec: FamilySpec, source: str = "untrained") -> None:
        self.config, self.spec, self._source = config, spec, source
        self.network = MlpNetwork(spec, config.width, config.components)

    @property
    def source(self) -> str:
        """See `Improver.source`."""
        return self._source

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        action = -self.network(batch.observations_BQO).log_probability(batch.labels_BQA).mean()
        return Losses(action, action)

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> MixtureActor:
        """See `Improver.actor`."""
        self.network.eval()
        return MixtureActor(self.config.acting, lambda _, observations: self.network(observations), seeds)

    def save(self, directory: Path) -> None:
        """Write the policy's folder."""
        save_policy(
            directory, self.method, self.network, {"config": asdict(self.config), "spec": spec_to_json(self.spec)}
        )

    @classmethod
    def from_description(cls, directory: Path, content: Mapping[str, Any]) -> Cloning:
        """The policy that `save` wrote. Raises ValueError if it does not fit."""
        settings = dict(content["config"])
        config = CloningConfig(**settings | {"acting": ActingConfig(**settings["acting"])})
        policy = cls(config, spec_from_json(content["spec"]), f"cloning {content['sha256'][:12]}")
        load_weights(directory, policy.network)
        return policy
