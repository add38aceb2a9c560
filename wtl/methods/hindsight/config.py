"""What can be set about hindsight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from wtl.core.bounds import Between, Bounded, Components, Positive, Rounds, Share, Steps, Width
from wtl.data.meta_batches import BatchConfig
from wtl.methods.learner import TrainConfig

Goals = Literal["reached", "random", "none"]


def _train() -> TrainConfig:
    return TrainConfig(steps=600, learning_rate=2e-3, batch=BatchConfig(contexts=256, queries=2, translation=0.0))


@dataclass(frozen=True)
class WanderConfig(Bounded):
    """How an episode is explored: the hand goes from waypoint to waypoint, and nobody knows what for."""

    near: Share = 0.6
    """Share of the waypoints that lie at something visible; the others lie anywhere around the hand."""
    near_steps: Positive = 2.0
    """Standard deviation along each axis about what is visible, in hand steps."""
    far_steps: Positive = 15.0
    """The same about the hand."""
    shortest_steps: Steps = 10
    """The shortest time for which one waypoint, and one effort of the gripper, is held."""
    longest_steps: Steps = 40
    """The longest."""
    slowest: Annotated[float, Between(0, 1, open_low=True)] = 0.05
    """The smallest gain, as a share of that with which the hand would be at the waypoint in one step."""
    fastest: Annotated[float, Between(0, 1, open_low=True)] = 0.3
    """The largest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for low, high in (("shortest_steps", "longest_steps"), ("slowest", "fastest")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} must be at most {high}, got {getattr(self, low)} and {getattr(self, high)}")


@dataclass(frozen=True)
class HindsightConfig(Bounded):
    """A policy that is told the goal and learns from its own episodes alone, each relabelled with what it reached."""

    relabel: Goals = "reached"
    """Whose goals the own episodes are imitated for: those that they reached; goals that other episodes reached (a
    control: the same paths and goals, paired at random); or none but the commanded one (a control: only what succeeded
    is imitated, and everything as long as nothing has)."""
    goals_per_episode: Annotated[int, Between(1, 1000)] = 4
    """Goals with which each episode is relabelled; those that it met from its first step on are left out."""
    path_steps: Steps = 60
    """The longest path to a goal that is imitated; each is cut to a length between 1 and this one."""
    rounds: Rounds = 4
    """How often episodes are collected, relabelled and learned from; the first time by exploration alone."""
    explore: Share = 0.3
    """Share of the time in which collected episodes explore instead of following the policy, in later rounds."""
    explore_steps: Steps = 60
    """The longest time for which one of the two is in charge."""
    wander: WanderConfig = field(default_factory=WanderConfig)
    """How episodes are explored."""
    width: Width = 128
    """Units of each hidden layer."""
    components: Components = 4
    """M, of the mixture."""
    train: TrainConfig = field(default_factory=_train)
    """The training of each round, which goes on from the weights of the round before."""
