"""Hindsight: a policy that is told the goal and learns from its own failures alone, without an expert.

It collects episodes, relabels each with goals that it did reach, imitates itself on the way to them, and does so again.
Sources: Hindsight Experience Replay (arXiv 1707.01495); its supervised form, GCSL (arXiv
1912.06088). Trap: what never moves is never relabelled, so all depends on exploration that moves it.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from wtl.core.task import FamilySpec, Regime, TaskDistribution
from wtl.data.meta_batches import Needs
from wtl.data.store import EpisodeStore
from wtl.methods.hindsight.config import HindsightConfig
from wtl.methods.hindsight.exploration import Exploring
from wtl.methods.hindsight.network import GoalLearner, GoalNetwork
from wtl.methods.hindsight.paths import with_paths, worth_imitating
from wtl.methods.learner import Learner
from wtl.methods.nn.acting import ActingConfig, MixturePolicy
from wtl.methods.nn.mixture import Mixture
from wtl.methods.spec import Collection, FirstPlayer, MethodSpec, Networks, Phase, Reads, Variant
from wtl.play.policy import Attempt, Player, Policy

__all__ = ["SPEC", "HindsightConfig"]

POLICY = "policy"


@dataclass(frozen=True)
class GoalPlayer:
    """A `Player` that sees the goal of each episode, and explores on the way to it if it is asked to."""

    config: HindsightConfig
    network: GoalNetwork | None
    """None: there is no policy yet, and all is exploration."""
    explores: bool
    source: str

    def policy(self, attempt: Attempt) -> Policy:
        """See `Player.policy`."""
        policy = self._goal_policy(attempt) if self.network is not None else None
        if policy is not None and not self.explores:
            return policy
        return Exploring(self.config, attempt.family.spec, policy, attempt.seeds)

    def _goal_policy(self, attempt: Attempt) -> Policy:
        network = self.network
        assert network is not None
        network.eval()
        goals: dict[int, np.ndarray] = {}

        def answer(rows_R: Tensor, observations_RO: Tensor) -> Mixture:
            for row in rows_R.tolist():
                if row not in goals:  # read when its environment has been reset, and fixed from then on
                    goals[row] = np.asarray(attempt.family.goal(attempt.environments[row]), np.float32)
            return network(observations_RO, torch.from_numpy(np.stack([goals[row] for row in rows_R.tolist()])))

        return MixturePolicy(ActingConfig("likeliest"), answer, attempt.seeds)


def _network(config: HindsightConfig, spec: FamilySpec, part: str) -> GoalNetwork:
    return GoalNetwork(spec, config.width, config.components)


def _learner(config: HindsightConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    assert isinstance(network, GoalNetwork)
    return GoalLearner(network)


def _made(explores: bool, config: HindsightConfig, networks: Networks, source: str) -> GoalPlayer:
    network = networks.get(POLICY)
    assert network is None or isinstance(network, GoalNetwork)
    return GoalPlayer(config, network, explores, source)


def _player(config: HindsightConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return _made(False, config, networks, source)


def _wanderer(config: HindsightConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return _made(True, config, {}, source)


def _explorer(config: HindsightConfig, tasks: TaskDistribution, shown: EpisodeStore, networks: Networks) -> Player:
    return _made(True, config, networks, "hindsight, exploring")


def _phases(config: HindsightConfig, regime: Regime) -> tuple[Phase, ...]:
    settings = asdict(config)
    del settings["rounds"]
    played = {name: value for name, value in settings.items() if name != "train"}
    return tuple(
        Phase(
            name=f"{POLICY}-{number}",
            part=POLICY,
            train=config.train,
            needs=Needs(context=False),
            settings=settings,
            collection=Collection(
                round_number=number,
                retries=False,
                labelled=False,
                player=FirstPlayer(_explorer, played),
                kept=functools.partial(with_paths, config),
            ),
            start_from=POLICY if number else "",
            demonstrations=False,
            chosen=functools.partial(worth_imitating, config),
        )
        for number in range(config.rounds)
    )


SPEC = MethodSpec(
    name="hindsight",
    summary="A policy that is told the goal, trained on its own episodes relabelled with what they reached, no expert.",
    config=HindsightConfig,
    player=_player,
    reads=Reads(demonstrations="ignored"),
    network=_network,
    learner=_learner,
    phases=_phases,
    variants={"exploration": Variant("Exploration alone: what chance is worth.", _wanderer)},
)
