"""A reward from a noise ladder alone: what is done with more noise is worse, and nothing else is known.

- `drex` (arXiv 1907.03976): a network whose sums over snippets rank them as the ladder does (Bradley-Terry);
- `ssrr` (arXiv 2010.11723): a sigmoid of the noise is fitted to the scores of the ranking, and a network is regressed
  onto the sigmoid. Unlike there, the first reward is the ranking's and not that of adversarial imitation;
- `shuffled_drex`, the control: the rungs are dealt out anew among the episodes of each task.

Each plays, too: it does the trial that it ranks first once more, with noise, and the demonstration at first. That is a
search with a learned reward and not more; a method that learns from rewards can read them instead
(`wtl.methods.drex.rewards.WithRankedRewards`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import nn

from wtl.core.episode import Context
from wtl.core.task import FamilySpec, Regime
from wtl.data.meta_batches import Needs
from wtl.methods.drex.config import RankingConfig
from wtl.methods.drex.ladder import Ladder
from wtl.methods.drex.network import Ranker, RankerLearner
from wtl.methods.drex.rewards import RankedRewards, WithoutRewards, WithRankedRewards
from wtl.methods.learner import Learner
from wtl.methods.spec import MethodSpec, Networks, Phase, Reads
from wtl.play.noise import NoiseConfig, NoisyPolicy, OrnsteinUhlenbeckNoise
from wtl.play.open_loop import Recorded
from wtl.play.policy import FromContext, Player

__all__ = ["SPECS", "RankedRewards", "RankingConfig", "WithRankedRewards", "WithoutRewards"]

RANKER = "ranker"


@dataclass(frozen=True)
class ShuffledConfig(RankingConfig):
    """A ladder whose rungs say nothing."""

    shuffled: bool = True
    """Whether the rungs are dealt out anew among the episodes of each task."""


@dataclass(frozen=True)
class BestRanked:
    """A `Method` that does the trial that is ranked first once more, with noise; the demonstration without a trial."""

    config: RankingConfig
    rewards: RankedRewards
    source: str

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> NoisyPolicy:
        """See `Method.adapt`. Raises ValueError for a context without a demonstration."""
        chosen = []
        for context in contexts:
            if context.demonstration is None:
                raise ValueError(f"{self.source} ranks by a demonstration, got a context without one")
            known = context.trials or context.demonstrations[:1]
            chosen.append(known[self.rewards.best(known, context.demonstration)].actions)
        noise = NoiseConfig(self.config.noise)
        scales = [noise.scale] * len(contexts)
        return NoisyPolicy(
            Recorded(chosen, self.source), OrnsteinUhlenbeckNoise(scales, seeds, self.rewards.spec, noise)
        )


def _network(config: RankingConfig, spec: FamilySpec, part: str, fits_sigmoid: bool) -> Ranker:
    return Ranker(config, spec, fits_sigmoid)


def _learner(config: RankingConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    assert isinstance(network, Ranker)
    return RankerLearner(network, config)


def _player(config: RankingConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    network = networks[RANKER]
    assert isinstance(network, Ranker)
    return FromContext(BestRanked(config, RankedRewards(network, spec), source))


def _phases(config: RankingConfig, regime: Regime) -> tuple[Phase, ...]:
    if regime == "none":
        raise ValueError("a ranked reward is relative to a demonstration; in regime `none` choose another method")
    settings = asdict(config)
    del settings["noise"]  # of playing alone
    needs = Needs(frames=config.frames, window_steps=config.snippet_steps)
    ladder = Ladder(config.least_noise, config.shuffled)
    return (Phase("train", RANKER, config.train, needs, settings, graded=ladder),)


def _spec(name: str, config: type, summary: str, fits_sigmoid: bool = False) -> MethodSpec:
    return MethodSpec(
        name=name,
        summary=summary,
        config=config,
        player=_player,
        reads=Reads(demonstrations="required", trials=True),
        network=functools.partial(_network, fits_sigmoid=fits_sigmoid),
        learner=_learner,
        phases=_phases,
    )


SPECS = (
    _spec("drex", RankingConfig, "A reward ranked from a noise ladder; repeats the trial that it ranks first."),
    _spec("ssrr", RankingConfig, "The same, regressed onto a sigmoid of the noise.", fits_sigmoid=True),
    _spec("shuffled_drex", ShuffledConfig, "The control of `drex`: the rungs of its ladder are shuffled."),
)
