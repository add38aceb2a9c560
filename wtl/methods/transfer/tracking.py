"""What both controllers have in common: references and hypotheses in, a policy out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from wtl.core.episode import Trajectory
from wtl.core.task import ObservationLayout
from wtl.play.policy import StepBatch

Hypotheses = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From rows (R,) and their first observations (R, O) to (R, H, D) goal offsets, in the units of positions, to be tried
in this order; asked once a row."""


class TrackingPolicy(Protocol):
    """A `Policy` that brings each row's reference to an end that has gone elsewhere."""

    @property
    def action_size(self) -> int:
        """A."""
        ...

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        ...


class Tracking(Protocol):
    """Makes such a policy."""

    def __call__(
        self, layout: ObservationLayout, references: Sequence[Trajectory], hypotheses: Hypotheses, seeds: Sequence[int]
    ) -> TrackingPolicy:
        """Return the policy of one reference and one seed a row."""
        ...
