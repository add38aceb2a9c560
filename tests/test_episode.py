"""Episodes are what they claim to be, cannot be changed, and have no room for what is hidden."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import episodes, make_episode, make_task, make_trajectory, trajectories

from wtl.core.episode import Context, Episode, Trajectory

GOOD = make_trajectory(3)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("observations", np.zeros((3, 7)), r"Trajectory.observations must have shape \(4, any\), got \(3, 7\)"),
        ("observations", np.zeros(4), r"Trajectory.observations must have shape \(4, any\), got \(4,\)"),
        ("actions", np.zeros((0, 2)), "a trajectory needs at least one step, got none"),
        ("actions", np.zeros(3), r"Trajectory.actions must have shape \(3, any\), got \(3,\)"),
        ("rewards", np.zeros(4), r"Trajectory.rewards must have shape \(3\), got \(4,\)"),
        ("successes", np.zeros((3, 1)), r"Trajectory.successes must have shape \(3\), got \(3, 1\)"),
    ],
)
def test_a_trajectory_says_what_was_expected_and_what_came(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **{field: value})


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("goal", np.zeros((1, 2)), r"Episode.goal must have shape \(any\), got \(1, 2\)"),
        ("expert_actions", np.zeros((3, 1)), r"Episode.expert_actions must have shape \(3, 2\), got \(3, 1\)"),
        ("states", np.zeros((3, 1)), r"Episode.states must have shape \(4, any\), got \(3, 1\)"),
    ],
)
def test_an_episode_says_what_was_expected_and_what_came(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_episode(make_task("a"), steps=3), **{field: value})


@settings(max_examples=25, deadline=None)
@given(episodes())
def test_arrays_have_their_types_and_are_read_only(episode: Episode) -> None:
    t = episode.trajectory
    for array, kind in (
        (t.observations, np.float32), (t.actions, np.float32), (t.rewards, np.float32), (t.successes, np.bool_),
        (episode.goal, np.float32), (episode.expert_actions, np.float32), (episode.states, np.float64),
    ):  # fmt: skip
        assert array.dtype == kind
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(FrozenInstanceError):
        t.rewards = t.rewards  # type: ignore[misc]
    assert len(t) == len(t.observations) - 1
    assert t.success == any(t.successes.tolist())


def test_the_arrays_of_the_caller_stay_writeable() -> None:
    rewards = np.zeros(3, np.float32)
    replace(GOOD, rewards=rewards)
    rewards[0] = 1.0


def test_nothing_hidden_has_a_field_in_what_a_policy_reads() -> None:
    """A new field here must be something that the learner itself saw."""
    assert {f.name for f in fields(Trajectory)} == {"observations", "actions", "rewards", "successes", "outcome_known"}
    assert {f.name for f in fields(Context)} == {"demonstration", "trials"}


@settings(max_examples=25, deadline=None)
@given(trajectories())
def test_a_masked_trial_keeps_its_path_and_loses_its_outcome(t: Trajectory) -> None:
    masked = t.with_outcome_masked()
    assert not masked.outcome_known and not masked.rewards.any() and not masked.success
    np.testing.assert_array_equal(masked.observations, t.observations)
    np.testing.assert_array_equal(masked.actions, t.actions)
    assert t.outcome_known


def test_a_context_grows_by_copies() -> None:
    empty = Context(GOOD)
    grown = empty.with_trial(GOOD).with_trial(make_trajectory(2))
    assert (len(empty.trials), len(grown.trials)) == (0, 2) and grown.demonstration is GOOD
    masked = grown.with_trials(Trajectory.with_outcome_masked)
    assert [t.outcome_known for t in masked.trials] == [False, False]
    assert masked.demonstration is GOOD and grown.trials[0].outcome_known
