"""The world seen otherwise: turned, mirrored, shifted, its objects displaced, alike in all that a context holds.

What a family could be recognised by goes, and what has to be read from the demonstration stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wtl.task import ObservationLayout

QUARTERS = np.array(
    [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]],
     [[-1, 0], [0, 1]], [[1, 0], [0, -1]], [[0, 1], [1, 0]], [[0, -1], [-1, 0]]], np.float32,
)  # fmt: skip
"""The turns and mirrors of a square: actions stay within their box."""


@dataclass(frozen=True)
class World:
    """How each of B contexts sees the world: turned about its middle, shifted, its objects' places offset."""

    turn_BDD: np.ndarray
    shift_BD: np.ndarray
    offset_BPD: np.ndarray
    """Of each place of the layout; the hand's is zero."""
    middle_D: np.ndarray

    def _turned(self, vectors: np.ndarray) -> np.ndarray:
        """(B, ..., D) -> (B, ..., D)."""
        flat = vectors.reshape(len(vectors), -1, vectors.shape[-1])
        return (flat @ self.turn_BDD.swapaxes(1, 2)).reshape(vectors.shape)

    def place(self, places: np.ndarray) -> np.ndarray:
        """(B, ..., D) places as they are seen."""
        middle = np.broadcast_to(self.middle_D, self.shift_BD.shape)
        shift = self.shift_BD + (middle - self._turned(middle))  # nothing, to the last bit, where nothing turns
        return self._turned(places) + shift.reshape(len(places), *[1] * (places.ndim - 2), -1)

    def actions(self, actions: np.ndarray) -> np.ndarray:
        """(B, ..., A) actions as they are seen: the hand's motion comes first."""
        size = len(self.middle_D)
        return np.concatenate([self._turned(actions[..., :size]), actions[..., size:]], axis=-1)

    def observations(self, observations: np.ndarray, layout: ObservationLayout) -> np.ndarray:
        """(B, ..., O) observations as they are seen; absent places stay absent."""
        seen = observations.copy()
        for number, point in enumerate(layout.points):
            place = observations[..., point : point + layout.dimensions]
            offset = self.offset_BPD[:, number].reshape(len(place), *[1] * (place.ndim - 2), -1)
            present = place.any(axis=-1, keepdims=True)
            seen[..., point : point + layout.dimensions] = np.where(present, self.place(place) + offset, place)
        return seen
