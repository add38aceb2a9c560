"""Attempt after attempt: play, keep the trial, read it, play again. Free of torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.rng import seed_for
from wtl.core.task import Task, TaskFamily
from wtl.play.rollout import Ending, EnvironmentPool, Improver, Noise, Observer, roll_out


@dataclass(frozen=True)
class Session:
    """One entry: a task, what is shown before the first attempt, and a seed."""

    task: Task
    demonstration: Trajectory | None
    demonstration_name: str
    """Name of the demonstration's task, or empty."""
    seed: int


@dataclass(frozen=True)
class ExplorationConfig:
    """Noise in what is executed, part of each policy's behaviour in collection and evaluation alike."""

    trial_noise: float = 0.3
    """Attempt 0: a wider path says more about where the reward is."""
    retrial_noise: float = 0.0
    """Attempts 1, 2, ..., as long as no trial has succeeded; then there is nothing left to look for."""
    spare_last: bool = True
    """Leave the gripper alone."""

    def noise(self, attempt: int, context: Context) -> Noise:
        """The noise of an attempt that follows this context."""
        scale = self.retrial_noise if attempt else self.trial_noise
        return Noise(0.0 if context.solved else scale, spare_last=self.spare_last)


@functools.cache
def worker_pool() -> EnvironmentPool:
    """The environments of this process."""
    return EnvironmentPool()


def play_attempt(
    family: TaskFamily,
    sessions: Sequence[Session],
    contexts: Sequence[Context],
    improver: Improver,
    attempt: int,
    *,
    ending: Ending,
    exploration: ExplorationConfig,
    label: str = "",
    ask_expert: bool = True,
    keep_states: bool = True,
    pool: EnvironmentPool | None = None,
    observer: Observer | None = None,
) -> list[Episode]:
    """One episode of every session, each after reading its own context.

    `label` separates the randomness of controls from that of the method itself.
    """
    seeds = [seed_for(session.seed, "attempt", attempt, label) for session in sessions]
    return roll_out(
        family,
        (pool or worker_pool()).take(family, len(sessions)),
        [session.task for session in sessions],
        seeds,
        improver.actor(contexts, seeds),
        ending=ending,
        noise=[exploration.noise(attempt, context) for context in contexts],
        attempt=attempt,
        source=improver.source,
        ask_expert=ask_expert,
        keep_states=keep_states,
        observer=observer,
    )


def first_contexts(sessions: Sequence[Session]) -> list[Context]:
    """What is known before anything was tried."""
    return [Context(session.demonstration) for session in sessions]


def extended(contexts: Sequence[Context], episodes: Sequence[Episode]) -> list[Context]:
    """Each context with the trial just made."""
    return [c.with_trial(e.trajectory) for c, e in zip(contexts, episodes, strict=True)]
