"""Translation augmentation: where on the table something happens must not matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wtl.core.task import ObservationLayout


@dataclass(frozen=True)
class Translation:
    """How far each of B contexts is shifted, alike in all that it holds and in its queries."""

    shift_BD: np.ndarray

    def positions(self, positions: np.ndarray) -> np.ndarray:
        """Return the (B, ..., D) positions after the shift."""
        return positions + self.shift_BD.reshape(len(positions), *[1] * (positions.ndim - 2), -1)

    def observations(self, observations: np.ndarray, layout: ObservationLayout) -> np.ndarray:
        """Return the (B, ..., O) observations after the shift; absent objects stay absent."""
        shifted = observations.copy()
        for point in layout.points:
            position = observations[..., point : point + layout.dimensions]
            present = position.any(axis=-1, keepdims=True)
            shifted[..., point : point + layout.dimensions] = np.where(present, self.positions(position), position)
        return shifted
