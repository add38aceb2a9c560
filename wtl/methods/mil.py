"""This is the trial policy with: gradient steps on the demonstration in place of reading it. MIL.

Meta-imitation learning: plain cloning whose initial weights are trained such that a step of gradient
descent on one demonstration's (observation, action) pairs makes the policy of that task. It is not an
operator on experience: trials in a context are ignored, so its improvement curve is flat. Trap: the
last frame of a demonstration has no action and reads zeros; a step towards "do nothing" there ruins
the policy. Source: arXiv 1709.04905, with learn2learn's MAML (arXiv 1703.03400).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch, Segments, segments_of
from wtl.methods.learner import Losses, load_weights, save_policy, spec_from_json, spec_to_json
from wtl.methods.nn.acting import ActingConfig, MixtureActor
from wtl.methods.nn.mixture import Mixture
from wtl.methods.nn.mlp import MlpNetwork


@dataclass(frozen=True)
class MilConfig:
    """Sizes, adaptation and behaviour of meta-imitation learning."""

    width: int = 128
    components: int = 5
    inner_lr: float = 0.1
    """alpha of the paper, for its inner loss, the squared error; with a likelihood .03 is the limit and learns less."""
    inner_steps: int = 1
    """Gradient steps on the demonstration, the same in training and in acting."""
    first_order: bool = False
    """Leave the second derivatives out of training: faster, less exact."""
    frames: int = 24
    """Of the demonstration, read when acting; in training the batch has as many as its own config says."""
    acting: ActingConfig = field(default_factory=lambda: ActingConfig("held"))


class Mil:
    """Demonstration in, adapted weights out, one set for each context."""

    method = "mil"
    compiles = False  # gradient steps inside the loss

    def __init__(self, config: MilConfig, spec: FamilySpec, source: str = "untrained") -> None:
        self.config, self.spec, self._source = config, spec, source
        self.network = MlpNetwork(spec, config.width, config.components)
        # What adapts: the features have nothing to learn, so they are computed once for all contexts.
        self._body = nn.Sequential(self.network.trunk, self.network.head)

    @property
    def source(self) -> str:
        """See `Improver.source`."""
        return self._source

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`: of the queries, after adaptation to the demonstration of their context.

        Raises:
            ValueError: the batch has no demonstrations.
        """
        weights = self._adapt(batch.segments, self.config.first_order)
        mixture = self._answer(weights, batch.observations_BQO)
        action = -mixture.log_probability(batch.labels_BQA).mean()
        return Losses(action, action)

    def _adapt(self, segments: Segments | None, first_order: bool) -> dict[str, Tensor]:
        """Weights (B, ...) after the inner steps on B demonstrations; differentiable with respect to `network`."""
        if segments is None or not segments.has_demonstration:
            raise ValueError("mil adapts to a demonstration, got contexts without one; in regime `none` use cloning")
        # Here and not above: learn2learn takes seconds to import, and every worker imports this module.
        from wtl.methods.quiet import learn2learn

        maml = learn2learn.algorithms.MAML(self._body, lr=self.config.inner_lr, first_order=first_order)
        features_BFE = self.network.features(segments.observations_BSFO[:, 0])
        adapted = []
        for features_FE, actions_FA in zip(features_BFE, segments.actions_BSFA[:, 0], strict=True):
            # The last frame has no action; a demonstration shorter than F repeats it.
            weight_F = (actions_FA != 0).any(-1).float()
            learner = maml.clone()
            for _ in range(self.config.inner_steps):
                error_F = (_mean(learner(features_FE)) - actions_FA).square().sum(-1)
                learner.adapt((error_F * weight_F).sum() / weight_F.sum().clamp(min=1))
            adapted.append(dict(learner.module.named_parameters()))
        return {name: torch.stack([weights[name] for weights in adapted]) for name in adapted[0]}

    def _answer(self, weights: Mapping[str, Tensor], observations: Tensor) -> Mixture:
        """Weights (B, ...) and observations (B, ..., O) -> mixtures (B, ...), all in one call."""

        def answer(own: dict[str, Tensor], features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mixture = functional_call(self._body, own, (features,))
            return mixture.logits_M, mixture.means_MA, mixture.log_deviations_MA

        return Mixture(*vmap(answer)(dict(weights), self.network.features(observations)))

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> MixtureActor:
        """See `Improver.actor`. Adapts here, once for the episode; trials are ignored."""
        demonstrations = [Context(context.demonstration) for context in contexts]
        if any(context.demonstration is None for context in demonstrations):
            raise ValueError("mil adapts to a demonstration, got a context without one; in regime `none` use cloning")
        self.network.eval()
        with torch.inference_mode(False), torch.enable_grad():
            adapted = self._adapt(segments_of(demonstrations, self.config.frames, self.spec.reward_scale), True)
        weights = {name: tensor.detach() for name, tensor in adapted.items()}

        def answer(rows_R: Tensor, observations_RO: Tensor) -> Mixture:
            return self._answer({name: tensor[rows_R] for name, tensor in weights.items()}, observations_RO)

        return MixtureActor(self.config.acting, answer, seeds)

    def save(self, directory: Path) -> None:
        """Write the policy's folder."""
        settings = {"config": asdict(self.config), "spec": spec_to_json(self.spec)}
        save_policy(directory, self.method, self.network, settings)

    @classmethod
    def from_description(cls, directory: Path, content: Mapping[str, Any]) -> Mil:
        """The policy that `save` wrote. Raises ValueError if it does not fit."""
        settings = dict(content["config"])
        config = MilConfig(**settings | {"acting": ActingConfig(**settings["acting"])})
        policy = cls(config, spec_from_json(content["spec"]), f"mil {content['sha256'][:12]}")
        load_weights(directory, policy.network)
        return policy


def _mean(mixture: Mixture) -> Tensor:
    """(..., A): one demonstration shows one behaviour, so its mean is what the inner loss moves."""
    return (mixture.logits_M.softmax(-1).unsqueeze(-1) * mixture.means_MA).sum(-2)
