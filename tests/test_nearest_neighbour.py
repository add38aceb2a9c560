"""The look-up: exact where everything is only shifted, never stuck, and blind to what is absent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from steps import step_of

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import ObservationLayout, Task
from wtl.methods.nearest_neighbour import NearestConfig, NearestNeighbour, relative_features
from wtl.play.noise import Expert
from wtl.play.policy import Attempt, FromContext, Player, Policy, Session
from wtl.play.rollout import RolloutSettings, play
from wtl.tasks.toy import CANDIDATES, ToyFamily

FAMILY = ToyFamily("probe-blue")
SETTINGS = RolloutSettings(FAMILY.spec.horizon_steps)
CONFIG = NearestConfig()
LINE = ObservationLayout(size=3, dimensions=1, points=(0, 1), scalars=(2,))
"""A hand, an object and a gripper on a line."""


def played(task: Task, player: Player, *shown: Trajectory) -> Episode:
    context = Context(shown)
    session = Session(task, context, (), 0)
    (episode,) = play(Attempt(FAMILY, [FAMILY.make_environment()], [session], [context], [0]), player, SETTINGS)
    return episode


def path(observations: list[list[float]], actions: list[float]) -> Trajectory:
    count = len(actions)
    return Trajectory(np.array(observations), np.array(actions)[:, None], np.zeros(count), np.zeros(count, bool))


def actions_at(policy: Policy, observations: list[list[float]]) -> list[float]:
    return [float(policy.act(step_of([observation]))[0, 0]) for observation in observations]


@pytest.mark.parametrize("index", range(5))
def test_replays_exactly_where_everything_is_shifted(index: int) -> None:
    task = FAMILY.sample_tasks(5, 0, "train")[index]
    demonstration = played(task, Expert()).trajectory
    shift = np.tile([0.7, -1.3], 1 + 2 * CANDIDATES)
    positions = np.array(task.parameters[:-1]) + shift
    moved = replace(task, name="moved", parameters=(*(float(x) for x in positions), task.parameters[-1]))
    method = NearestNeighbour(CONFIG, FAMILY.spec.layout)
    replay = played(moved, FromContext(method), demonstration).trajectory
    np.testing.assert_array_equal(replay.actions, demonstration.actions)
    moved_path = demonstration.observations + shift
    np.testing.assert_allclose(replay.observations, moved_path, atol=1e-5)
    assert replay.success


def test_rows_keep_their_own_phase() -> None:
    contexts = [Context((played(task, Expert()).trajectory,)) for task in FAMILY.sample_tasks(3, 0, "train")]
    method = NearestNeighbour(CONFIG, FAMILY.spec.layout)
    together = method.adapt(contexts, [0, 1, 2])
    paths = [context.demonstration.observations for context in contexts if context.demonstration]
    for step in range(4):
        rows = np.array([0, 1, 2]) if step % 2 else np.array([2, 0])
        actions = together.act(step_of(np.stack([paths[row][step] for row in rows]), rows))
        assert actions.shape == (len(rows), 2)
        if step % 2 == 0:
            expected = contexts[2].demonstration.actions[step] if contexts[2].demonstration else None
            np.testing.assert_array_equal(actions[0], expected)


def test_never_goes_back() -> None:
    demonstration = path([[i, 9, 0] for i in (1, 2, 3, 4)], [0.1, 0.2, 0.3])
    policy = NearestNeighbour(CONFIG, LINE).adapt([Context((demonstration,))], [0])
    assert actions_at(policy, [[3, 9, 0], [1, 9, 0], [2, 9, 0]]) == pytest.approx([0.3, 0.3, 0.3])


def test_jumps_no_farther_than_its_window() -> None:
    demonstration = path([[i + 1, 9, 0] for i in range(8)], [i / 10 for i in range(7)])
    policy = NearestNeighbour(NearestConfig(window_steps=2), LINE).adapt([Context((demonstration,))], [0])
    assert actions_at(policy, [[7, 9, 0]] * 3) == pytest.approx([0.1, 0.3, 0.5])


def test_moves_on_when_nothing_changes() -> None:
    demonstration = path([[i + 1, 9, 0] for i in range(4)], [0.0, 0.1, 0.2])
    policy = NearestNeighbour(NearestConfig(patience_steps=2), LINE).adapt([Context((demonstration,))], [0])
    assert actions_at(policy, [[1, 9, 0]] * 8) == pytest.approx([0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2])


def test_frames_that_look_the_same_are_played_in_order() -> None:
    demonstration = path([[1, 9, 0]] * 4, [0.1, 0.2, 0.3])
    policy = NearestNeighbour(CONFIG, LINE).adapt([Context((demonstration,))], [0])
    assert actions_at(policy, [[6, 14, 0]] * 3) == pytest.approx([0.1, 0.2, 0.3])


def test_features_by_hand() -> None:
    observations = np.array([[1.0, 4.0, 0.6], [1.0, 0.0, 0.6]])  # the second object is absent
    np.testing.assert_allclose(relative_features(observations, LINE, 0.5), [[3.0, 0.3], [0.0, 0.3]])


def test_needs_a_demonstration() -> None:
    with pytest.raises(ValueError, match="got 1 of 1 contexts without"):
        NearestNeighbour(CONFIG, LINE).adapt([Context()], [0])
    with pytest.raises(ValueError, match="NearestConfig.window_steps must be between 1 and"):
        NearestConfig(window_steps=0)
