"""Played toy episodes, and tiny settings of every trained method, shared by the tests of methods."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import nn

from wtl.core.episode import Context, Episode, Role
from wtl.core.task import Regime
from wtl.data.grades import EXPERT, Grade, with_grade
from wtl.data.meta_batches import Batch, MetaBatches
from wtl.methods import drex, ladder, returns
from wtl.methods.cloning import CloningConfig
from wtl.methods.hindsight import HindsightConfig
from wtl.methods.imitation.config import (
    ExplorationConfig,
    ImitationConfig,
    RetrialConfig,
    TrialConfig,
    UninformedConfig,
)
from wtl.methods.mil import MilConfig
from wtl.methods.nn.context_network import NetworkConfig
from wtl.methods.spec import MethodSpec, Phase
from wtl.methods.transfer.config import LearnedConfig, TransferConfig
from wtl.methods.transfer.copier import CopierConfig
from wtl.methods.transfer.scorer import ScorerConfig
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings, play
from wtl.tasks.toy import COLOURS, ToyFamily

FAMILY = ToyFamily("probe-red")
REGIMES: tuple[Regime, ...] = get_args(Regime)
_NETWORK = NetworkConfig(width=16, heads=2, encoder_layers=1, reader_layers=1, components=3, max_trials=2)
SMALL: Mapping[str, Any] = {
    "imitation": ImitationConfig(
        frames=4, exploration=ExplorationConfig(0.25, 0.125), trial=TrialConfig(_NETWORK),
        retrial=RetrialConfig(_NETWORK), uninformed=UninformedConfig(16, 3),
    ),
    "trajectory_transfer": TransferConfig(ScorerConfig(width=16, negatives=8, proposals=40), hypotheses=4, frames=4),
    "learned_transfer": LearnedConfig(
        ScorerConfig(width=16, negatives=8, proposals=40), hypotheses=4, frames=4,
        copier=CopierConfig(frames=6, width=12, heads=2, copied=4, hidden=16, ahead_frames=(1, 2)), control_rounds=1,
    ),
    **{
        spec.name: ladder.LadderConfig(
            frames=4, start=ladder.StartConfig(16, 3), network=replace(_NETWORK, components=1, max_trials=1)
        )
        for spec in ladder.SPECS
    },
    "cloning": CloningConfig(16, 3),
    "mil": MilConfig(16, 3, inner_lr=0.05, frames=4),
    **{
        spec.name: replace(spec.config(), width=16, heads=2, layers=1, components=2, prompt_frames=4)
        for spec in returns.SPECS
    },
    "hindsight": HindsightConfig(width=16, components=3, rounds=2),
    **{
        spec.name: replace(spec.config(), width=16, frames=4, snippet_steps=6, stride_steps=2, apart_steps=20)
        for spec in drex.SPECS
    },
}  # fmt: skip
"""Methods that are not named here are tested with their defaults."""


def small(spec: MethodSpec) -> Any:
    """Return tiny settings of a method, other ones than its defaults where they are known here."""
    return SMALL.get(spec.name, spec.config())


@functools.cache
def toy_episodes(role: Role, count: int = 6, attempt: int = 0) -> tuple[Episode, ...]:
    """Return one episode by a noisy expert of each of the first training tasks of both families, labelled."""
    episodes: list[Episode] = []
    for name in COLOURS:
        family = ToyFamily(name)
        tasks = family.sample_tasks(count, 0, "train")
        sessions = [Session(task, Context(), (), 10 * attempt + i) for i, task in enumerate(tasks)]
        seeds = [session.seed for session in sessions]
        environments = [family.make_environment() for _ in tasks]
        begun = Attempt(family, environments, sessions, [session.context for session in sessions], seeds, attempt)
        settings = RolloutSettings(family.spec.horizon_steps, ask_expert=True, role=role)
        episodes += play(begun, Expert(NoiseConfig(0.3)), settings)
    return tuple(episodes)


def phases_of(spec: MethodSpec, config: Any) -> list[tuple[Regime, Phase]]:
    """Return the phases of a method in all regimes in which it can be trained."""
    found: list[tuple[Regime, Phase]] = []
    for regime in REGIMES:
        try:
            found += [(regime, phase) for phase in spec.phases(config, regime)]
        except ValueError:
            continue
    return found


def networks_of(spec: MethodSpec, config: Any, seed: int = 0) -> dict[str, nn.Module]:
    """Return every network that some regime trains, with fresh weights and normalised inputs."""
    torch.manual_seed(seed)
    networks: dict[str, nn.Module] = {}
    for _, phase in phases_of(spec, config):
        if phase.part not in networks:
            assert spec.network is not None and spec.learner is not None
            network = spec.network(config, FAMILY.spec, phase.part)
            observations = torch.cat([torch.tensor(e.trajectory.observations) for e in toy_episodes("demonstration")])
            spec.learner(config, FAMILY.spec, phase.part, network).fit_features(observations)
            networks[phase.part] = network
    return networks


def tiny_batch(phase: Phase, regime: Regime) -> Batch:
    """Return a meta-batch of four contexts as this phase reads them."""
    episodes = [*toy_episodes("demonstration")]
    asked_about = int(phase.needs.queries != "any")
    for attempt in range(max(phase.needs.trials[1] + asked_about, 2 * int(phase.graded is not None))):
        episodes += toy_episodes("trial", attempt=attempt)
    if phase.graded:
        rungs = itertools.count(1)
        episodes = [with_grade(e, Grade(EXPERT, next(rungs))) if e.role == "trial" else e for e in episodes]
    config = replace(phase.train.batch, contexts=4, queries=2)
    if regime == "goal":  # every goal twice: the same tasks from another start
        episodes += [_other_start(episode) for episode in episodes]
    return MetaBatches(config, phase.needs, episodes, FAMILY.spec, regime=regime, seed=0)(0)


def _other_start(episode: Episode) -> Episode:
    return replace(episode, task=FAMILY_OF[episode.task.family].with_other_start(episode.task, 1))


FAMILY_OF = {name: ToyFamily(name) for name in COLOURS}


def some_contexts(demonstrations: bool, trials: int, count: int = 3) -> list[Context]:
    """Return contexts of the first tasks, each with the demonstration of the next one."""
    shown = [e.trajectory for e in toy_episodes("demonstration")]
    tried = [[e.trajectory for e in toy_episodes("trial", attempt=attempt)] for attempt in range(trials)]
    return [
        Context((shown[i + 1],) if demonstrations else (), tuple(replace_success(rows[i]) for rows in tried))
        for i in range(count)
    ]


def replace_success(trajectory: Any) -> Any:
    """Return a trajectory whose end was no success, so that there is something left to look for."""
    return replace(trajectory, successes=trajectory.successes & False)


def attempt_of(contexts: Sequence[Context], seeds: Sequence[int] | None = None) -> Attempt:
    """Return an attempt at the first tasks, about to be played with these contexts."""
    tasks = FAMILY.sample_tasks(len(contexts), 0, "train")
    demonstrations = toy_episodes("demonstration")
    sessions = [
        Session(task, context, (demonstrations[i + 1],) if context.demonstrations else (), i)
        for i, (task, context) in enumerate(zip(tasks, contexts, strict=True))
    ]
    environments = [FAMILY.make_environment() for _ in tasks]
    return Attempt(FAMILY, environments, sessions, contexts, seeds or range(len(tasks)), len(contexts[0].trials))
