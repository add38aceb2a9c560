"""The look-up: exact where the world is only shifted, never stuck, and blind to what is absent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wtl.methods.nearest import NearestConfig, NearestNeighbour, relative_features

from tasks.toy import CANDIDATES, ToyFamily
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import ObservationLayout, Task
from wtl.play.rollout import Actor, Demonstrator, Ending, Improver, roll_out

FAMILY = ToyFamily("probe-blue")
ENDING = Ending(FAMILY.spec.horizon_steps)
LINE = ObservationLayout(size=3, dimensions=1, points=(0, 1), scalars=(2,))
"""A hand, an object and a gripper on a line."""


def play(task: Task, actor: Actor | Demonstrator) -> Episode:
    (episode,) = roll_out(FAMILY, [FAMILY.make_environment()], [task], [0], actor, ending=ENDING)
    return episode


def path(observations: list[list[float]], actions: list[float]) -> Trajectory:
    count = len(actions)
    return Trajectory(np.array(observations), np.array(actions)[:, None], np.zeros(count), np.zeros(count, bool))


def actions_at(actor: Actor, observations: list[list[float]]) -> list[float]:
    return [float(actor.act(np.array([observation]), np.array([0]))[0, 0]) for observation in observations]


@pytest.mark.parametrize("index", range(5))
def test_replays_exactly_in_a_shifted_world(index: int) -> None:
    task = FAMILY.sample_tasks(5, 0, "train")[index]
    demonstration = play(task, Demonstrator()).trajectory
    shift = np.tile([0.7, -1.3], 1 + 2 * CANDIDATES)
    places = np.array(task.parameters[:-1]) + shift
    moved = replace(task, name="moved", parameters=(*(float(x) for x in places), task.parameters[-1]))
    improver: Improver = NearestNeighbour(FAMILY.spec.layout)
    replay = play(moved, improver.actor([Context(demonstration)], [0])).trajectory
    np.testing.assert_array_equal(replay.actions, demonstration.actions)
    moved_path = demonstration.observations + shift
    np.testing.assert_allclose(replay.observations, moved_path, atol=1e-5)
    assert replay.success


def test_rows_keep_their_own_place() -> None:
    contexts = [Context(play(task, Demonstrator()).trajectory) for task in FAMILY.sample_tasks(3, 0, "train")]
    improver = NearestNeighbour(FAMILY.spec.layout)
    together = improver.actor(contexts, [0, 1, 2])
    paths = [context.demonstration.observations for context in contexts if context.demonstration]
    for step in range(4):
        rows = np.array([0, 1, 2]) if step % 2 else np.array([2, 0])
        actions = together.act(np.stack([paths[row][step] for row in rows]), rows)
        assert actions.shape == (len(rows), 2)
        if step % 2 == 0:
            expected = contexts[2].demonstration.actions[step] if contexts[2].demonstration else None
            np.testing.assert_array_equal(actions[0], expected)


def test_never_goes_back() -> None:
    demonstration = path([[i, 9, 0] for i in (1, 2, 3, 4)], [0.1, 0.2, 0.3])
    actor = NearestNeighbour(LINE).actor([Context(demonstration)], [0])
    assert actions_at(actor, [[3, 9, 0], [1, 9, 0], [2, 9, 0]]) == pytest.approx([0.3, 0.3, 0.3])


def test_jumps_no_farther_than_its_window() -> None:
    demonstration = path([[i + 1, 9, 0] for i in range(8)], [i / 10 for i in range(7)])
    actor = NearestNeighbour(LINE, NearestConfig(window_steps=2)).actor([Context(demonstration)], [0])
    assert actions_at(actor, [[7, 9, 0]] * 3) == pytest.approx([0.1, 0.3, 0.5])


def test_moves_on_when_nothing_changes() -> None:
    demonstration = path([[i + 1, 9, 0] for i in range(4)], [0.0, 0.1, 0.2])
    actor = NearestNeighbour(LINE, NearestConfig(patience_steps=2)).actor([Context(demonstration)], [0])
    assert actions_at(actor, [[1, 9, 0]] * 8) == pytest.approx([0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2])


def test_frames_that_look_the_same_are_played_in_order() -> None:
    demonstration = path([[1, 9, 0]] * 4, [0.1, 0.2, 0.3])
    actor = NearestNeighbour(LINE).actor([Context(demonstration)], [0])
    assert actions_at(actor, [[6, 14, 0]] * 3) == pytest.approx([0.1, 0.2, 0.3])


def test_features_by_hand() -> None:
    observations = np.array([[1.0, 4.0, 0.6], [1.0, 0.0, 0.6]])  # the second object is absent
    np.testing.assert_allclose(relative_features(observations, LINE, 0.5), [[3.0, 0.3], [0.0, 0.3]])


def test_needs_a_demonstration() -> None:
    with pytest.raises(ValueError, match="got 1 of 1 contexts without"):
        NearestNeighbour(LINE).actor([Context()], [0])
    with pytest.raises(ValueError, match="at least 1 step"):
        NearestNeighbour(LINE, NearestConfig(window_steps=0))
