"""Closed-loop tracking of a reference trajectory that is warped to where things stand now.

A reference is warped by offsets. Up to where the first object begins to move, it goes along with that object's start;
where another one begins to move (what a stick is brought to), with that one's; and from there it turns, as the first
object is brought to its end, to the *goal offset*, a hypothesis of where the end has gone. The hand is steered along
the warped reference and waits where it is held up. With the true goal offset given, the scripted experts' tasks are
solved from one demonstration. A reference that has come to its end without an end of the episode is tracked again
with the next hypothesis: from shortly before its end while the object is still in the hand, else from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from wtl.core.bounds import Between, Bounded, NotNegative, Positive
from wtl.core.episode import Trajectory
from wtl.core.rng import stream
from wtl.core.task import ObservationLayout
from wtl.methods.transfer.reference import ReferenceConfig, read_reference
from wtl.methods.transfer.tracking import Hypotheses
from wtl.play.policy import StepBatch

_STILL = 1e-3  # hand steps; references are float32, and correcting what rounding left would make a repetition differ


@dataclass(frozen=True)
class ControllerConfig(Bounded):
    """How a reference is tracked. Lengths are in hand steps: the way of the hand in one step at full action."""

    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    """How the reference is read."""
    gain: Positive = 0.1
    """Correction added to the recorded action: action for each hand step of distance from the reference."""
    catch_up_gain: Positive = 0.25
    """The same where the hand is so far from the reference that it waits."""
    tolerance_steps: Positive = 3.0
    """The distance from which on the reference waits."""
    patience_steps: Annotated[int, Between(0, 10**6)] = 25
    """Control steps that it waits at most; a hand that is held up presses on."""
    rest_steps: Annotated[int, Between(0, 10**6)] = 10
    """Control steps at the end of the reference before the next hypothesis."""
    resume_steps: Annotated[int, Between(0, 10**6)] = 15
    """How far before its end, at most, the reference is resumed while the object is still in the hand."""
    hold_steps: Positive = 3.0
    """The object is still in the hand if it is where it was at the reference's end, seen from the hand, within this."""
    tries: Annotated[int, Between(0, 10_000)] = 0
    """Hypotheses that an attempt may try; 0: as many as fit."""
    touch_spread_steps: NotNegative = 1.0
    """Deviation of the first offset when the reference begins again: a grasp that failed is not to fail alike."""


