"""What a policy is shown, made up, shared by the tests of policies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wtl.play.policy import StepBatch


def step_of(observations: np.ndarray, rows: Sequence[int] | np.ndarray | None = None, number: int = 0) -> StepBatch:
    """Return a step with observations (R, O) of these rows, 0 .. R - 1 if not named; feedback comes at the end."""
    observations = np.asarray(observations, np.float64)
    unknown = np.full(len(observations), np.nan)
    return StepBatch(
        observations, np.arange(len(observations)) if rows is None else np.asarray(rows), number, unknown, unknown
    )
