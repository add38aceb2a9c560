"""This module computes what a recorded path would have earned if the goal had been elsewhere, with the same bits.

Rewards depend on fingers, contacts and effort, which observations do not hold. So the actions are replayed once, and at
each step Meta-World's own reward function is asked for every goal: physics, the dearest part, is paid once. Traps: some
reward functions remember things (bin-picking keeps its first distance), so each goal has a judge of its own; and a
goal that was stored in single precision is not quite the one that was rewarded. Source: metaworld 3.1.1.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from wtl.core.episode import Episode
from wtl.core.relabelling import Outcomes
from wtl.tasks.metaworld.environment import VISIBLE, MetaWorldEnvironment

if TYPE_CHECKING:
    from wtl.tasks.metaworld.family import MetaWorldFamily

FINGERS_BELOW_HAND = np.array([0.0, 0.0, 0.045])
"""Metres from the middle of the finger tips up to the hand."""
_KEPT_ENVIRONMENTS = 8


@functools.lru_cache(maxsize=_KEPT_ENVIRONMENTS)
def _kept_environment(family: MetaWorldFamily) -> MetaWorldEnvironment:
    return family.make_environment()


def replayed_outcomes(family: MetaWorldFamily, episode: Episode, goals: np.ndarray) -> Outcomes:
    """Return that of `MetaWorldFamily.outcomes`."""
    if family.reward_version != "v2":
        raise ValueError(f"episodes with rewards {family.reward_version} cannot be relabelled; set reward_version v2")
    environment, path = _kept_environment(family), episode.trajectory
    environment.reset(options={"task": episode.task})
    judges = [_judge(environment.sawyer, goal) for goal in np.asarray(goals)]
    rewards, successes = np.zeros((len(judges), len(path)), np.float32), np.zeros((len(judges), len(path)), np.bool_)
    for t, action in enumerate(path.actions):
        environment.step(action)
        observation = environment.full_observation
        if not np.array_equal(observation[:VISIBLE].astype(np.float32), path.observations[t + 1]):
            raise ValueError(
                f"the episode of task {episode.task.name} cannot be relabelled: it takes another path at step {t} when "
                "it is replayed; expected one that was played without noise, by these versions"
            )
        for n, judge in enumerate(judges):
            reward, info = judge.evaluate_state(observation, action)
            rewards[n, t], successes[n, t] = float(reward), bool(info["success"])
    return Outcomes(rewards, successes)


def _judge(sawyer: Any, goal: np.ndarray) -> Any:
    """Return a stand-in for the environment with another goal: the same simulator, attributes of its own."""
    judge = object.__new__(type(sawyer))
    judge.__dict__.update(sawyer.__dict__)
    own = np.asarray(sawyer._target_pos)
    if not np.array_equal(np.asarray(goal, np.float32), own.astype(np.float32)):
        judge._target_pos = np.asarray(goal, own.dtype)
    return judge
