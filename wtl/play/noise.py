"""Time-correlated noise in what is executed, and the expert, which demonstrates with some of it.

Noise belongs to a policy's behaviour, so it is drawn here and not in the environment loop. The gripper is spared:
grasps would break. Each row draws from a stream of its own, so no row's noise depends on another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wtl.core.bounds import Bounded, Noise, Share
from wtl.core.rng import seed_for, stream
from wtl.core.task import FamilySpec
from wtl.play.policy import Attempt, Policy, StepBatch

_CHUNK_STEPS = 256


@dataclass(frozen=True)
class NoiseConfig(Bounded):
    """How strong noise is in executed actions."""

    scale: Noise = 0.0
    """Standard deviation in units of the action."""
    correlation: Share = 0.9
    """Correlation of two successive steps."""
    varied: bool = False
    """Whether each episode draws its own scale, from 0 to `scale`, so that clean paths are among them."""


class OrnsteinUhlenbeckNoise:
    """The noise of a batch of episodes."""

    def __init__(
        self, scales_B: Sequence[float], seeds: Sequence[int], spec: FamilySpec, config: NoiseConfig = NoiseConfig()
    ) -> None:
        """Take one scale and one seed a row; `config.scale` is not read here."""
        self._generators = [stream(seed, "noise") for seed in seeds]
        factors = [generator.random() if config.varied else 1.0 for generator in self._generators]
        self._scale_BA = (np.array(scales_B) * factors)[:, None] * np.ones(spec.action_size)
        if spec.gripper_index is not None:
            self._scale_BA[:, spec.gripper_index] = 0.0
        self._correlation, self._size = config.correlation, spec.action_size
        self._value_BA = self._draw(1)[:, 0]
        self._kicks_BTA = np.zeros((len(seeds), 0, spec.action_size))

    def _draw(self, steps: int) -> np.ndarray:
        return np.stack([generator.standard_normal((steps, self._size)) for generator in self._generators])

    def step(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Return the (R, A) noise of this step; every step must be asked for, in order."""
        if number % _CHUNK_STEPS == 0:
            self._kicks_BTA = np.sqrt(1.0 - self._correlation**2) * self._draw(_CHUNK_STEPS)
        self._value_BA = self._correlation * self._value_BA + self._kicks_BTA[:, number % _CHUNK_STEPS]
        return self._scale_BA[rows] * self._value_BA[rows]


class Disturbance:
    """What the world adds to actions and to observed positions, the same whoever acts; nothing where both are 0."""

    def __init__(self, attempt: Attempt, action_noise: float, position_noise: float) -> None:
        spec = attempt.family.spec
        self._layout, self._position_noise = spec.layout, position_noise
        self._generators = [stream(seed, "sensor") for seed in attempt.seeds]
        seeds = [seed_for(seed, "actuator") for seed in attempt.seeds]
        self._actuator = OrnsteinUhlenbeckNoise([action_noise] * len(seeds), seeds, spec) if action_noise else None

    def executed(self, actions_RA: np.ndarray, number: int, rows: np.ndarray) -> np.ndarray:
        """Return the actions that the environments execute at this step, within [-1, 1]."""
        if self._actuator is None:
            return actions_RA
        return np.clip(actions_RA + self._actuator.step(number, rows), -1.0, 1.0).astype(np.float32)

    def observed(self, observation: np.ndarray, row: int) -> np.ndarray:
        """Return an observation (O,) as it is seen; absent objects stay absent."""
        if not self._position_noise:
            return observation
        seen = observation.copy()
        for point in self._layout.points:
            position = slice(point, point + self._layout.dimensions)
            if observation[position].any():
                seen[position] += self._position_noise * self._generators[row].standard_normal(self._layout.dimensions)
        return seen


@dataclass(frozen=True)
class NoisyPolicy:
    """A policy whose actions are disturbed."""

    policy: Policy
    noise: OrnsteinUhlenbeckNoise

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`; the sum may leave [-1, 1] and is clipped by the environment loop."""
        return self.policy.act(step) + self.noise.step(step.number, step.rows)


@dataclass(frozen=True)
class Expert:
    """The expert of each family as a player, with noise in what it executes and none in its labels."""

    noise: NoiseConfig = NoiseConfig()
    source: str = "demonstrator"

    def policy(self, attempt: Attempt) -> Policy:
        """See `Player.policy`. The policy raises ValueError where the family has no expert."""
        clean = _ExpertPolicy(attempt)
        if not self.noise.scale:
            return clean
        scales = [self.noise.scale] * len(attempt.seeds)
        return NoisyPolicy(clean, OrnsteinUhlenbeckNoise(scales, attempt.seeds, attempt.family.spec, self.noise))


@dataclass(frozen=True)
class _ExpertPolicy:
    attempt: Attempt

    def act(self, step: StepBatch) -> np.ndarray:
        actions = self.attempt.expert.actions(step.number, step.rows)
        if np.isnan(actions).any():
            raise ValueError(
                f"{self.attempt.family.spec.name} has no expert that acts (its actions are NaN); bring demonstrations "
                "of your own (`demonstrations.own`) and leave the method `expert` out"
            )
        return actions
