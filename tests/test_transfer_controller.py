"""The controller: exact where nothing has changed, warped where something has, never stuck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from steps import step_of

from wtl.core.episode import Trajectory
from wtl.core.task import ObservationLayout
from wtl.methods.transfer.controller import ControllerConfig, TransferPolicy
from wtl.methods.transfer.reference import ReferenceConfig, read_reference

LAYOUT = ObservationLayout(size=5, dimensions=2, points=(0, 2), scalars=(4,), hand_step=0.1)
"""A hand and an object in the plane, and a gripper."""
CONFIG = ControllerConfig(touch_spread_steps=0.0, rest_steps=3, patience_steps=30, tolerance_steps=0.5)
GRASP, CARRY, STEPS = 10, 15, 25  # when the gripper closes, when the hand goes on with the object, when it is there


def carried(start: tuple[float, float] = (1.0, 0.0), way: tuple[float, float] = (0.0, 1.0)) -> Trajectory:
    """The hand goes from (0, 1) to an object in ten steps, closes for five, and brings it a way in ten more."""
    hand = [np.array([0.0, 1.0])]
    thing = [np.array(start)]
    actions = []
    for step in range(STEPS):
        motion = np.zeros(2)
        if step < GRASP:
            motion = (np.array(start) - [0.0, 1.0]) / 10
        elif step >= CARRY:
            motion = np.array(way) / 10
        hand.append(hand[-1] + motion)
        thing.append(thing[-1] + (motion if step >= CARRY else 0.0))
        actions.append([*(motion / LAYOUT.hand_step), 1.0 if step >= GRASP else -1.0])
    observations = np.concatenate([hand, thing, np.zeros((STEPS + 1, 1))], axis=1)
    return Trajectory(observations, np.array(actions), np.arange(float(STEPS)), np.arange(STEPS) >= STEPS - 2)


class Bench:
    """A hand that moves as it is told, and carries the object once it has closed next to it."""

    def __init__(self, start: tuple[float, float], wall: float = np.inf) -> None:
        self.hand, self.thing, self.wall = np.array([0.0, 1.0]), np.array(start), wall
        self.grips: list[float] = []

    def observation(self) -> np.ndarray:
        return np.array([*self.hand, *self.thing, 0.0])

    def step(self, action: np.ndarray) -> None:
        self.grips.append(action[2])
        before = self.hand.copy()
        self.hand = np.minimum(self.hand + LAYOUT.hand_step * action[:2], self.wall)
        if action[2] > 0 and np.linalg.norm(before - self.thing) < 0.12:
            self.thing = self.thing + self.hand - before


def played(
    bench: Bench, reference: Trajectory, offsets: list[list[float]], steps: int, config: ControllerConfig = CONFIG
) -> list:
    policy = TransferPolicy(config, LAYOUT, [reference], lambda rows, _: np.array([offsets]), [0])
    path = []
    for _ in range(steps):
        action = policy.act(step_of(bench.observation()[None]))[0]
        assert (np.abs(action) <= 1).all()
        bench.step(action)
        path.append(bench.observation())
    return path


def test_where_nothing_has_changed_the_actions_are_the_recorded_ones() -> None:
    reference = carried()
    policy = TransferPolicy(CONFIG, LAYOUT, [reference], lambda rows, _: np.zeros((1, 1, 2)), [0])
    actions = [policy.act(step_of(reference.observations[[step]]))[0] for step in range(STEPS)]
    np.testing.assert_array_equal(actions, reference.actions)  # to the last bit, or a repetition would drift


@pytest.mark.parametrize("offset", [[0.0, 0.0], [0.5, 0.3], [-0.4, -0.2]])
@pytest.mark.parametrize("start", [(1.0, 0.0), (1.4, 0.3)])
def test_an_object_is_met_where_it_stands_and_brought_to_the_shifted_end(
    start: tuple[float, float], offset: list[float]
) -> None:
    reference = carried()
    end = reference.observations[-1, 2:4] + offset
    path = played(Bench(start), reference, [offset], 90, replace(CONFIG, rest_steps=100))
    np.testing.assert_allclose(path[-1][2:4], end, atol=0.15)


def test_a_reference_goes_by_every_object_that_begins_to_move() -> None:
    """A stick is brought to a ball, and on with it: wherever the ball lies, the stick goes by it."""
    layout = replace(LAYOUT, size=7, points=(0, 2, 5))
    shown = carried()
    meets = 20  # half of the stick's way
    ball = np.tile(shown.observations[meets, 2:4], (STEPS + 1, 1))
    ball[meets:] = shown.observations[meets:, 2:4]
    reference = replace(shown, observations=np.concatenate([shown.observations, ball], axis=1))
    reading = ReferenceConfig(moved_steps=0.5)
    stick, later = read_reference(reference, layout, reading).waypoints
    assert (stick.point, stick.progress, later.point) == (1, 0.0, 2)
    assert later.progress == pytest.approx(0.6)  # it has moved by half a step of the hand
    at_last = np.concatenate([reference.observations[:, :5], np.vstack([ball[:1]] * STEPS + [ball[:1] + 0.1])], axis=1)
    alone = read_reference(replace(reference, observations=at_last), layout, reading)
    assert [waypoint.point for waypoint in alone.waypoints] == [1]  # nothing is left of the way
    assert alone.moved_from == CARRY + 1

    bench, off = Bench((1.2, 0.0)), np.array([0.1, 0.3])
    here = ball[0] + off
    config = replace(CONFIG, reference=reading, rest_steps=100)
    policy = TransferPolicy(config, layout, [reference], lambda rows, _: np.array([[[0.5, 0.5]]]), [0])
    path = []
    for _ in range(90):
        seen = np.concatenate([bench.observation(), here])
        bench.step(policy.act(step_of(seen[None]))[0])
        path.append(bench.thing)
    assert np.linalg.norm(np.array(path) - here - [0.0, 0.1], axis=1).min() < 0.07
    np.testing.assert_allclose(path[-1], shown.observations[-1, 2:4] + 0.5, atol=0.15)


def test_hypotheses_are_tried_one_after_another() -> None:
    offsets = [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]
    reference = carried()
    ends = np.array([reference.observations[-1, 2:4] + offset for offset in offsets])
    path = np.array(played(Bench((1.0, 0.0)), reference, offsets, 300))[:, 2:4]
    came_near = [int(np.argmax(np.linalg.norm(path - end, axis=1) < 0.15)) for end in ends]
    assert 0 < came_near[0] < came_near[1] < came_near[2]


@pytest.mark.parametrize("resume_steps", [5, 1000])
def test_with_the_object_in_hand_only_the_end_of_the_reference_is_tracked_again(resume_steps: int) -> None:
    reference, bench, ends = carried(), Bench((1.0, 0.0)), [[0.0, 0.0], [0.3, 0.0], [0.0, -0.3]]
    path = np.array(played(bench, reference, ends, 95, replace(CONFIG, resume_steps=resume_steps)))[:, 2:4]
    for end in ends:
        assert np.linalg.norm(path - reference.observations[-1, 2:4] - end, axis=1).min() < 0.1
    assert bench.grips == [-1.0] * GRASP + [1.0] * (95 - GRASP)  # never opened, however far back one would resume


def test_an_object_that_was_lost_is_fetched_again() -> None:
    reference, bench = carried(), Bench((1.0, 0.0))
    config, offsets = replace(CONFIG, rest_steps=6), [[0.0, 0.0], [0.5, 0.0]]
    policy = TransferPolicy(config, LAYOUT, [reference], lambda rows, _: np.array([offsets]), [0])
    for step in range(150):
        if step == STEPS + 4:  # it slips away while the hand rests
            bench.thing = np.array([0.2, 0.5])
        bench.step(policy.act(step_of(bench.observation()[None]))[0])
        if step > STEPS + 4 and np.linalg.norm(bench.thing - reference.observations[-1, 2:4] - offsets[1]) < 0.2:
            break
    else:
        pytest.fail(f"the object lies at {bench.thing}")
    assert -1.0 in bench.grips[STEPS + 4 :]


def test_a_hand_that_is_held_up_presses_on_along_the_reference() -> None:
    reference = carried(start=(1.0, 1.0), way=(1.0, 0.0))
    policy = TransferPolicy(
        replace(CONFIG, rest_steps=1000, patience_steps=4),
        LAYOUT,
        [reference],
        lambda rows, _: np.zeros((1, 1, 2)),
        [0],
    )
    bench = Bench((1.0, 1.0), wall=0.5)
    grips = []
    for _ in range(40):
        action = policy.act(step_of(bench.observation()[None]))[0]
        bench.step(action)
        grips.append(action[2])
    assert grips[-1] == 1.0  # it came to the part of the reference in which the gripper is closed


def test_the_reference_ends_shortly_after_the_first_success() -> None:
    assert len(read_reference(carried(), LAYOUT, ReferenceConfig(tail_steps=0)).actions_TA) == STEPS - 1
    assert len(read_reference(carried(), LAYOUT, ReferenceConfig()).actions_TA) == STEPS


def test_progress_by_hand() -> None:
    reading = read_reference(carried(), LAYOUT, ReferenceConfig())
    assert [waypoint.point for waypoint in reading.waypoints] == [1]
    np.testing.assert_allclose(reading.progress_T, [0.0] * (CARRY + 1) + [0.1 * i for i in range(1, 10)], atol=1e-6)
    reference = carried()
    still = reference.observations.copy()
    still[:, 2:4] = [3.0, 3.0]
    moved_nothing = Trajectory(still, reference.actions, reference.rewards, reference.successes)
    way = read_reference(moved_nothing, LAYOUT, ReferenceConfig()).progress_T
    assert way[0] == 0.0 and (np.diff(way) >= 0).all()  # the hand's own way, then
    alone = still.copy()
    alone[:, 2:4] = 0.0
    no_object = replace(reference, observations=alone)
    assert read_reference(no_object, LAYOUT, ReferenceConfig()).waypoints == ()


def test_rows_keep_their_own_references() -> None:
    references = [carried(), carried(way=(0.5, 0.5))]
    policy = TransferPolicy(CONFIG, LAYOUT, references, lambda rows, _: np.zeros((len(rows), 1, 2)), [0, 1])
    for step in range(STEPS):
        rows = np.array([1, 0]) if step % 2 else np.array([0, 1])
        actions = policy.act(step_of(np.stack([references[row].observations[step] for row in rows]), rows))
        np.testing.assert_allclose(actions, [references[row].actions[step] for row in rows], atol=1e-6)


def test_bad_input_is_one_sentence() -> None:
    still = replace(LAYOUT, hand_step=0.0)
    with pytest.raises(ValueError, match="hand_step says how far"):
        TransferPolicy(CONFIG, still, [carried()], lambda rows, _: np.zeros((1, 1, 2)), [0])
    for name, value in {"gain": 0.0, "catch_up_gain": -1.0, "tolerance_steps": 0.0, "hold_steps": 0.0}.items():
        with pytest.raises(ValueError, match=f"ControllerConfig.{name} must be more than 0 .*, got {value}"):
            ControllerConfig(**{name: value})  # type: ignore[arg-type]
    for name in ("patience_steps", "rest_steps", "resume_steps", "touch_spread_steps"):
        with pytest.raises(ValueError, match=f"ControllerConfig.{name} must be between 0 and 1000000, got -1"):
            ControllerConfig(**{name: -1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ReferenceConfig.moved_steps must be more than 0"):
        ReferenceConfig(moved_steps=0)
    with pytest.raises(ValueError, match="ReferenceConfig.tail_steps must be between 0"):
        ReferenceConfig(tail_steps=-1)
