"""Policies that are asked for a return, learned from graded episodes by supervised learning.

They model all behaviour, good and bad, together with what came of it, and are then asked for the best. One network and
one configuration make all of them; they differ in the command, in how many steps they see, and in what they learn from:

- `decision_transformer` (arXiv 2106.01345), with the demonstration as prompt (Prompt-DT, arXiv 2206.13499);
- one step at a time: `reward_conditioned` (arXiv 1912.13465), `upside_down_rl` (desired return and horizon, arXiv
  1912.02877), `rvs` (mean return of what is left, arXiv 2112.10751);
- to compare with: cloning of the same episodes (`graded_cloning`) and of their best tenth (`best_tenth_cloning`);
- the control: `shuffled_returns`, a decision transformer whose commands in training are those of other episodes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from torch import nn

from wtl.core.bounds import Between, Share
from wtl.core.task import FamilySpec, Regime
from wtl.data.grades import Best, everything
from wtl.data.meta_batches import Needs
from wtl.methods.learner import Learner
from wtl.methods.returns.config import Command, ReturnsConfig
from wtl.methods.returns.network import ReturnLearner, ReturnNetwork
from wtl.methods.returns.policy import ReturnMethod
from wtl.methods.spec import MethodSpec, Networks, Phase, Reads
from wtl.play.policy import FromContext, Player

__all__ = ["SPECS", "ReturnsConfig"]

_PART = "policy"


@dataclass(frozen=True)
class DecisionTransformerConfig(ReturnsConfig):
    """A window of steps."""

    window_steps: Annotated[int, Between(1, 1000)] = 5
    """W, the steps that it sees, the present one last."""


@dataclass(frozen=True)
class ShuffledReturnsConfig(DecisionTransformerConfig):
    """A decision transformer that can learn nothing from returns."""

    returns: Literal["true", "shuffled"] = "shuffled"
    """What the commands are in training."""


@dataclass(frozen=True)
class UpsideDownConfig(ReturnsConfig):
    """One step, desired return and horizon."""


@dataclass(frozen=True)
class RewardConditionedConfig(ReturnsConfig):
    """One step, the return to go."""

    command: Command = "return_to_go"
    """What it is asked for."""


@dataclass(frozen=True)
class RvsConfig(ReturnsConfig):
    """One step, the mean reward of what is left."""

    command: Command = "mean_return"
    """What it is asked for."""


@dataclass(frozen=True)
class GradedCloningConfig(ReturnsConfig):
    """One step, no command."""

    command: Command = "none"
    """What it is asked for."""
    acting: Literal["sampled", "likeliest"] = "likeliest"
    """How it acts: what it has seen most is the best that it knows."""


@dataclass(frozen=True)
class BestTenthConfig(GradedCloningConfig):
    """The same on the best episodes."""

    best_share: Share = 0.1
    """The share of each family's graded episodes that is learned from."""


def _network(config: ReturnsConfig, spec: FamilySpec, part: str) -> ReturnNetwork:
    return ReturnNetwork(config, spec)


def _learner(config: ReturnsConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    assert isinstance(network, ReturnNetwork)
    return ReturnLearner(network)


def _player(config: ReturnsConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    network = networks[_PART]
    assert isinstance(network, ReturnNetwork)
    return FromContext(ReturnMethod(config, spec, network, source))


def _phases(config: ReturnsConfig, regime: Regime) -> tuple[Phase, ...]:
    reads_prompt = regime != "none" and config.prompt_frames > 0
    needs = Needs(context=reads_prompt, frames=max(config.prompt_frames, 1), window_steps=config.window_steps)
    chosen = everything if config.best_share == 1.0 else Best(config.best_share)
    return (Phase("train", _PART, config.train, needs, asdict(config), graded=chosen),)


def _spec(name: str, config: type, summary: str) -> MethodSpec:
    return MethodSpec(
        name=name,
        summary=summary,
        config=config,
        player=_player,
        reads=Reads(demonstrations="optional", desired_return=config().command != "none"),
        network=_network,
        learner=_learner,
        phases=_phases,
    )


SPECS = (
    _spec(
        "decision_transformer",
        DecisionTransformerConfig,
        "Asked for a return: a causal transformer over returns-to-go, observations and actions.",
    ),
    _spec("reward_conditioned", RewardConditionedConfig, "Asked for a return, one step at a time."),
    _spec("upside_down_rl", UpsideDownConfig, "Asked for a return within a horizon, one step at a time."),
    _spec("rvs", RvsConfig, "Asked for a mean reward, one step at a time."),
    _spec("graded_cloning", GradedCloningConfig, "Cloning of all graded episodes, asked for nothing."),
    _spec("best_tenth_cloning", BestTenthConfig, "Cloning of the best tenth of each family's graded episodes."),
    _spec(
        "shuffled_returns",
        ShuffledReturnsConfig,
        "The decision transformer's control: its commands in training are those of other episodes.",
    ),
)
