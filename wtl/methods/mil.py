"""Meta-imitation learning (MIL): gradient steps on the demonstration in place of reading it.

Plain cloning whose initial weights are trained such that a step of gradient descent on one demonstration's
(observation, action) pairs makes the policy of that task. Trials in a context are ignored. Trap: the last frame of
a demonstration has no action and reads zeros; a step towards "do nothing" there ruins the policy.
Source: arXiv 1709.04905, with learn2learn's MAML (arXiv 1703.03400).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from wtl.core.bounds import Between, Bounded, Components, Frames, Width
from wtl.core.episode import Context
from wtl.core.task import FamilySpec, Regime
from wtl.data.meta_batches import Batch, BatchConfig, Needs
from wtl.data.segments import ContextBatch, make_context_batch
from wtl.methods.learner import Learner, Losses, TrainConfig
from wtl.methods.nn.acting import ActingConfig, MixturePolicy
from wtl.methods.nn.mixture import Mixture
from wtl.methods.nn.mlp import MlpNetwork
from wtl.methods.spec import MethodSpec, Networks, Phase, Reads
from wtl.play.policy import FromContext, Player


@dataclass(frozen=True)
class MilConfig(Bounded):
    """Sizes, adaptation, behaviour and training of meta-imitation learning."""

    width: Width = 128
    """Units of each hidden layer."""
    components: Components = 5
    """M, of the mixture."""
    inner_lr: Annotated[float, Between(0, 100, open_low=True)] = 0.1
    """alpha of the paper, for its inner loss, the squared error; with a likelihood .03 is the limit and learns less."""
    inner_steps: Annotated[int, Between(0, 1000)] = 1
    """Gradient steps on the demonstration, the same in training and in acting."""
    first_order: bool = False
    """Leave the second derivatives out of training: faster, less exact."""
    frames: Frames = 24
    """F, of the demonstration."""
    acting: ActingConfig = field(default_factory=lambda: ActingConfig("held"))
    """How an action is chosen."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=500, batch=BatchConfig(contexts=16, queries=32))
    )
    """The outer loop."""


class Adaptation:
    """Demonstrations in, adapted weights out, one set for each context."""

    def __init__(self, config: MilConfig, network: MlpNetwork) -> None:
        self._config, self._network = config, network
        # What adapts: the features have nothing to learn, so they are computed once for all contexts.
        self._body = nn.Sequential(network.trunk, network.head)

    def adapt(self, context: ContextBatch | None, first_order: bool) -> dict[str, Tensor]:
        """Return weights (B, ...) after the inner steps, differentiable with respect to the network.

        Raises:
            ValueError: the contexts have no demonstrations.
        """
        if context is None or context.demonstrations is None:
            raise ValueError("mil adapts to a demonstration, got contexts without one; in regime `none` use cloning")
        maml = _maml(self._body, self._config.inner_lr, first_order)
        features_BFE = self._network.features(context.demonstrations.observations_BSFO[:, 0])
        adapted = []
        for features_FE, actions_FA in zip(features_BFE, context.demonstrations.actions_BSFA[:, 0], strict=True):
            # The last frame has no action; a demonstration shorter than F repeats it.
            weight_F = (actions_FA != 0).any(-1).float()
            learner = maml.clone()
            for _ in range(self._config.inner_steps):
                error_F = (_mean(learner(features_FE)) - actions_FA).square().sum(-1)
                learner.adapt((error_F * weight_F).sum() / weight_F.sum().clamp(min=1))
            adapted.append(dict(learner.module.named_parameters()))
        return {name: torch.stack([weights[name] for weights in adapted]) for name in adapted[0]}

    def answer(self, weights: Mapping[str, Tensor], observations: Tensor) -> Mixture:
        """Return mixtures (B, ...) for weights (B, ...) and observations (B, ..., O), all in one call."""

        def answer(own: dict[str, Tensor], features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mixture = functional_call(self._body, own, (features,))
            return mixture.logits_M, mixture.means_MA, mixture.log_deviations_MA

        return Mixture(*vmap(answer)(dict(weights), self._network.features(observations)))


@dataclass(frozen=True)
class MilLearner:
    """The outer loop: the loss of the queries after adaptation to the demonstration of their context."""

    config: MilConfig
    network: MlpNetwork
    compiles: bool = False  # gradient steps inside the loss

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`. Raises ValueError if the batch has no demonstrations."""
        adaptation = Adaptation(self.config, self.network)
        mixture = adaptation.answer(adaptation.adapt(batch.context, self.config.first_order), batch.observations_BQO)
        action = -mixture.log_probability(batch.expert_actions_BQA).mean()
        return Losses(action, action)


@dataclass(frozen=True)
class Mil:
    """A `Method` that adapts once for the episode and ignores trials."""

    config: MilConfig
    spec: FamilySpec
    network: MlpNetwork
    source: str

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> MixturePolicy:
        """See `Method.adapt`. Raises ValueError for a context without a demonstration."""
        demonstrations = [replace(c, demonstrations=c.demonstrations[:1], trials=()) for c in contexts]
        self.network.eval()
        adaptation = Adaptation(self.config, self.network)
        batch = make_context_batch(demonstrations, self.config.frames, self.spec.reward_scale)
        with torch.inference_mode(False), torch.enable_grad():
            adapted = adaptation.adapt(batch, True)
        weights = {name: tensor.detach() for name, tensor in adapted.items()}

        def answer(rows_R: Tensor, observations_RO: Tensor) -> Mixture:
            return adaptation.answer({name: tensor[rows_R] for name, tensor in weights.items()}, observations_RO)

        return MixturePolicy(self.config.acting, answer, seeds)


def _maml(network: nn.Module, rate: float, first_order: bool) -> Any:
    # Here and not above: learn2learn takes seconds to import, and every worker imports this module. gym, which it
    # drags in and nobody uses, prints a page at import unless its notices are emptied.
    import gym_notices.notices

    gym_notices.notices.notices.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import learn2learn
    return learn2learn.algorithms.MAML(network, lr=rate, first_order=first_order)


def _mean(mixture: Mixture) -> Tensor:
    """Return (..., A): one demonstration shows one behaviour, so its mean is what the inner loss moves."""
    return (mixture.logits_M.softmax(-1).unsqueeze(-1) * mixture.means_MA).sum(-2)


def _network(config: MilConfig, spec: FamilySpec, part: str) -> MlpNetwork:
    return MlpNetwork(spec, config.width, config.components)


def _learner(config: MilConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    assert isinstance(network, MlpNetwork)
    return MilLearner(config, network)


def _player(config: MilConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    network = networks["policy"]
    assert isinstance(network, MlpNetwork)
    return FromContext(Mil(config, spec, network, source))


def _phases(config: MilConfig, regime: Regime) -> tuple[Phase, ...]:
    return (Phase("train", "policy", config.train, Needs(frames=config.frames), asdict(config)),)


SPEC = MethodSpec(
    name="mil",
    summary="Meta-imitation learning: gradient steps on the demonstration (MAML).",
    config=MilConfig,
    player=_player,
    reads=Reads(demonstrations="required"),
    network=_network,
    learner=_learner,
    phases=_phases,
    requires=("learn2learn",),
)
