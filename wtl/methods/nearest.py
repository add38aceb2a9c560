"""This is the trial policy with: a look-up in place of a network. One-nearest-neighbour replay.

Each step plays the demonstration's action in the frame that looks most like the present one, places
seen from the hand and from one another, so that a shift of the world changes nothing. The look-up only
goes forward in time: otherwise a hand that hesitates would be sent back for ever. It is the control
"is the network better than a look-up?" and knows nothing of trials. Free of torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wtl.core.episode import Context, Trajectory
from wtl.core.task import ObservationLayout


@dataclass(frozen=True)
class NearestConfig:
    """How the look-up walks through the demonstration."""

    window_steps: int = 20
    """The farthest jump ahead; a larger one skips a grasp whose start and end look alike."""
    patience_steps: int = 10
    """Steps in a row on one frame, after which the next one is played whatever it looks like."""
    scalar_weight: float = 0.01
    """Of gripper opening and quaternions: the whole of the gripper's way counts like 1 cm."""


class NearestNeighbour:
    """Replays the demonstration of its context, object-relative; trials are ignored."""

    source = "nearest_neighbour"

    def __init__(self, layout: ObservationLayout, config: NearestConfig = NearestConfig()) -> None:
        if config.window_steps < 1 or config.patience_steps < 1:
            raise ValueError(f"the look-up must be able to move: window and patience of at least 1 step, got {config}")
        self.layout, self.config = layout, config

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> NearestActor:
        """See `Improver.actor`. Raises ValueError for a context without a demonstration."""
        demonstrations = [context.demonstration for context in contexts if context.demonstration is not None]
        if len(demonstrations) < len(contexts):
            missing = len(contexts) - len(demonstrations)
            raise ValueError(
                f"nearest_neighbour replays a demonstration, got {missing} of {len(contexts)} contexts without"
            )
        return NearestActor(self.layout, self.config, demonstrations)


class NearestActor:
    """`wtl.play.rollout.Actor`: one demonstration and one place in it a row."""

    def __init__(self, layout: ObservationLayout, config: NearestConfig, demonstrations: Sequence[Trajectory]) -> None:
        self._layout, self._config = layout, config
        self._actions = [demonstration.actions for demonstration in demonstrations]
        self._keys = [
            relative_features(demonstration.observations[:-1], layout, config.scalar_weight)
            for demonstration in demonstrations
        ]
        self._phase = [-1] * len(demonstrations)
        self._stayed = [0] * len(demonstrations)

    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Actor.act`."""
        features = relative_features(observations, self._layout, self._config.scalar_weight)
        return np.stack([self._actions[row][self._next(row, x)] for row, x in zip(rows, features, strict=True)])

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
    """Observations (..., O) -> (..., F): each place as seen from each place before it, then weighted scalars.

    Pairs with an absent place are zeros.
    """
    x = np.asarray(observations, np.float64)
    places = layout.positions(x)
    here = np.abs(places).sum(axis=-1, keepdims=True) > 0
    pairs = itertools.combinations(range(len(layout.points)), 2)
    vectors = [
        np.where(here[..., a, :] & here[..., b, :], places[..., b, :] - places[..., a, :], 0.0) for a, b in pairs
    ]
    return np.concatenate([*vectors, scalar_weight * x[..., list(layout.scalars)]], axis=-1)
