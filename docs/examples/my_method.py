"""A complete trained method: it reads where the demonstration ended and where a trial was rewarded most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wtl.core.episode import Context
from wtl.core.task import FamilySpec, Regime
from wtl.data.meta_batches import Batch, Needs
from wtl.data.segments import ContextBatch, make_context_batch
from wtl.methods.learner import Losses, TrainConfig
from wtl.methods.spec import Collection, MethodSpec, Networks, Phase, Reads
from wtl.play.policy import FromContext, Player, StepBatch


@dataclass(frozen=True)
class MyConfig:
    """Sizes and trainings; `wtl run toy method=my_method:SPEC methods.mine.width=32` sets one of them."""

    width: int = 64
    frames: int = 8
    trial: TrainConfig = field(default_factory=lambda: TrainConfig(steps=600, learning_rate=3e-3))
    retrial: TrainConfig = field(default_factory=lambda: TrainConfig(steps=600, learning_rate=3e-3))


class Network(nn.Module):
    """(R, O) observations and (R, 2 O) summaries of their contexts in, (R, A) actions out."""

    def __init__(self, config: MyConfig, spec: FamilySpec) -> None:
        super().__init__()
        size, width = spec.layout.size, config.width
        self.layers = nn.Sequential(
            nn.Linear(3 * size, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, spec.action_size), nn.Tanh(),
        )  # fmt: skip

    def forward(self, observations: Tensor, summaries: Tensor) -> Tensor:
        """Return the actions."""
        return self.layers(torch.cat([observations, summaries], dim=-1))


def summarise(context: ContextBatch) -> Tensor:
    """Return (B, 2 O): the demonstration's last frame, and the frame of the newest trial with the highest reward.

    Some training batches come without a demonstration (`BatchConfig.no_demonstration`), and attempt 0 without trials;
    what is not there reads zeros.
    """
    last_BO = best_BO = torch.zeros_like(context.all.observations_BSFO[:, 0, 0])
    if context.demonstrations is not None:
        last_BO = context.demonstrations.observations_BSFO[:, 0, -1]
    if context.trials is not None:
        best_B = context.trials.rewards_BSF[:, -1].argmax(dim=-1)
        best_BO = context.trials.observations_BSFO[torch.arange(len(best_B)), -1, best_B]
    return torch.cat([last_BO, best_BO], dim=-1)


@dataclass(frozen=True)
class MyLearner:
    """A `Learner`: the squared error of the expert's actions."""

    network: Network
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """There is nothing to normalise here."""

    def loss(self, batch: Batch) -> Losses:
        """Return the loss of one meta-batch."""
        assert batch.context is not None
        queries = batch.observations_BQO.shape[1]
        summaries = summarise(batch.context)[:, None].expand(-1, queries, -1)
        error = self.network(batch.observations_BQO, summaries) - batch.expert_actions_BQA
        return Losses(error.square().mean())


@dataclass(frozen=True)
class MyPolicy:
    """A `Policy`: one summary a row."""

    network: Network
    summaries: Tensor

    @torch.inference_mode()
    def act(self, step: StepBatch) -> np.ndarray:
        """Return the actions of the rows still running."""
        observations = torch.from_numpy(step.observations.astype(np.float32))
        return self.network(observations, self.summaries[step.rows]).numpy()


@dataclass(frozen=True)
class MyMethod:
    """A `Method`: contexts in, a policy out."""

    config: MyConfig
    spec: FamilySpec
    networks: Networks
    source: str

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> MyPolicy:
        """Return the policy of one context a row."""
        network = self.networks["retrial" if contexts[0].trials else "trial"]
        assert isinstance(network, Network)
        batch = make_context_batch(contexts, self.config.frames, self.spec.reward_scale)
        return MyPolicy(network.eval(), summarise(batch))


def _player(config: MyConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return FromContext(MyMethod(config, spec, networks, source))


def _network(config: MyConfig, spec: FamilySpec, part: str) -> Network:
    return Network(config, spec)


def _learner(config: MyConfig, spec: FamilySpec, part: str, network: Any) -> MyLearner:
    return MyLearner(network)


def _phases(config: MyConfig, regime: Regime) -> tuple[Phase, ...]:
    settings = asdict(config)
    watching = Phase("trial", "trial", config.trial, Needs(frames=config.frames), settings)
    trying = Phase(
        "retrial", "retrial", config.retrial, Needs(trials=(1, 1), frames=config.frames), settings,
        collection=Collection(round_number=0, retries=False, labelled=True),
    )  # fmt: skip
    return watching, trying


SPEC = MethodSpec(
    name="mine",
    summary="Where the demonstration ended, and where a trial was rewarded most.",
    config=MyConfig,
    player=_player,
    reads=Reads(demonstrations="required", trials=True),
    network=_network,
    learner=_learner,
    phases=_phases,
)
