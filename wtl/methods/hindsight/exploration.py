"""How episodes are explored, and how a policy and exploration share one.

The hand goes to waypoints, near what is visible or anywhere, with a gripper that is held open or shut meanwhile: noise
that is held, because independent noise hardly moves a hand and never an object. Nothing here knows the goal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wtl.core.rng import stream
from wtl.core.task import FamilySpec
from wtl.methods.hindsight.config import HindsightConfig, WanderConfig
from wtl.play.policy import Policy, StepBatch


class Wander:
    """The exploration of one episode."""

    def __init__(self, config: WanderConfig, spec: FamilySpec, generator: np.random.Generator) -> None:
        self._config, self._spec, self._generator = config, spec, generator
        self._left = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Return (A,) for an observation (O,): towards the waypoint, everything but the hand's motion held."""
        layout = self._spec.layout
        positions = layout.positions(observation)
        if not self._left:
            self._choose(positions)
        self._left -= 1
        action = self._held.copy()
        if layout.hand_step:
            action[: layout.dimensions] = self._gain * (self._waypoint - positions[0]) / layout.hand_step
        return np.clip(action, -1.0, 1.0)

    def _choose(self, positions: np.ndarray) -> None:
        config, generator = self._config, self._generator
        self._left = int(generator.integers(config.shortest_steps, config.longest_steps + 1))
        visible = [position for position in positions[1:] if position.any()]
        near = bool(visible) and generator.random() < config.near
        centre = visible[generator.integers(len(visible))] if near else positions[0]
        spread = (config.near_steps if near else config.far_steps) * self._spec.layout.hand_step
        self._waypoint = centre + spread * generator.standard_normal(len(centre))
        self._gain = generator.uniform(config.slowest, config.fastest)
        self._held = generator.uniform(-1.0, 1.0, self._spec.action_size)
        if self._spec.gripper_index is not None:
            self._held[self._spec.gripper_index] = np.sign(self._held[self._spec.gripper_index])


class Exploring:
    """A `Policy` that explores for some stretches of each episode, and follows another policy between them."""

    def __init__(self, config: HindsightConfig, spec: FamilySpec, policy: Policy | None, seeds: Sequence[int]) -> None:
        """Take the policy; without one all is exploration."""
        self._config, self._policy, self._action_size = config, policy, spec.action_size
        self._generators = [stream(seed, "explore") for seed in seeds]
        self._wander = [Wander(config.wander, spec, stream(seed, "wander")) for seed in seeds]
        self._left, self._explores = np.zeros(len(seeds), int), np.ones(len(seeds), bool)

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        actions = np.zeros((len(step.rows), self._action_size))
        if self._policy is not None:
            for row in step.rows[self._left[step.rows] == 0].tolist():
                generator = self._generators[row]
                self._left[row] = generator.integers(
                    1 + self._config.explore_steps // 3, self._config.explore_steps + 1
                )
                self._explores[row] = generator.random() < self._config.explore
            self._left[step.rows] -= 1
            if not self._explores[step.rows].all():
                actions = self._policy.act(step)
        for i, row in enumerate(step.rows.tolist()):
            if self._explores[row]:
                actions[i] = self._wander[row].act(step.observations[i])
        return actions
