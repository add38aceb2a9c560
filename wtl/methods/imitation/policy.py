"""The paper's method as a function from contexts to a policy, and the learners of its networks.

The trial policy has watched a demonstration and acts before anything was tried; the retrial policy reads the
demonstration and the trials with their rewards. Both are trained to do what the expert does in the task; trials are
context and are not imitated. Where there is nothing to read at all (regime `none`, attempt 0), a network without
context acts. Source: arXiv 1906.03352.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.data.segments import make_context_batch
from wtl.methods.imitation.config import ImitationConfig
from wtl.methods.learner import Losses
from wtl.methods.nn.acting import ActingConfig, MixturePolicy
from wtl.methods.nn.context_network import ContextNetwork, EncodedContexts
from wtl.methods.nn.mixture import Mixture
from wtl.methods.nn.mlp import MlpNetwork
from wtl.methods.spec import Networks
from wtl.play.noise import NoisyPolicy, OrnsteinUhlenbeckNoise
from wtl.play.policy import Policy

TRIAL, RETRIAL, UNINFORMED = "trial", "retrial", "uninformed"
"""The networks: for contexts without trials, with trials, and with nothing at all."""


@dataclass(frozen=True)
class ContextLearner:
    """Trains a context network: likelihood of the expert's actions, and the hidden goal as a side task."""

    network: ContextNetwork
    goal_loss_weight: float
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        assert batch.context is not None
        encoded = self.network.encode(batch.context, batch.start_BO)
        mixture = self.network.answer(encoded, batch.observations_BQO)
        action = -mixture.log_probability(batch.expert_actions_BQA).mean()
        goal = self.network.goal_error(encoded.goal_BG, batch.goal_BG)
        if batch.context.demonstrations is not None:
            goal = goal + self.network.goal_error(encoded.demonstrated_goal_BG, batch.demonstrated_goal_BG)
        return Losses(action + self.goal_loss_weight * goal, action, goal)


class ImitationMethod:
    """Contexts in, imitating policies out."""

    def __init__(self, config: ImitationConfig, spec: FamilySpec, networks: Networks, source: str) -> None:
        self.config, self.spec, self.networks, self.source = config, spec, networks, source
        for network in networks.values():
            network.eval()

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        """See `Method.adapt`. A context is encoded once for the episode, when the first observation is there.

        Raises:
            ValueError: the network that reads such contexts was not trained.
        """
        readable = [context.newest(self.config.retrial.network.max_trials) for context in contexts]
        with torch.inference_mode():
            answer, acting = self._answer(readable)
        # What has succeeded stays known, however many trials came after it.
        policy = MixturePolicy(acting, answer, seeds, [context.solved for context in contexts])
        scales = [self.config.exploration.scale(context) for context in contexts]
        return NoisyPolicy(policy, OrnsteinUhlenbeckNoise(scales, seeds, self.spec)) if any(scales) else policy

    def _answer(self, contexts: Sequence[Context]) -> tuple[Callable[[Tensor, Tensor], Mixture], ActingConfig]:
        config = self.config
        if not any(context.trials or context.demonstrations for context in contexts):
            mlp = self._network(UNINFORMED)
            return lambda _, observations_RO: mlp(observations_RO), config.uninformed.acting
        reads_trials = bool(contexts[0].trials)
        # While a shared network is not there yet, the trial policy plays attempt 0.
        part = RETRIAL if reads_trials or (config.shared and RETRIAL in self.networks) else TRIAL
        network = self._network(part)
        assert isinstance(network, ContextNetwork)
        batch = make_context_batch(contexts, config.frames, self.spec.reward_scale)
        return EncodedContexts(network, batch).answer, (config.retrial if part == RETRIAL else config.trial).acting

    def _network(self, part: str) -> nn.Module:
        if part not in self.networks:
            read = {TRIAL: "a demonstration and no trials", RETRIAL: "trials"}.get(part, "nothing")
            raise ValueError(
                f"{self.source} has no {part} network, which contexts with {read} need; it was trained for others "
                f"({', '.join(self.networks)})"
            )
        return self.networks[part]


def make_network(config: ImitationConfig, spec: FamilySpec, part: str) -> nn.Module:
    """Return one of the method's networks, with fresh weights."""
    if part == UNINFORMED:
        return MlpNetwork(spec, config.uninformed.width, config.uninformed.components)
    return ContextNetwork((config.retrial if part == RETRIAL else config.trial).network, spec)
