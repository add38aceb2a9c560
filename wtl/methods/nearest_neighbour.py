"""One-nearest-neighbour replay of the demonstration: is a network better than a look-up?

Each step plays the demonstration's action in the frame that looks most like the present one, objects seen from the
hand and from one another, so that a shift of everything changes nothing. The look-up only goes forward in time:
otherwise a hand that hesitates would be sent back for ever. Trials are ignored.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wtl.core.bounds import Bounded, Count, NotNegative
from wtl.core.episode import Context, Trajectory
from wtl.core.task import FamilySpec, ObservationLayout
from wtl.methods.spec import MethodSpec, Networks, Reads
from wtl.play.policy import FromContext, Player, StepBatch


@dataclass(frozen=True)
class NearestConfig(Bounded):
    """How the look-up walks through the demonstration."""

    window_steps: Count = 20
    """The farthest jump ahead; a larger one skips a grasp whose start and end look alike."""
    patience_steps: Count = 10
    """Steps in a row on one frame, after which the next one is played whatever it looks like."""
    scalar_weight: NotNegative = 0.01
    """Weight of gripper opening and quaternions: the whole of the gripper's way counts like 1 cm."""


@dataclass(frozen=True)
class NearestNeighbour:
    """A `Method` that replays the demonstration of its context, object-relative."""

    config: NearestConfig
    layout: ObservationLayout
    source: str = "nearest_neighbour"

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> NearestPolicy:
        """See `Method.adapt`. Raises ValueError for a context without a demonstration."""
        demonstrations = [context.demonstration for context in contexts if context.demonstration is not None]
        if len(demonstrations) < len(contexts):
            missing = len(contexts) - len(demonstrations)
            raise ValueError(
                f"nearest_neighbour replays a demonstration, got {missing} of {len(contexts)} contexts without"
            )
        return NearestPolicy(self.layout, self.config, demonstrations)


class NearestPolicy:
    """A `Policy` with one demonstration and one frame of it a row."""

    def __init__(self, layout: ObservationLayout, config: NearestConfig, demonstrations: Sequence[Trajectory]) -> None:
        self._layout, self._config = layout, config
        self._actions = [demonstration.actions for demonstration in demonstrations]
        self._keys = [
            relative_features(demonstration.observations[:-1], layout, config.scalar_weight)
            for demonstration in demonstrations
        ]
        self._phase = [-1] * len(demonstrations)
        self._stayed = [0] * len(demonstrations)

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        features = relative_features(step.observations, self._layout, self._config.scalar_weight)
        return np.stack([self._actions[row][self._next(row, x)] for row, x in zip(step.rows, features, strict=True)])

    def _next(self, row: int, features: np.ndarray) -> int:
        phase, keys = self._phase[row], self._keys[row]
        ahead = np.arange(phase + 1, min(phase + 1 + self._config.window_steps, len(keys)))
        may_stay = phase >= 0 and (self._stayed[row] < self._config.patience_steps or len(ahead) == 0)
        # The present frame comes last: of frames that look the same, the one not yet played is taken.
        candidates = np.append(ahead, phase) if may_stay else ahead
        found = int(candidates[np.square(keys[candidates] - features).sum(axis=1).argmin()])
        self._stayed[row] = self._stayed[row] + 1 if found == phase else 1
        self._phase[row] = found
        return found


def relative_features(observations: np.ndarray, layout: ObservationLayout, scalar_weight: float) -> np.ndarray:
    """Return (..., F) features of observations (..., O): each point as seen from each before it, then weighted scalars.

    Pairs with an absent object are zeros.
    """
    x = np.asarray(observations, np.float64)
    positions = layout.positions(x)
    here = np.abs(positions).sum(axis=-1, keepdims=True) > 0
    pairs = itertools.combinations(range(len(layout.points)), 2)
    vectors = [
        np.where(here[..., a, :] & here[..., b, :], positions[..., b, :] - positions[..., a, :], 0.0) for a, b in pairs
    ]
    return np.concatenate([*vectors, scalar_weight * x[..., list(layout.scalars)]], axis=-1)


def _player(config: NearestConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return FromContext(NearestNeighbour(config, spec.layout, source))


SPEC = MethodSpec(
    name="nearest_neighbour",
    summary="One-nearest-neighbour replay of the demonstration, object-relative; nothing is learned.",
    config=NearestConfig,
    player=_player,
    reads=Reads(demonstrations="required"),
)
