"""Following: exact where nothing has changed, bent where something has, never stuck, and another guess each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wtl.core.episode import Context, Trajectory
from wtl.core.task import ObservationLayout
from wtl.methods.transfer.controller import Astray, Follower, FollowerConfig, route_of

LAYOUT = ObservationLayout(size=5, dimensions=2, points=(0, 2), scalars=(4,), hand_step=0.1)
"""A hand and an object in the plane, and a gripper."""
CONFIG = FollowerConfig(touch_spread_steps=0.0, rest_steps=3, patience_steps=30, tolerance_steps=0.5)
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


class World:
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
    world: World, guide: Trajectory, shifts: list[list[float]], steps: int, config: FollowerConfig = CONFIG
) -> list:
    follower = Follower(config, LAYOUT, [guide], lambda rows, _: np.array([shifts]), [0])
    path = []
    for _ in range(steps):
        action = follower.act(world.observation()[None], np.array([0]))[0]
        assert (np.abs(action) <= 1).all()
        world.step(action)
        path.append(world.observation())
    return path


def test_where_nothing_has_changed_the_actions_are_the_recorded_ones() -> None:
    guide = carried()
    follower = Follower(CONFIG, LAYOUT, [guide], lambda rows, _: np.zeros((1, 1, 2)), [0])
    actions = [follower.act(guide.observations[[step]], np.array([0]))[0] for step in range(STEPS)]
    np.testing.assert_array_equal(actions, guide.actions)  # to the last bit, or a repetition would drift


@pytest.mark.parametrize("shift", [[0.0, 0.0], [0.5, 0.3], [-0.4, -0.2]])
@pytest.mark.parametrize("start", [(1.0, 0.0), (1.4, 0.3)])
def test_an_object_is_met_where_it_stands_and_brought_to_the_shifted_end(
    start: tuple[float, float], shift: list[float]
) -> None:
    guide = carried()
    end = guide.observations[-1, 2:4] + shift
    path = played(World(start), guide, [shift], 90, replace(CONFIG, rest_steps=100))
    np.testing.assert_allclose(path[-1][2:4], end, atol=0.15)


def test_a_route_goes_by_every_object_that_begins_to_move() -> None:
    """A stick is brought to a ball, and on with it: wherever the ball lies, the stick goes by it."""
    layout = replace(LAYOUT, size=7, points=(0, 2, 5))
    shown = carried()
    meets = 20  # half of the stick's way
    ball = np.tile(shown.observations[meets, 2:4], (STEPS + 1, 1))
    ball[meets:] = shown.observations[meets:, 2:4]
    guide = replace(shown, observations=np.concatenate([shown.observations, ball], axis=1))
    stick, later = route_of(guide, layout, replace(CONFIG, moved_steps=0.5)).stations
    assert (stick.place, stick.progress, later.place) == (1, 0.0, 2)
    assert later.progress == pytest.approx(0.6)  # it has moved by half a step of the hand
    at_last = np.concatenate([guide.observations[:, :5], np.vstack([ball[:1]] * STEPS + [ball[:1] + 0.1])], axis=1)
    alone = route_of(replace(guide, observations=at_last), layout, replace(CONFIG, moved_steps=0.5))
    assert [station.place for station in alone.stations] == [1]  # nothing is left of the way
    assert alone.moved_from == CARRY + 1

    world, off = World((1.2, 0.0)), np.array([0.1, 0.3])
    here = ball[0] + off
    config = replace(CONFIG, moved_steps=0.5, rest_steps=100)
    follower = Follower(config, layout, [guide], lambda rows, _: np.array([[[0.5, 0.5]]]), [0])
    path = []
    for _ in range(90):
        seen = np.concatenate([world.observation(), here])
        world.step(follower.act(seen[None], np.array([0]))[0])
        path.append(world.thing)
    assert np.linalg.norm(np.array(path) - here - [0.0, 0.1], axis=1).min() < 0.07
    np.testing.assert_allclose(path[-1], shown.observations[-1, 2:4] + 0.5, atol=0.15)


def test_guesses_are_tried_one_after_another() -> None:
    shifts = [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]
    guide = carried()
    ends = np.array([guide.observations[-1, 2:4] + shift for shift in shifts])
    path = np.array(played(World((1.0, 0.0)), guide, shifts, 300))[:, 2:4]
    came_near = [int(np.argmax(np.linalg.norm(path - end, axis=1) < 0.15)) for end in ends]
    assert 0 < came_near[0] < came_near[1] < came_near[2]


@pytest.mark.parametrize("resume_steps", [5, 1000])
def test_with_the_object_in_hand_only_the_end_of_the_route_is_walked_again(resume_steps: int) -> None:
    guide, world, ends = carried(), World((1.0, 0.0)), [[0.0, 0.0], [0.3, 0.0], [0.0, -0.3]]
    path = np.array(played(world, guide, ends, 95, replace(CONFIG, resume_steps=resume_steps)))[:, 2:4]
    for end in ends:
        assert np.linalg.norm(path - guide.observations[-1, 2:4] - end, axis=1).min() < 0.1
    assert world.grips == [-1.0] * GRASP + [1.0] * (95 - GRASP)  # never opened, however far back one would resume


def test_an_object_that_was_lost_is_fetched_again() -> None:
    guide, world = carried(), World((1.0, 0.0))
    config, shifts = replace(CONFIG, rest_steps=6), [[0.0, 0.0], [0.5, 0.0]]
    follower = Follower(config, LAYOUT, [guide], lambda rows, _: np.array([shifts]), [0])
    for step in range(150):
        if step == STEPS + 4:  # it slips away while the hand rests
            world.thing = np.array([0.2, 0.5])
        world.step(follower.act(world.observation()[None], np.array([0]))[0])
        if step > STEPS + 4 and np.linalg.norm(world.thing - guide.observations[-1, 2:4] - shifts[1]) < 0.2:
            break
    else:
        pytest.fail(f"the object lies at {world.thing}")
    assert -1.0 in world.grips[STEPS + 4 :]


def test_a_hand_that_is_held_up_presses_on_along_the_route() -> None:
    guide = carried(start=(1.0, 1.0), way=(1.0, 0.0))
    follower = Follower(
        replace(CONFIG, rest_steps=1000, patience_steps=4), LAYOUT, [guide], lambda rows, _: np.zeros((1, 1, 2)), [0]
    )
    world = World((1.0, 1.0), wall=0.5)
    grips = []
    for _ in range(40):
        action = follower.act(world.observation()[None], np.array([0]))[0]
        world.step(action)
        grips.append(action[2])
    assert grips[-1] == 1.0  # it came to the part of the route in which the gripper is closed


def test_the_route_ends_shortly_after_the_first_success() -> None:
    assert len(route_of(carried(), LAYOUT, replace(CONFIG, after_success_steps=0)).actions_TA) == STEPS - 1
    assert len(route_of(carried(), LAYOUT, CONFIG).actions_TA) == STEPS


def test_progress_by_hand() -> None:
    route = route_of(carried(), LAYOUT, CONFIG)
    assert [station.place for station in route.stations] == [1]
    np.testing.assert_allclose(route.progress_T, [0.0] * (CARRY + 1) + [0.1 * i for i in range(1, 10)], atol=1e-6)
    guide = carried()
    still = guide.observations.copy()
    still[:, 2:4] = [3.0, 3.0]
    moved_nothing = Trajectory(still, guide.actions, guide.rewards, guide.successes)
    way = route_of(moved_nothing, LAYOUT, CONFIG).progress_T
    assert way[0] == 0.0 and (np.diff(way) >= 0).all()  # the hand's own way, then
    alone = still.copy()
    alone[:, 2:4] = 0.0
    assert route_of(Trajectory(alone, guide.actions, guide.rewards, guide.successes), LAYOUT, CONFIG).stations == ()


def test_rows_keep_their_own_routes() -> None:
    guides = [carried(), carried(way=(0.5, 0.5))]
    follower = Follower(CONFIG, LAYOUT, guides, lambda rows, _: np.zeros((len(rows), 1, 2)), [0, 1])
    for step in range(STEPS):
        rows = np.array([1, 0]) if step % 2 else np.array([0, 1])
        actions = follower.act(np.stack([guides[row].observations[step] for row in rows]), rows)
        np.testing.assert_allclose(actions, [guides[row].actions[step] for row in rows], atol=1e-6)


def test_bad_input_is_one_sentence() -> None:
    still = replace(LAYOUT, hand_step=0.0)
    with pytest.raises(ValueError, match="hand_step says how far"):
        Follower(CONFIG, still, [carried()], lambda rows, _: np.zeros((1, 1, 2)), [0])
    with pytest.raises(ValueError, match="got 1 contexts without"):
        Astray(CONFIG, LAYOUT, (np.zeros((1, 2)),)).actor([Context()], [0])
    with pytest.raises(ValueError, match="follower.gain must be positive"):
        FollowerConfig(gain=0.0)
    with pytest.raises(ValueError, match="follower.rest_steps must not be negative"):
        FollowerConfig(rest_steps=-1)
    with pytest.raises(ValueError, match="follower.hold_steps must be positive"):
        FollowerConfig(hold_steps=0.0)
