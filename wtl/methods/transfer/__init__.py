"""Object-relative trajectory transfer, with a goal offset that a network infers from demonstration and trials.

The network (`scorer`) is learned; the controller is written by hand. Sources: trajectory transfer (MT3, arXiv
2511.10110) for the controller; Implicit Behavioral Cloning (arXiv 2109.00137) for the scorer's loss.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from torch import nn

from wtl.core.task import FamilySpec, Regime
from wtl.data.meta_batches import Needs
from wtl.methods.learner import Learner
from wtl.methods.spec import Collection, FirstPlayer, MethodSpec, Networks, Phase, Reads
from wtl.methods.transfer.baselines import BLIND, TOLD
from wtl.methods.transfer.config import TransferConfig
from wtl.methods.transfer.method import ScorerLearner, TransferMethod
from wtl.methods.transfer.misled import make_misled
from wtl.methods.transfer.scorer import OffsetScorer
from wtl.play.policy import FromContext, Player

__all__ = ["BLIND", "SPEC", "TOLD", "TransferConfig", "TransferMethod"]

_SCORER = "scorer"


def _network(config: TransferConfig, spec: FamilySpec, part: str) -> OffsetScorer:
    return OffsetScorer(config.scorer, spec)


def _learner(config: TransferConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    assert isinstance(network, OffsetScorer)
    return ScorerLearner(network)


def _player(config: TransferConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    scorer = networks[_SCORER]
    assert isinstance(scorer, OffsetScorer)
    return FromContext(TransferMethod(config, spec, scorer, source))


def _phases(config: TransferConfig, regime: Regime) -> tuple[Phase, ...]:
    if regime == "none":
        raise ValueError("trajectory_transfer needs something to follow; in regime `none` choose another method")
    settings = asdict(config)
    del settings["rounds"]
    misled = FirstPlayer(make_misled, {"controller": settings["controller"], "misled_steps": config.misled_steps})
    return tuple(
        Phase(
            name=f"scorer-{number}",
            part=_SCORER,
            train=config.later_train if number else config.train,
            needs=Needs(
                trials=(0, config.later_trials_in_context if number else config.first_trials_in_context),
                frames=config.frames,
            ),
            settings=settings,
            collection=Collection(number, retries=number > 0, labelled=False, player=None if number else misled),
            start_from=_SCORER if number else "",
        )
        for number in range(config.rounds)
    )


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
