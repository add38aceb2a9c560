"""Two methods to read a curve by: control alone, and luck alone.

`transfer_told_goal` tracks the demonstration warped to the true goal, one walk: what control alone is worth.
`transfer_blind_search` tries offsets that nothing has been read for, as many as fit: what luck is worth. Both see or
draw what the real method has to infer, with the same controller.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np

from wtl.core.bounds import Between, Bounded, NotNegative
from wtl.core.episode import Context
from wtl.core.rng import stream
from wtl.core.task import FamilySpec
from wtl.methods.spec import MethodSpec, Networks, Reads
from wtl.methods.transfer.controller import ControllerConfig, TransferPolicy
from wtl.methods.transfer.tracking import Tracking, TrackingPolicy
from wtl.play.policy import Attempt, FromContext, Player


@dataclass(frozen=True)
class ToldConfig(Bounded):
    """How the warped demonstration is tracked."""

    controller: ControllerConfig = field(default_factory=lambda: ControllerConfig(tries=1))
    """One walk."""


@dataclass(frozen=True)
class ToldGoal:
    """A `Player` that is told where the goal is, and sees it in the environments."""

    track: Tracking
    source: str

    def policy(self, attempt: Attempt) -> TrackingPolicy:
        """See `Player.policy`. Raises ValueError for a session without a demonstration."""
        references = [context.demonstration for context in attempt.contexts if context.demonstration is not None]
        shown = [episode for session in attempt.sessions for episode in session.demonstrations[:1]]
        if min(len(references), len(shown)) < len(attempt.sessions):
            raise ValueError(f"{self.source} warps a demonstration, got a context without one")

        def offsets(rows: np.ndarray, observations: np.ndarray) -> np.ndarray:
            goals = [attempt.family.goal(attempt.environments[row]) for row in rows.tolist()]
            return np.stack([goal - shown[row].goal for goal, row in zip(goals, rows.tolist(), strict=True)])[:, None]

        layout = attempt.family.spec.layout
        return self.track(layout, references, offsets, attempt.seeds)


@dataclass(frozen=True)
class BlindConfig(Bounded):
    """How offsets are drawn."""

    controller: ControllerConfig = field(default_factory=ControllerConfig)
    """How the warped demonstration is tracked."""
    spread_steps: NotNegative = 15.0
    """Standard deviation of the offsets along each axis, in hand steps."""
    tries: Annotated[int, Between(1, 10_000)] = 16
    """Offsets that are drawn for an episode."""


@dataclass(frozen=True)
class BlindSearch:
    """A `Method` that tries offsets along with what is visible first, then random ones, and reads no trial."""

    config: BlindConfig
    spec: FamilySpec
    track: Tracking
    source: str

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> TrackingPolicy:
        """See `Method.adapt`. Raises ValueError for a context without a demonstration."""
        references = [context.demonstration for context in contexts if context.demonstration is not None]
        if len(references) < len(contexts):
            raise ValueError(f"{self.source} warps a demonstration, got a context without one")
        layout = self.spec.layout

        def offsets(rows: np.ndarray, observations: np.ndarray) -> np.ndarray:
            drawn = []
            for row, observation in zip(rows.tolist(), observations, strict=True):
                generator = stream(seeds[row], "blind")
                then, now = layout.positions(references[row].observations[0]), layout.positions(observation)
                moved = [b - a for a, b in zip(then[1:], now[1:], strict=True) if a.any() and b.any()]
                visible = generator.permutation(np.stack([np.zeros(layout.dimensions), *moved]))
                count = self.config.tries - len(visible)
                spread = self.config.spread_steps * layout.hand_step
                anywhere = spread * generator.standard_normal((max(count, 0), layout.dimensions))
                drawn.append(np.concatenate([visible, anywhere])[: self.config.tries])
            return np.stack(drawn)

        return self.track(layout, references, offsets, seeds)


def _told(config: ToldConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return ToldGoal(functools.partial(TransferPolicy, config.controller), source)


def _blind(config: BlindConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return FromContext(BlindSearch(config, spec, functools.partial(TransferPolicy, config.controller), source))


TOLD = MethodSpec(
    name="transfer_told_goal",
    summary="The demonstrated trajectory, warped to the true goal, one walk: what control alone is worth.",
    config=ToldConfig,
    player=_told,
    reads=Reads(demonstrations="required"),
)

BLIND = MethodSpec(
    name="transfer_blind_search",
    summary="The demonstrated trajectory, warped by offsets that nothing was read for: what luck is worth.",
    config=BlindConfig,
    player=_blind,
    reads=Reads(demonstrations="required"),
    one_walk=lambda config: replace(config, controller=replace(config.controller, tries=1)),
)
