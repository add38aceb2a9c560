"""This is the trial policy with: gradient steps on the demonstration in place of reading it. MIL.

Meta-imitation learning: plain cloning whose initial weights are trained such that a step of gradient
descent on one demonstration's (observation, action) pairs makes the policy of that task. It is not an
operator on experience: trials in a context are ignored, so its improvement curve is flat. Trap: the
last frame of a demonstration has no action and reads zeros; a step towards "do nothing" there ruins
the policy. Source: arXiv 1709.04905, section 4, with learn2learn's MAML (arXiv 1703.03400).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import learn2learn
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from wtl.batch import Batch, Segments, segments_of
from wtl.episode import Context
from wtl.learner import Losses, load_weights, save_policy, spec_from_json, spec_to_json
from wtl.nn.acting import ActingConfig, MixtureActor
from wtl.nn.mixture import Mixture
from wtl.nn.mlp import MlpNetwork
from wtl.task import FamilySpec


@dataclass(frozen=True)
class MilConfig:
    """Sizes, adaptation and behaviour of meta-imitation learning."""

    width: int = 128
    components: int = 5
    inner_lr: float = 0.05
    """alpha of the paper; its loss is a squared error, ours a likelihood with steeper slopes."""
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

    def __init__(self, config: MilConfig, spec: FamilySpec, source: str = "untrained") -> None:
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
        """See `Learner.loss`: of the queries, after adaptation to the demonstration of their context.

        Raises:
            ValueError: the batch has no demonstrations.
        """
        adapted = self._adapt(batch.segments, self.config.first_order)
        mixtures = [network(observations) for network, observations in zip(adapted, batch.observations_BQO, strict=True)]
        likelihoods = [m.log_probability(labels).mean() for m, labels in zip(mixtures, batch.labels_BQA, strict=True)]
        action = -torch.stack(likelihoods).mean()
        return Losses(action, action)

    def _adapt(self, segments: Segments | None, first_order: bool) -> list[nn.Module]:
        """One network a context, after the inner steps; differentiable with respect to `network`."""
        if segments is None or not segments.has_demonstration:
            raise ValueError("mil adapts to a demonstration, got contexts without one; in regime `none` use cloning")
        maml = learn2learn.algorithms.MAML(self.network, lr=self.config.inner_lr, first_order=first_order)
        adapted = []
        for observations_FO, actions_FA in zip(segments.observations_BSFO[:, 0], segments.actions_BSFA[:, 0], strict=True):
            # The last frame has no action; a demonstration shorter than F repeats it.
            weight_F = (actions_FA != 0).any(-1).float()
            learner = maml.clone()
            for _ in range(self.config.inner_steps):
                likelihood_F = learner(observations_FO).log_probability(actions_FA)
                learner.adapt(-(likelihood_F * weight_F).sum() / weight_F.sum().clamp(min=1))
            adapted.append(learner.module)
        return adapted

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> MixtureActor:
        """See `Improver.actor`. Adapts here, once for the episode; trials are ignored."""
        demonstrations = [Context(context.demonstration) for context in contexts]
        if any(context.demonstration is None for context in demonstrations):
            raise ValueError("mil adapts to a demonstration, got a context without one; in regime `none` use cloning")
        self.network.eval()
        with torch.enable_grad():
            adapted = self._adapt(segments_of(demonstrations, self.config.frames, self.spec.reward_scale), True)
        own = [dict(network.named_parameters()) for network in adapted]
        stacked = {name: torch.stack([weights[name].detach() for weights in own]) for name in own[0]}
        return MixtureActor(self.config.acting, _Rows(self.network, stacked), seeds)

    def save(self, directory: Path) -> None:
        """Write the policy's folder."""
        save_policy(directory, self.method, self.network, {"config": asdict(self.config), "spec": spec_to_json(self.spec)})

    @classmethod
    def from_description(cls, directory: Path, content: Mapping[str, Any]) -> Mil:
        """The policy that `save` wrote. Raises ValueError if it does not fit."""
        settings = dict(content["config"])
        config = MilConfig(**settings | {"acting": ActingConfig(**settings["acting"])})
        policy = cls(config, spec_from_json(content["spec"]), f"mil {content['sha256'][:12]}")
        load_weights(directory, policy.network)
        return policy


class _Rows:
    """Each row of observations answered by its own weights, all rows in one call."""

    def __init__(self, network: MlpNetwork, stacked: Mapping[str, Tensor]) -> None:
        self._network, self._all = network, stacked
        self._rows: Tensor | None = None
        self._chosen: dict[str, Tensor] = {}

    def __call__(self, rows_R: Tensor, observations_RO: Tensor) -> Mixture:
        if self._rows is None or not torch.equal(rows_R, self._rows):
            # Rows change only when an episode ends, and gathering weights costs more than using them.
            self._rows, self._chosen = rows_R.clone(), {name: weights[rows_R] for name, weights in self._all.items()}
        return Mixture(*vmap(self._answer)(self._chosen, observations_RO))

    def _answer(self, weights: dict[str, Tensor], observation_O: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixture = functional_call(self._network, weights, (observation_O,))
        return mixture.logits_M, mixture.means_MA, mixture.log_deviations_MA
