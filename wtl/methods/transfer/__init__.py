"""Object-relative trajectory transfer, with a goal offset that a network infers from demonstration and trials.

The network (`scorer`) is learned; the controller is written by hand. Sources: trajectory transfer (MT3, arXiv
2511.10110) for the controller; Implicit Behavioral Cloning (arXiv 2109.00137) for the scorer's loss.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, replace

from torch import nn

from wtl.core.task import FamilySpec, Regime, TaskDistribution
from wtl.data.store import EpisodeStore
from wtl.methods.learner import Learner
from wtl.methods.spec import FirstPlayer, MethodSpec, Networks, Phase, Reads
from wtl.methods.transfer.baselines import BLIND, TOLD
from wtl.methods.transfer.config import TransferConfig
from wtl.methods.transfer.controller import TransferPolicy
from wtl.methods.transfer.learned import LEARNED
from wtl.methods.transfer.method import ScorerLearner, TransferMethod
from wtl.methods.transfer.misled import make_misled
from wtl.methods.transfer.scorer import OffsetScorer
from wtl.methods.transfer.tracking import Tracking
from wtl.methods.transfer.training import SCORER, refuse_regime_none, scorer_phases
from wtl.play.policy import FromContext, Player

__all__ = ["BLIND", "LEARNED", "SPEC", "TOLD", "TransferConfig", "TransferMethod"]


def _network(config: TransferConfig, spec: FamilySpec, part: str) -> OffsetScorer:
    return OffsetScorer(config.scorer, spec)


def _learner(config: TransferConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    assert isinstance(network, OffsetScorer)
    return ScorerLearner(network)


def _player(config: TransferConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    scorer = networks[SCORER]
    assert isinstance(scorer, OffsetScorer)
    return FromContext(TransferMethod(config, spec, scorer, _track(config), source))


def _phases(config: TransferConfig, regime: Regime) -> tuple[Phase, ...]:
    refuse_regime_none(regime, "trajectory_transfer")
    settings = asdict(config)
    del settings["rounds"]
    played = {"controller": settings["controller"], "misled_steps": config.misled_steps}
    return scorer_phases(config, settings, FirstPlayer(_misled, played))


def _misled(config: TransferConfig, tasks: TaskDistribution, shown: EpisodeStore, networks: Networks) -> Player:
    return make_misled(config, _track(config), tasks, shown)


def _track(config: TransferConfig) -> Tracking:
    return functools.partial(TransferPolicy, config.controller)


def _headline(config: TransferConfig) -> dict[str, str | int | float]:
    return {
        "rounds": config.rounds,
        "width": config.scorer.width,
        "steps": config.train.steps,
        "learning_rate": config.train.learning_rate,
        "contexts": config.train.batch.contexts,
        "frames": config.frames,
    }


SPEC = MethodSpec(
    name="trajectory_transfer",
    summary="The demonstrated trajectory, warped by a goal offset that a network infers from demonstration and trials.",
    config=TransferConfig,
    player=_player,
    reads=Reads(demonstrations="required", trials=True),
    network=_network,
    learner=_learner,
    phases=_phases,
    headline=_headline,
    one_walk=lambda config: replace(config, controller=replace(config.controller, tries=1)),
)
