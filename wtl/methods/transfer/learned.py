"""Trajectory transfer whose controller is learned: the method, and its controller told the true goal."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from wtl.core.episode import Trajectory
from wtl.core.task import FamilySpec, ObservationLayout, Regime, TaskDistribution
from wtl.data.meta_batches import Needs
from wtl.data.store import EpisodeStore
from wtl.methods.learner import Learner
from wtl.methods.spec import Collection, FirstPlayer, MethodSpec, Networks, Phase, Reads, Variant
from wtl.methods.transfer.baselines import BlindConfig, BlindSearch, ToldGoal
from wtl.methods.transfer.config import LearnedConfig
from wtl.methods.transfer.copier import Copier
from wtl.methods.transfer.copying import CopierLearner, CopyingPolicy, Lapses
from wtl.methods.transfer.method import ScorerLearner, TransferMethod
from wtl.methods.transfer.misled import make_misled
from wtl.methods.transfer.scorer import OffsetScorer
from wtl.methods.transfer.tracking import Hypotheses, Tracking
from wtl.methods.transfer.training import SCORER, refuse_regime_none, scorer_phases
from wtl.play.noise import Expert, NoiseConfig, NoisyPolicy, OrnsteinUhlenbeckNoise
from wtl.play.policy import Attempt, FromContext, Player, Policy

CONTROL = "control"


def _network(config: LearnedConfig, spec: FamilySpec, part: str) -> nn.Module:
    return Copier(config.copier, spec) if part == CONTROL else OffsetScorer(config.scorer, spec)


def _learner(config: LearnedConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    if part == CONTROL:
        assert isinstance(network, Copier)
        return CopierLearner(network, config.sight_noise_steps)
    assert isinstance(network, OffsetScorer)
    return ScorerLearner(network)


def _track(config: LearnedConfig, networks: Networks, tries: int | None = None) -> Tracking:
    network = networks[CONTROL]
    assert isinstance(network, Copier)
    copying = config.copying if tries is None else replace(config.copying, tries=tries)
    return functools.partial(CopyingPolicy, copying, network)


def _player(config: LearnedConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    if SCORER not in networks:  # while the controller is trained
        return ToldGoal(_track(config, networks), source)
    scorer = networks[SCORER]
    assert isinstance(scorer, OffsetScorer)
    return FromContext(TransferMethod(config, spec, scorer, _track(config, networks), source))


def _told(config: LearnedConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return ToldGoal(_track(config, networks, tries=1), f"{source}, told the goal")


def _blind(config: LearnedConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return FromContext(BlindSearch(BlindConfig(), spec, _track(config, networks), f"{source}, blind"))


# Who plays what the networks are trained on.


def _noisy_expert(config: LearnedConfig, tasks: TaskDistribution, shown: EpisodeStore, networks: Networks) -> Player:
    return Expert(NoiseConfig(config.expert_noise, varied=True))


class _Disturbed:
    """The controller told the true goal, with noise and lapses, so that it meets what it has to recover from."""

    def __init__(self, told: ToldGoal, noise: NoiseConfig) -> None:
        self._told, self._noise, self.source = told, noise, told.source

    def policy(self, attempt: Attempt) -> Policy:
        """See `Player.policy`."""
        scales = [self._noise.scale] * len(attempt.seeds)
        noise = OrnsteinUhlenbeckNoise(scales, attempt.seeds, attempt.family.spec, self._noise)
        return NoisyPolicy(self._told.policy(attempt), noise)


def _disturbed(config: LearnedConfig, tasks: TaskDistribution, shown: EpisodeStore, networks: Networks) -> Player:
    return _Disturbed(
        ToldGoal(functools.partial(_lapsing, _track(config, networks)), "disturbed control"),
        NoiseConfig(config.own_noise, varied=True),
    )


def _lapsing(
    track: Tracking, layout: ObservationLayout, references: Sequence[Trajectory], hypotheses: Hypotheses,
    seeds: Sequence[int],
) -> Lapses:  # fmt: skip
    return Lapses(track(layout, references, hypotheses, seeds), seeds)


def _misled(config: LearnedConfig, tasks: TaskDistribution, shown: EpisodeStore, networks: Networks) -> Player:
    return make_misled(config, _track(config, networks), tasks, shown)


# How it is trained.


def _control_phase(config: LearnedConfig, settings: dict[str, Any], number: int) -> Phase:
    names = ["copier", "copying", "expert_noise", "own_noise", "sight_noise_steps", "control_tasks", "control_train"]
    names += ["later_control_train", "last_control_train"] if number else []
    own = {name: settings[name] for name in names}
    player = FirstPlayer(_disturbed, own) if number else FirstPlayer(_noisy_expert, {"noise": config.expert_noise})
    last = number == config.control_rounds and number > 0
    train = config.last_control_train if last else config.later_control_train if number else config.control_train
    collection = Collection(
        number, retries=False, labelled=True, player=player, tasks=config.control_tasks if number else None,
        other_starts=True,
    )  # fmt: skip
    return Phase(
        name=f"{CONTROL}-{number}",
        part=CONTROL,
        train=train,
        needs=Needs(trials=(0, 0), frames=config.copier.frames),
        settings=own,
        collection=collection,
        start_from=CONTROL if number else "",
    )


def _phases(config: LearnedConfig, regime: Regime) -> tuple[Phase, ...]:
    refuse_regime_none(regime, LEARNED.name)
    settings = asdict(config)
    control = tuple(_control_phase(config, settings, number) for number in range(config.control_rounds + 1))
    played = {"copying": settings["copying"], "misled_steps": config.misled_steps}
    scoring = dict(settings)
    del scoring["rounds"]
    return (*control, *scorer_phases(config, scoring, FirstPlayer(_misled, played), len(control)))


def _headline(config: LearnedConfig) -> dict[str, str | int | float]:
    return {
        "rounds": config.control_rounds,
        "width": config.copier.width,
        "steps": config.last_control_train.steps,
        "learning_rate": config.last_control_train.learning_rate,
        "contexts": config.last_control_train.batch.contexts,
        "frames": config.copier.frames,
    }


LEARNED = MethodSpec(
    name="learned_transfer",
    summary="The demonstrated trajectory, warped by an inferred goal offset and followed by a learned controller.",
    config=LearnedConfig,
    player=_player,
    reads=Reads(demonstrations="required", trials=True),
    network=_network,
    learner=_learner,
    phases=_phases,
    headline=_headline,
    variants={
        "told_goal": Variant("Told the true goal, one walk: what control alone is worth.", _told),
        "blind_search": Variant("Offsets that nothing was read for: what luck is worth.", _blind),
    },
    one_walk=lambda config: replace(config, copying=replace(config.copying, tries=1)),
)
