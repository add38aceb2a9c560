"""What has succeeded from the identical start is done again, step by step, for as long as the world repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wtl.core.episode import Context, Trajectory
from wtl.core.task import ObservationLayout
from wtl.methods.transfer.tracking import TrackingPolicy
from wtl.play.policy import StepBatch

_SAME_STEPS = 1e-2  # hand steps; what is recorded is float32


def repeatable(context: Context, start_O: np.ndarray) -> Trajectory | None:
    """Return the newest trial that succeeded from the start with this observation, if there is one."""
    start = np.asarray(start_O, np.float32)
    found = [trial for trial in context.trials if trial.success and np.array_equal(trial.observations[0], start)]
    return found[-1] if found else None


class RepeatingPolicy:
    """A `Policy` that repeats a row's recorded success; where what is seen differs from it, another policy goes on."""

    def __init__(
        self, policy: TrackingPolicy, recorded: Sequence[Trajectory | None], layout: ObservationLayout
    ) -> None:
        """Take what goes on, and one recorded success or None a row."""
        self.policy, self._recorded, self._layout = policy, list(recorded), layout

    @property
    def action_size(self) -> int:
        """A."""
        return self.policy.action_size

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        actions = np.zeros((len(step.rows), self.action_size))
        others = []
        for i, row in enumerate(step.rows.tolist()):
            recorded = self._recorded[row]
            if recorded is not None and step.number < len(recorded):
                seen, then = (
                    self._layout.positions(x) for x in (step.observations[i], recorded.observations[step.number])
                )
                if np.abs(seen - then).max() < _SAME_STEPS * self._layout.hand_step:
                    actions[i] = recorded.actions[step.number]
                    continue
            self._recorded[row] = None  # from now on the world is another one
            others.append(i)
        if others:
            by_row = ("observations", "rows", "previous_rewards", "previous_successes")
            rest = {name: getattr(step, name)[others] for name in by_row}
            actions[others] = self.policy.act(replace(step, **rest))
        return actions
