"""Attempt after attempt: play, keep the trial, read it, play again. Free of torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium

from wtl.core.episode import Context, Episode
from wtl.core.rng import seed_for
from wtl.core.task import TaskFamily
from wtl.play.policy import Attempt, Player, Session
from wtl.play.protocol import ProtocolConfig
from wtl.play.rollout import Observer, RolloutSettings, play


class EnvironmentPool:
    """Environments kept between batches, of one family at a time: each costs about 20 MB."""

    def __init__(self) -> None:
        self._family: str | None = None
        self._environments: list[gymnasium.Env[Any, Any]] = []

    def take(self, family: TaskFamily, count: int) -> list[gymnasium.Env[Any, Any]]:
        """Return `count` environments of a family."""
        if family.spec.name != self._family:
            self.close()
            self._family = family.spec.name
        while len(self._environments) < count:
            self._environments.append(family.make_environment())
        return self._environments[:count]

    def close(self) -> None:
        """Free all environments."""
        for environment in self._environments:
            environment.close()
        self._environments, self._family = [], None


@functools.cache
def worker_pool() -> EnvironmentPool:
    """Return the environments of this process."""
    return EnvironmentPool()


def play_attempt(
    family: TaskFamily,
    sessions: Sequence[Session],
    contexts: Sequence[Context],
    player: Player,
    number: int,
    settings: RolloutSettings,
    label: str = "",
    observer: Observer | None = None,
) -> list[Episode]:
    """Return one episode of every session, each played after reading its own context.

    Args:
        contexts: what is known now, one a session.
        number: trials that went before.
        label: separates the randomness of controls and of further methods from that of the method itself.

    Raises:
        ValueError: see `wtl.play.rollout.play`.
    """
    seeds = [seed_for(session.seed, "attempt", number, label) for session in sessions]
    environments = worker_pool().take(family, len(sessions))
    attempt = Attempt(family, environments, sessions, contexts, seeds, number)
    return play(attempt, player, settings, observer)


def play_attempts(
    family: TaskFamily,
    sessions: Sequence[Session],
    player: Player,
    last: int,
    protocol: ProtocolConfig,
    settings: RolloutSettings,
    label: str = "",
) -> Iterator[list[Episode]]:
    """Yield the episodes of attempts 0 .. `last`, each played with the trials before it; see `play_attempt`."""
    contexts = [session.context for session in sessions]
    for number in range(last + 1):
        begun = protocol.sessions(family, sessions, number)
        episodes = play_attempt(family, begun, contexts, player, number, settings, label)
        yield episodes
        contexts = extended(contexts, episodes)


def extended(contexts: Sequence[Context], episodes: Sequence[Episode]) -> list[Context]:
    """Return each context with the trial just made."""
    return [c.with_trial(e.trajectory) for c, e in zip(contexts, episodes, strict=True)]
