"""Noise in what is executed: its numbers, whose they are, and what is spared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from players import SPEC, FixedPolicy, LineFamily, make_attempt
from strategies import make_trajectory

from wtl.core.episode import Context, Episode
from wtl.core.rng import stream
from wtl.core.task import FamilySpec, Task
from wtl.methods.imitation.config import ExplorationConfig
from wtl.play import noise as noises
from wtl.play.noise import Expert, NoiseConfig, NoisyPolicy, OrnsteinUhlenbeckNoise
from wtl.play.policy import Attempt
from wtl.play.rollout import RolloutSettings, play, roll_out

FREE = replace(SPEC, gripper_index=None)
LONG = replace(FREE, horizon_steps=2000)


def slow_noise(scale: float, seed: int, spec: FamilySpec, config: NoiseConfig, steps: int) -> np.ndarray:
    """The (T, A) noise of one episode, one number after another."""
    generator = stream(seed, "noise")
    if config.varied:
        scale *= generator.random()
    value = [generator.standard_normal() for _ in range(spec.action_size)]
    rows = []
    for _ in range(steps):
        for i in range(spec.action_size):
            value[i] = config.correlation * value[i] + np.sqrt(1 - config.correlation**2) * generator.standard_normal()
        rows.append([0.0 if i == spec.gripper_index else scale * v for i, v in enumerate(value)])
    return np.array(rows)


@pytest.mark.parametrize("chunk", [1, 7, 256])
@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("spec", [SPEC, FREE, replace(SPEC, gripper_index=0)], ids=["last", "none", "first"])
def test_noise_is_that_of_its_slow_twin_however_it_is_drawn(
    spec: FamilySpec, varied: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noises, "_CHUNK_STEPS", chunk)
    scales, seeds, config, steps = [0.3, 0.0, 1.5], [4, 5, 6], NoiseConfig(9.0, 0.8, varied), 300
    fast = OrnsteinUhlenbeckNoise(scales, seeds, spec, config)
    got = np.stack([fast.step(number, np.arange(3)) for number in range(steps)])
    for row, (scale, seed) in enumerate(zip(scales, seeds, strict=True)):
        np.testing.assert_allclose(got[:, row], slow_noise(scale, seed, spec, config, steps), atol=1e-12)


def test_a_row_goes_on_as_if_the_others_had_not_ended() -> None:
    together = OrnsteinUhlenbeckNoise([0.3] * 3, [4, 5, 6], FREE)
    alone = OrnsteinUhlenbeckNoise([0.3], [5], FREE)
    for number in range(600):
        rows = np.array([0, 1, 2] if number < 10 else [1])
        np.testing.assert_array_equal(together.step(number, rows)[rows == 1], alone.step(number, np.array([0])))


def attempt_of(family: Any, seeds: list[int]) -> Attempt:
    return make_attempt(family, [Task("line", "train", f"t{seed}", (0.0,), "") for seed in seeds], seeds)


def with_noise(spec: FamilySpec, scales: list[float], steps: int = 10) -> list[Episode]:
    attempt = attempt_of(LineFamily(spec=spec), list(range(len(scales))))
    policy = NoisyPolicy(FixedPolicy(), OrnsteinUhlenbeckNoise(scales, attempt.seeds, spec))
    return roll_out(attempt, policy, RolloutSettings(steps), "noisy")


def test_noise_spares_the_gripper() -> None:
    [noisy] = with_noise(SPEC, [0.3])
    assert noisy.trajectory.actions[:, :2].all() and not noisy.trajectory.actions[:, 2].any()
    [all_of_it] = with_noise(FREE, [0.3])
    assert all_of_it.trajectory.actions.all()


def test_each_row_may_have_its_own_noise() -> None:
    quiet, noisy = with_noise(SPEC, [0.0, 0.3])
    assert not quiet.trajectory.actions.any() and noisy.trajectory.actions[:, :2].all()


def test_what_is_executed_stays_within_bounds_and_is_what_is_recorded() -> None:
    [episode] = with_noise(FREE, [9.0])
    assert np.abs(episode.trajectory.actions).max() == 1.0


def test_noise_has_its_scale_and_its_correlation() -> None:
    [episode] = with_noise(LONG, [0.2], steps=2000)
    walk = episode.trajectory.actions[:, 0]
    assert walk.std() == pytest.approx(0.2, rel=0.2)
    assert np.corrcoef(walk[1:], walk[:-1])[0, 1] == pytest.approx(0.9, abs=0.05)


def test_exploration_ends_with_the_first_success() -> None:
    """Noise belongs to a policy; the paper's method asks its context how much."""
    exploration = ExplorationConfig(trial_noise=0.1, retrial_noise=0.2)
    won = make_trajectory(3)
    lost = replace(won, successes=np.zeros(3, bool))
    assert exploration.scale(Context()) == 0.1
    assert exploration.scale(Context((won,))) == 0.1  # the demonstration's success is not one's own
    assert exploration.scale(Context((won,), (lost,))) == 0.2
    assert exploration.scale(Context((), (won, lost))) == 0.0
    assert exploration.scale(Context((), (won.with_outcome_masked(), lost))) == 0.2


def test_the_expert_is_noisy_in_what_it_does_and_clean_in_its_label() -> None:
    settings, family = RolloutSettings(10, ask_expert=True), LineFamily(spec=FREE)
    episodes = play(attempt_of(family, [0, 1, 2, 3]), Expert(NoiseConfig(0.3, varied=True)), settings)
    spread = [np.abs(e.trajectory.actions - e.expert_actions).mean() for e in episodes]
    assert all(0 < s < 0.6 for s in spread) and max(spread) > 2 * min(spread)  # each episode draws its own scale
    assert all((e.expert_actions == 0.25).all() and e.source == "demonstrator" for e in episodes)
    [clean] = play(attempt_of(family, [0]), Expert(), settings)
    np.testing.assert_array_equal(clean.trajectory.actions, clean.expert_actions)
