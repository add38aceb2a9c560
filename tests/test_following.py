"""Following as a method: what it follows, what it infers, and that a shift that can be read is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from strategies import PLANE, make_trajectory

from wtl.app.config import ConfigError, load_config
from wtl.core.episode import Context, Trajectory
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch, segments_of
from wtl.methods import load_policy
from wtl.methods.transfer.method import FollowingConfig, FollowingPolicy, guide_of
from wtl.methods.transfer.scorer import ShiftConfig, ShiftNetwork, most_promising

LAYOUT = replace(PLANE, hand_step=0.05)
SPEC = FamilySpec("alpha", LAYOUT, 2, 10, 2, True, 1.0)
CONFIG = FollowingConfig(ShiftConfig(width=16, decoys=8, proposals=40), max_trials=2)
SHOWN, *TRIED = (make_trajectory(5, seed) for seed in range(5))
FAILED = [replace(trial, successes=np.zeros(5, bool)) for trial in TRIED]
SOLVED = [replace(trial, successes=np.arange(5) >= 3) for trial in TRIED]
NOW = np.stack([make_trajectory(1, 50 + i).observations[0] for i in range(3)])


def policy(seed: int = 0) -> FollowingPolicy:
    torch.manual_seed(seed)
    made = FollowingPolicy(CONFIG, SPEC, 4)
    made.fit_features(torch.randn(30, PLANE.size))
    return made


def actions(made: FollowingPolicy, contexts: list[Context], seeds: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    return made.actor(contexts, seeds[: len(contexts)]).act(NOW[: len(contexts)], np.arange(len(contexts)))


# What is followed.


def test_the_newest_success_is_followed_then_the_demonstration_then_the_best_trial() -> None:
    assert guide_of(Context(SHOWN, (SOLVED[0], SOLVED[1], FAILED[2]))) is SOLVED[1]
    assert guide_of(Context(SHOWN, (FAILED[0],))) is SHOWN
    poor, rich = (replace(FAILED[0], rewards=np.full(5, value)) for value in (0.1, 0.2))
    assert guide_of(Context(None, (poor, rich, poor))) is rich
    with pytest.raises(ValueError, match="expects a demonstration or a trial, got neither; use cloning"):
        guide_of(Context())


def test_a_success_is_repeated_whatever_else_is_known() -> None:
    made = policy()
    alone = actions(made, [Context(None, (SOLVED[0],))])
    np.testing.assert_array_equal(alone, actions(made, [Context(SHOWN, (FAILED[1], SOLVED[0]))]))
    np.testing.assert_array_equal(alone, actions(policy(seed=9), [Context(SHOWN, (SOLVED[0],))]))


def test_a_success_that_is_masked_is_not_known_to_be_one() -> None:
    masked = Context(SHOWN, (SOLVED[0].with_outcome_masked(),))
    assert guide_of(masked) is SHOWN


def test_rows_act_by_themselves_and_a_saved_policy_acts_as_before(tmp_path: Path) -> None:
    made = policy()
    contexts = [Context(SHOWN), Context(TRIED[0], ()), Context(TRIED[1], ())]
    together = actions(made, contexts)
    assert together.shape == (3, 2) and np.abs(together).max() <= 1.0
    actor = made.actor(contexts, [1, 2, 3])
    rows = np.array([2, 0])
    np.testing.assert_allclose(actor.act(NOW[rows], rows), together[rows], atol=1e-9)
    made.save(tmp_path)
    again = load_policy(tmp_path, "following")
    assert isinstance(again, FollowingPolicy) and again.source.startswith("following ")
    np.testing.assert_array_equal(actions(again, contexts), together)
    other = policy(seed=5)
    other.start_from(tmp_path)
    np.testing.assert_array_equal(actions(other, contexts), together)


def test_only_the_newest_trials_are_read() -> None:
    made = policy()
    three, two = Context(SHOWN, tuple(FAILED[:3])), Context(SHOWN, tuple(FAILED[1:3]))
    np.testing.assert_array_equal(actions(made, [three]), actions(made, [two]))


# What is inferred.


def test_visible_shifts_by_hand() -> None:
    network = ShiftNetwork(CONFIG.shift, SPEC)
    shown = np.array(SHOWN.observations)
    shown[:, LAYOUT.points[1] :][:, :2] = [1.0, 2.0]
    shown[:, LAYOUT.points[2] :][:, :2] = 0.0  # absent
    start = np.zeros(PLANE.size, np.float32)
    start[LAYOUT.points[1] :][:2] = [1.5, 1.0]
    segments = segments_of([Context(replace(SHOWN, observations=shown))], 4, 1.0)
    shifts, there = network.visible(segments, torch.from_numpy(start[None]))
    assert shifts[0, 0].tolist() == [0.0, 0.0] and there[0].tolist() == [True, True, False]
    torch.testing.assert_close(shifts[0, 1], torch.tensor([0.5, -1.0]))
    with pytest.raises(ValueError, match="the context has no demonstration"):
        network.visible(segments_of([Context(None, (TRIED[0],))], 4, 1.0), torch.zeros(1, PLANE.size))


@pytest.mark.parametrize("prior", [0.0, 0.6])
def test_what_goes_along_with_something_visible_is_never_ruled_out(prior: float) -> None:
    torch.manual_seed(0)
    network = ShiftNetwork(replace(CONFIG.shift, visible_prior=prior), SPEC)
    network.features.fit(torch.randn(30, PLANE.size))
    with torch.no_grad():
        network.judge[-1].weight *= 100.0  # as sure of something as a judge can be
    shown = SHOWN.observations.copy()
    shown[0, 5:7] = 0.0  # the third place is not there
    segments = segments_of([Context(replace(SHOWN, observations=shown))], 4, 1.0)
    start = torch.from_numpy(NOW[:1])
    candidates, mass = network.posterior(segments, start, torch.Generator().manual_seed(1))
    torch.testing.assert_close(candidates[:, :3], network.visible(segments, start)[0])
    torch.testing.assert_close(mass.sum(), torch.tensor(1.0))
    assert (mass[0, :2] >= prior / 2).all() and mass[0, 2] == 0.0
    assert (mass[0, :2].min() < 0.05) == (prior == 0.0)


def test_promising_candidates_by_hand() -> None:
    candidates = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [9.0, 0.0]])
    mass = torch.tensor([0.2, 0.3, 0.4, 0.1])
    # Two near ones together outweigh a likelier one alone; what they covered does not count again.
    found = most_promising(candidates, mass, 0.5, 3)
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.0], [5.0, 0.0], [9.0, 0.0]]))


def batch_of(generator: np.random.Generator, contexts: int, hidden: bool) -> Batch:
    """The object goes to a goal: along with its start, or a hidden one that a trial's last reward lies about or not."""
    parts, starts, shifts = [], [], []
    for _ in range(contexts):
        places = generator.normal(size=(3, 2))
        shown_start, shown_goal, start = places
        shift = generator.normal(size=2) if hidden else start - shown_start
        shown = _brought(shown_start, shown_goal, 1.0)
        trials: tuple[Trajectory, ...] = ()
        if hidden:
            guesses = [shift + generator.normal(size=2) for _ in range(4)]
            ends = [shown_goal + guess for guess in guesses]
            rewards = [float(np.exp(-2 * np.linalg.norm(guess - shift))) for guess in guesses]
            trials = tuple(_brought(start, end, reward) for end, reward in zip(ends, rewards, strict=True))
        parts.append(Context(shown, trials))
        starts.append(_brought(start, start, 0.0).observations[0])
        shifts.append(shift)
    segments = segments_of(parts, 4, 1.0)
    zeros = torch.zeros(contexts, 1, PLANE.size)
    goal = torch.tensor(np.array(shifts), dtype=torch.float32)
    start_BO = torch.from_numpy(np.stack(starts))
    return Batch(segments, zeros, torch.zeros(contexts, 1, 2), start_BO, goal, torch.zeros_like(goal))


