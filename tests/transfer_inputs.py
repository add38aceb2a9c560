"""Pseudo-random contexts and observations of Meta-World's sizes, from which tests/golden/transfer.json was made."""

from __future__ import annotations

from typing import Any

import numpy as np

STEPS = 120
"""Control steps of the golden episode: long enough for the second hypothesis."""
SEEDS = (11, 12)
_generator = np.random.default_rng(5)
START = np.zeros((2, 18), np.float32)
START[:, :3], START[:, 4:7] = [0.0, 0.6, 0.2], [[0.05, 0.65, 0.02], [-0.08, 0.7, 0.02]]
START[:, 3] = 1.0
CANDIDATES = _generator.normal(scale=0.1, size=(2, 12, 3)).astype(np.float32)


def carried(seed: int, success: bool = True) -> dict[str, Any]:
    """Return the arrays of a trajectory: a hand goes to an object, closes, and carries it somewhere, noisily."""
    generator = np.random.default_rng(seed)
    hand = np.array([0.0, 0.6, 0.2])
    thing = np.array([0.0, 0.65, 0.02]) + generator.uniform(-0.1, 0.1, 3) * [1, 1, 0]
    goal = np.array([0.1, 0.75, 0.2]) + generator.uniform(-0.1, 0.1, 3)
    observations, actions, rewards = [], [], []
    for step in range(41):
        observations.append(np.concatenate([hand, [1.0 - 0.5 * (step > 20)], thing, np.zeros(11)]))
        target = thing if step <= 20 else goal
        motion = np.clip((target - hand) / 0.1, -1, 1) + generator.normal(scale=0.05, size=3)
        actions.append(np.clip([*motion, 1.0 if step > 17 else -1.0], -1, 1))
        hand = hand + 0.01 * actions[-1][:3]
        thing = thing + (0.01 * actions[-1][:3] if step > 20 else 0.0)
        rewards.append(10.0 * float(np.exp(-4 * np.linalg.norm(goal - thing))))
    return {
        "observations": np.stack(observations), "actions": np.stack(actions[:-1]), "rewards": np.array(rewards[:-1]),
        "successes": np.arange(40) >= (38 if success else 99),
    }  # fmt: skip


def observations_of(step: int) -> np.ndarray:
    """Return (2, 18) observations: those of a demonstration, shifted to the start of the episode, with noise."""
    generator = np.random.default_rng(1000 + step)
    seen = np.stack([carried(row)["observations"] for row in range(2)])
    path = seen[:, min(step, 40)] + (START - seen[:, 0])
    path[:, [0, 1, 2, 4, 5, 6]] += generator.normal(scale=0.002, size=(2, 6))
    return path