class TransferPolicy:
    """A `Policy` with one reference a row, warped by hypotheses of where its end has gone."""

    def __init__(
        self,
        config: ControllerConfig,
        layout: ObservationLayout,
        references: Sequence[Trajectory],
        hypotheses: Hypotheses,
        seeds: Sequence[int],
    ) -> None:
        """Read the references, one a row.

        Raises:
            ValueError: actions here do not move the hand.
        """
        if layout.hand_step <= 0:
            raise ValueError(
                "trajectory transfer needs actions that begin with the motion of the hand; "
                f"ObservationLayout.hand_step says how far a full one moves it, got {layout.hand_step}"
            )
        self._config, self._layout, self._hypotheses = config, layout, hypotheses
        read = [read_reference(reference, layout, config.reference) for reference in references]
        self._last = np.array([len(reference.actions_TA) - 1 for reference in read])
        longest = int(self._last.max()) + 1

        def padded(name: str) -> np.ndarray:
            return np.stack([_extended(getattr(reference, name), longest) for reference in read])

        self._hand, self._actions, self._progress = padded("hand_TD"), padded("actions_TA"), padded("progress_T")
        self._waypoints = [reference.waypoints for reference in read]
        # Knots of the warp: where on the way, and shifted by how much; those that a row does not need are its end.
        count, size = len(references), layout.dimensions
        most = max(max(len(waypoints), 1) for waypoints in self._waypoints)
        self._knots, self._offsets = np.ones((count, most + 1)), np.zeros((count, most + 1, size))
        self._knots[:, 0] = 0.0
        for row, waypoints in enumerate(self._waypoints):
            self._knots[row, : len(waypoints)] = [waypoint.progress for waypoint in waypoints]
        self._resume = np.maximum(self._last - config.resume_steps, [reference.moved_from for reference in read])
        self._held = [reference.held_D for reference in read]
        self._generators = [stream(seed, "touch") for seed in seeds]
        self._phase = np.full(count, -1)
        self._waited, self._rested = np.zeros(count, int), np.zeros(count, int)
        self._queue = [np.zeros((1, size))] * count
        self._tries = np.zeros(count, int)

    @property
    def action_size(self) -> int:
        """A."""
        return self._actions.shape[-1]

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        rows, observations = step.rows, np.asarray(step.observations, np.float64)
        self._set_out_where_due(rows, observations)
        config, unit, size = self._config, self._layout.hand_step, self._layout.dimensions
        phase = self._phase[rows]
        away = self._hand[rows, phase] + self._warp(rows, phase) - observations[:, self._layout.points[0] :][:, :size]
        far = np.linalg.norm(away, axis=-1)
        away[far < _STILL * unit] = 0.0
        near = far < config.tolerance_steps * unit
        ended = phase == self._last[rows]
        goes_on = near | (self._waited[rows] >= config.patience_steps)

        actions = self._actions[rows, phase]
        # While it waits, and once it has come to its end, the reference has no motion of its own.
        moving = (goes_on & (self._rested[rows] == 0))[:, None]
        gain = np.where(moving, config.gain, config.catch_up_gain) / unit
        actions[:, :size] = np.where(moving, actions[:, :size], 0.0) + gain * away
        self._waited[rows] = np.where(near, 0, self._waited[rows] + 1)
        self._rested[rows] += ended & goes_on
        self._phase[rows] = np.where(goes_on & ~ended, phase + 1, phase)
        return np.clip(actions, -1.0, 1.0)

    def _set_out_where_due(self, rows: np.ndarray, observations: np.ndarray) -> None:
        new = self._phase[rows] < 0
        if new.any():
            for row, offsets in zip(rows[new].tolist(), self._hypotheses(rows[new], observations[new]), strict=True):
                self._queue[row] = offsets
        again = self._rested[rows] > self._config.rest_steps
        if self._config.tries:
            again &= self._tries[rows] < self._config.tries
        for i in np.flatnonzero(new | again):
            self._set_out(int(rows[i]), observations[i])

    def _warp(self, rows: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """Return (R, D), how far the reference is shifted here: piecewise linear in its progress."""
        progress = self._progress[rows, phase]
        leg = (self._knots[rows, 1:-1] <= progress[:, None]).sum(axis=1)
        begun, done = self._knots[rows, leg], self._knots[rows, leg + 1]
        part = ((progress - begun) / np.maximum(done - begun, 1e-9))[:, None]
        return (1.0 - part) * self._offsets[rows, leg] + part * self._offsets[rows, leg + 1]

    def _set_out(self, row: int, observation: np.ndarray) -> None:
        """Go for the next hypothesis, with what is in the hand or from the beginning."""
        positions_PD, tried = self._layout.positions(observation), int(self._tries[row])
        waypoints = self._waypoints[row]
        self._offsets[row, max(len(waypoints), 1) :] = self._queue[row][tried % len(self._queue[row])]
        self._tries[row] += 1
        self._waited[row] = self._rested[row] = 0
        if tried and self._still_held(row, positions_PD):
            self._phase[row] = self._resume[row]
            return
        self._phase[row] = 0
        self._offsets[row, 0] = 0.0
        for number, waypoint in enumerate(waypoints):
            position, last = positions_PD[waypoint.point], self._offsets[row, max(number - 1, 0)]
            self._offsets[row, number] = position - waypoint.start_D if position.any() else last
        if tried:
            spread = self._config.touch_spread_steps * self._layout.hand_step
            self._offsets[row, 0] += spread * self._generators[row].standard_normal(positions_PD.shape[1])

    def _still_held(self, row: int, positions_PD: np.ndarray) -> bool:
        held = self._held[row]
        if held is None:
            return True  # nothing was to be moved, so nothing can have been lost
        away = positions_PD[self._waypoints[row][0].point] - positions_PD[0] - held
        return float(np.linalg.norm(away)) < self._config.hold_steps * self._layout.hand_step


def _extended(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])