def _brought(start: np.ndarray, end: np.ndarray, reward: float) -> Trajectory:
    observations = np.zeros((5, PLANE.size))
    way = np.linspace(start, end, 5)
    for point in LAYOUT.points[:2]:
        observations[:, point : point + 2] = way + 1e-3
    return Trajectory(observations, np.zeros((4, 2)), np.linspace(0, reward, 4), np.zeros(4, bool))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_shift_that_can_be_read_is_learned(hidden: bool) -> None:
    """Against chance, which is ln(1 + number of decoys), and for the hidden goal against not reading the rewards."""
    generator = np.random.default_rng(0)
    made = policy()
    made.fit_features(batch_of(generator, 200, hidden).start_BO)
    optimiser = torch.optim.Adam(made.network.parameters(), 3e-3)
    for _ in range(300 if hidden else 150):
        optimiser.zero_grad()
        made.loss(batch_of(generator, 32, hidden)).total.backward()
        optimiser.step()
    test = batch_of(generator, 200, hidden)
    assert test.segments is not None
    told = made.loss(test).total.item()
    blind = replace(
        test.segments, rewards_BSF=0 * test.segments.rewards_BSF, mean_rewards_BSF=0 * test.segments.rewards_BSF
    )
    lied_to = made.loss(replace(test, segments=blind)).total.item()
    if hidden:
        assert told < 1.7 and told < lied_to - 0.2
    else:
        assert told < 0.5


def test_what_a_loss_draws_depends_on_its_batch_alone() -> None:
    """Else a team would not do what one process does, and validation would change training."""
    made, batch = policy(), batch_of(np.random.default_rng(1), 8, False)
    first = made.loss(replace(batch, seed=5)).total.item()
    torch.rand(3)
    assert made.loss(replace(batch, seed=5)).total.item() == first
    assert made.loss(replace(batch, seed=6)).total.item() != first


# Settings.


def test_following_needs_batches_of_its_own_kind() -> None:
    with pytest.raises(
        ConfigError, match=r"retrial.train.batch.no_demonstration and .trial_queries to 0, got 0.1 and 0.5"
    ):
        load_config("quick", ["operator=following"])
    with pytest.raises(ConfigError, match="set operator: imitating"):
        load_config("quick", ["operator=following", "regime=none"])
    with pytest.raises(ValueError, match="following.shift.decoys must be at least 1, got 0"):
        ShiftConfig(decoys=0)
    with pytest.raises(ValueError, match=r"following.shift.visible_prior must lie in \[0, 1\), got 1.0"):
        ShiftConfig(visible_prior=1.0)
