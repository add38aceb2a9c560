"""Watch-Try-Learn as in the paper: a trial and a retrial policy that imitate experts (arXiv 1906.03352).

Beyond the paper: further rounds, in which the retrial policy's own attempts become trials, labelled by the expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from wtl.core.task import FamilySpec, Regime
from wtl.data.meta_batches import Needs
from wtl.methods.imitation.config import ImitationConfig
from wtl.methods.imitation.policy import (
    RETRIAL,
    TRIAL,
    UNINFORMED,
    ContextLearner,
    ImitationMethod,
    make_network,
)
from wtl.methods.learner import Learner
from wtl.methods.nn.context_network import ContextNetwork
from wtl.methods.nn.mlp import MlpLearner, MlpNetwork
from wtl.methods.spec import Collection, MethodSpec, Networks, Phase, Reads
from wtl.play.policy import FromContext, Player

__all__ = ["SPEC", "ImitationConfig", "ImitationMethod"]


def _player(config: ImitationConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return FromContext(ImitationMethod(config, spec, networks, source))


def _learner(config: ImitationConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    if isinstance(network, MlpNetwork):
        return MlpLearner(network)
    assert isinstance(network, ContextNetwork)
    return ContextLearner(network, (config.retrial if part == RETRIAL else config.trial).goal_loss_weight)


def _phases(config: ImitationConfig, regime: Regime) -> tuple[Phase, ...]:
    settings = asdict(config)
    rounds = settings["retrial"].pop("rounds")
    if regime == "none" and config.shared:
        raise ValueError("shared needs something to watch before attempt 0; in regime `none` set it to false")
    part, train = (UNINFORMED, config.uninformed.train) if regime == "none" else (TRIAL, config.trial.train)
    before_trials = {name: value for name, value in settings.items() if name != "retrial"}
    first = Phase(TRIAL, part, train, Needs(frames=config.frames), before_trials)
    return (first, *(_round(config, settings, number) for number in range(rounds)))


def _round(config: ImitationConfig, settings: Mapping[str, Any], number: int) -> Phase:
    retrial = config.retrial
    most = retrial.later_trials_in_context if number else retrial.first_trials_in_context
    before = RETRIAL if number else (TRIAL if config.shared else "")
    return Phase(
        name=f"retrial-{number}",
        part=RETRIAL,
        train=retrial.later_train if number else retrial.train,
        needs=Needs(trials=(0 if config.shared else 1, most), frames=config.frames),
        settings=settings,
        collection=Collection(round_number=number, retries=number > 0, labelled=True),
        start_from=before,
    )


def _headline(config: ImitationConfig) -> dict[str, str | int | float]:
    batch = config.retrial.train.batch
    return {
        "rounds": config.retrial.rounds,
        "width": config.retrial.network.width,
        "steps": config.retrial.train.steps,
        "learning_rate": config.retrial.train.learning_rate,
        "contexts": batch.contexts,
        "queries": batch.queries,
        "frames": config.frames,
    }


SPEC = MethodSpec(
    name="imitation",
    summary="The paper's method: a trial and a retrial policy that imitate experts step by step.",
    config=ImitationConfig,
    player=_player,
    reads=Reads(demonstrations="optional", trials=True),
    network=make_network,
    learner=_learner,
    phases=_phases,
    headline=_headline,
)
