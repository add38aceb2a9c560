"""The world shifted, alike in all that a context holds: where on the table something happens must not matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wtl.core.task import ObservationLayout


@dataclass(frozen=True)
class World:
    """How far each of B contexts sees the world shifted."""

    shift_BD: np.ndarray

    def place(self, places: np.ndarray) -> np.ndarray:
        """(B, ..., D) places as they are seen."""
        return places + self.shift_BD.reshape(len(places), *[1] * (places.ndim - 2), -1)

    def observations(self, observations: np.ndarray, layout: ObservationLayout) -> np.ndarray:
        """(B, ..., O) observations as they are seen; absent places stay absent."""
        seen = observations.copy()
        for point in layout.points:
            place = observations[..., point : point + layout.dimensions]
            present = place.any(axis=-1, keepdims=True)
            seen[..., point : point + layout.dimensions] = np.where(present, self.place(place), place)
        return seen
