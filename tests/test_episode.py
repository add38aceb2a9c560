"""Episodes are what they claim to be, cannot be changed, and have no room for what is hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import episodes, make_episode, make_task, make_trajectory, trajectories

from wtl.core.episode import Context, Episode, Trajectory
from wtl.play.attempts import extended
from wtl.play.policy import Session
from wtl.stages.controls import CONTROLS, Control, ControlEntry

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
        (episode.goal, np.float32), (episode.expert_actions, np.float32),
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
    """A new field here must be something that the learner itself saw, or was told."""
    seen = {"observations", "actions", "rewards", "successes", "outcome_known", "extras"}
    assert {f.name for f in fields(Trajectory)} == seen
    known = {"demonstrations", "trials", "instruction", "desired_return", "extras"}
    assert {f.name for f in fields(Context)} == known


@settings(max_examples=25, deadline=None)
@given(trajectories())
def test_a_masked_trial_keeps_its_path_and_loses_its_outcome(t: Trajectory) -> None:
    masked = t.with_outcome_masked()
    assert not masked.outcome_known and not masked.rewards.any() and not masked.success
    np.testing.assert_array_equal(masked.observations, t.observations)
    np.testing.assert_array_equal(masked.actions, t.actions)
    assert t.outcome_known


def test_a_masked_trial_keeps_what_else_it_holds() -> None:
    seen = replace(GOOD, extras={"frames": np.zeros((4, 2, 2, 3), np.uint8)})
    assert seen.with_outcome_masked().extras is seen.extras


def test_a_context_grows_by_copies() -> None:
    empty = Context((GOOD,))
    grown = empty.with_trial(GOOD).with_trial(make_trajectory(2))
    assert (len(empty.trials), len(grown.trials)) == (0, 2) and grown.demonstration is GOOD
    masked = grown.with_trials(Trajectory.with_outcome_masked)
    assert [t.outcome_known for t in masked.trials] == [False, False]
    assert masked.demonstration is GOOD and grown.trials[0].outcome_known


def test_the_newest_trials_are_the_last_ones() -> None:
    trials = tuple(make_trajectory(steps) for steps in (1, 2, 3))
    context = Context((GOOD,), trials)
    assert context.newest(2).trials == trials[1:]
    assert context.newest(9).trials == trials and context.newest(0).trials == ()


def test_only_a_known_success_of_a_trial_means_solved() -> None:
    assert GOOD.success and not Context((GOOD,)).solved
    assert Context((), (GOOD,)).solved
    assert not Context((), (GOOD.with_outcome_masked(),)).solved


@dataclass(frozen=True, eq=False)
class WiderContext(Context):
    """A context with a field that this package has never heard of."""

    mood: str = ""


def wide(mood: str) -> WiderContext:
    """A context of which every field tells whose it is."""
    made = iter(range(3, 9))
    return WiderContext(
        demonstrations=(make_trajectory(next(made)), make_trajectory(next(made))),
        trials=(make_trajectory(next(made)), make_trajectory(next(made))),
        instruction=f"go {mood}",
        desired_return=float(len(mood)),
        extras={"mood": mood},
        mood=mood,
    )


OWN, PARTNER = wide("left"), wide("to the right")
TRAJECTORIES = {"demonstrations", "trials"}


def kept(context: Context) -> dict[str, Any]:
    """All fields but the trajectories."""
    return {f.name: getattr(context, f.name) for f in fields(context) if f.name not in TRAJECTORIES}


@pytest.mark.parametrize(
    "change",
    [
        lambda context: context.with_trial(GOOD),
        lambda context: context.newest(1),
        lambda context: context.with_trials(Trajectory.with_outcome_masked),
        lambda context: extended([context], [make_episode(make_task("a"))])[0],
    ],
    ids=["with_trial", "newest", "with_trials", "extended"],
)
def test_a_field_that_nobody_knows_is_kept(change: Callable[[Context], Context]) -> None:
    changed = change(OWN)
    assert isinstance(changed, WiderContext) and changed is not OWN
    assert kept(changed) == kept(OWN) and changed.demonstrations == OWN.demonstrations


ENTRY = ControlEntry(
    Session(make_task("a"), OWN, (), 0), spare=make_trajectory(7), stranger=make_trajectory(8), partner=1
)


@pytest.mark.parametrize("control", CONTROLS, ids=[control.name for control in CONTROLS])
def test_every_control_keeps_a_field_that_nobody_knows(control: Control) -> None:
    changed = control.change(OWN, ENTRY, PARTNER)
    assert isinstance(changed, WiderContext) and control.applies(ENTRY)
    assert kept(changed) == kept(OWN)  # the partner lends its trials and nothing else
    different = [name for name in TRAJECTORIES if getattr(changed, name) != getattr(OWN, name)]
    assert len(different) == 1  # each takes away one thing


def test_some_steps_of_a_trajectory_are_a_trajectory_of_their_own() -> None:
    arrays = {"picture": np.arange(5), "effort": np.arange(4), "camera": np.zeros((2, 2)), "one": np.float32(1.0)}
    whole = Trajectory(np.arange(5)[:, None], np.zeros((4, 1)), np.arange(4), [False, False, True, True], extras=arrays)
    part = whole.between(1, 3)
    assert part.observations[:, 0].tolist() == [1, 2, 3] and part.rewards.tolist() == [1, 2]
    assert part.successes.tolist() == [False, True] and len(part) == 2
    assert part.extras["picture"].tolist() == [1, 2, 3] and part.extras["effort"].tolist() == [1, 2]
    assert part.extras["camera"].shape == (2, 2) and part.extras["one"] == 1.0
    assert len(whole.between(-3, 99)) == 4
    with pytest.raises(ValueError, match="a trajectory needs at least one step, got steps 4 to 3 of 4"):
        whole.between(4, 6)
