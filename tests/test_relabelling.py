"""Relabelling: what a path would have earned under another goal, by hand on the toy, bit by bit on Meta-World."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.relabelling import relabelled
from wtl.core.task import Task, TaskFamily
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings, play
from wtl.tasks.metaworld import splits
from wtl.tasks.metaworld.family import MetaWorldFamily
from wtl.tasks.toy import ToyFamily

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::RuntimeWarning")

MOVES_WITH_ITS_GOAL = frozenset({"box-close-v3", "plate-slide-v3"})
"""The box and the plate's goal are solid and stand where the goal is, so another goal makes another path."""


def noisy(family: TaskFamily, task: Task, settings: RolloutSettings) -> Episode:
    """The expert with so much noise that it wanders."""
    attempt = Attempt(family, [family.make_environment()], [Session(task, Context(), (), 3)], [Context()], [3])
    return play(attempt, Expert(NoiseConfig(0.5)), settings)[0]


# By hand.

RIGHT = Task("probe-red", "train", "right", (0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0), "right")
"""The point starts in the middle; the rewarded candidate stands at (1, 0)."""


def upwards(steps: int = 8) -> Episode:
    """The point walks straight up, 0.12 a step, away from its goal."""
    path = np.stack([np.zeros(steps + 1), np.cumsum([0.0] + [float(np.float32(0.12))] * steps)], 1)
    candidates = np.array(RIGHT.parameters[2:-1])
    observations = np.concatenate([path, np.tile(candidates, (steps + 1, 1))], 1)
    rewards = np.exp(-np.hypot(1.0, path[1:, 1]))
    trajectory = Trajectory(observations, np.tile([0.0, 1.0], (steps, 1)), rewards, np.zeros(steps, bool))
    return Episode(trajectory, RIGHT, "trial", 0, 0, "by hand", np.array([1.0, 0.0]), np.zeros((steps, 2)))


def test_a_failure_is_a_success_for_the_place_that_it_came_to() -> None:
    # Under the goal (0, .6) the point is .48, .36, .24, .12, 0, .12 away after steps 1 to 6: solved within .15.
    [hindsight] = relabelled(ToyFamily("probe-red"), upwards(6), np.array([[0.0, 0.6]]))
    np.testing.assert_allclose(
        hindsight.trajectory.rewards, np.exp([-0.48, -0.36, -0.24, -0.12, 0.0, -0.12]), rtol=1e-6
    )
    assert hindsight.trajectory.successes.tolist() == [False, False, False, True, True, True]
    assert hindsight.goal.tolist() == pytest.approx([0.0, 0.6]) and np.isnan(hindsight.expert_actions).all()
    assert hindsight.trajectory.observations.base is not None  # the path is shared
    np.testing.assert_array_equal(hindsight.trajectory.actions, upwards(6).trajectory.actions)


def test_a_relabelled_attempt_ends_where_an_attempt_would() -> None:
    [cut, whole] = relabelled(ToyFamily("probe-red"), upwards(8), np.array([[0.0, 0.6], [-1.0, 0.0]]), 1)
    assert len(cut.trajectory) == 5 and cut.trajectory.successes.tolist() == [False] * 3 + [True] * 2
    assert len(cut.expert_actions) == 5 and cut.trajectory.observations.shape == (6, 10)
    assert len(whole.trajectory) == 8 and not whole.trajectory.success


def test_the_own_goal_leaves_the_episode_as_it_was_and_another_one_is_a_task_of_its_own() -> None:
    family = ToyFamily("probe-red")
    episode = noisy(family, family.sample_tasks(1, 0, "train")[0], RolloutSettings(24))
    first, own, again = relabelled(family, episode, np.stack([[0.5, 0.5], episode.goal, [0.5, 0.5]]))
    assert own.task == episode.task and own.trajectory.rewards.tobytes() == episode.trajectory.rewards.tobytes()
    assert own.trajectory.successes.tolist() == episode.trajectory.successes.tolist()
    assert first.task == again.task != episode.task and first.task.parameters == ()
    assert first.task.goal_name != episode.task.goal_name and first.task.split == "train"


@pytest.mark.parametrize("goals", [np.zeros((1, 3)), np.zeros(2), np.array([[np.nan, 0.0]])])
def test_goals_of_another_size_are_refused(goals: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"goals to relabel with must be finite and of shape \(any, 2\)"):
        relabelled(ToyFamily("probe-red"), upwards(), goals)


def test_a_family_without_it_is_refused() -> None:
    with pytest.raises(ValueError, match="episodes of object cannot be relabelled"):
        relabelled(object(), upwards(), np.zeros((1, 2)))  # type: ignore[arg-type]


def test_an_episode_that_does_not_come_out_again_is_refused() -> None:
    moved = upwards()
    observations = moved.trajectory.observations.copy()
    observations[3] += 0.01
    wrong = replace(moved, trajectory=replace(moved.trajectory, observations=observations))
    with pytest.raises(ValueError, match="task right takes another path at step 2"):
        relabelled(ToyFamily("probe-red"), wrong, np.zeros((1, 2)))


# Bit by bit.


def assert_own_goal_gives_back_the_rewards(name: str) -> None:
    family = MetaWorldFamily(name)
    episode = noisy(family, family.sample_tasks(1, 7, "validation")[0], RolloutSettings(60))
    elsewhere = episode.goal + np.array([[0.03, -0.05, 0.02], [-0.1, 0.05, 0.0]], np.float32)
    _, own, _ = relabelled(family, episode, np.stack([elsewhere[0], episode.goal, elsewhere[1]]))
    assert own.trajectory.rewards.tobytes() == episode.trajectory.rewards.tobytes()
    assert own.trajectory.successes.tolist() == episode.trajectory.successes.tolist()


def assert_like_the_task_with_that_goal(name: str) -> None:
    """Another goal earns what the very path earns in Meta-World's own task that has this goal and the same start."""
    family = MetaWorldFamily(name)
    task, with_other_goal = family.sample_tasks(2, 7, "validation")
    episode = noisy(family, task, RolloutSettings(60))
    other = replace(task, parameters=(*task.parameters[:3], *with_other_goal.parameters[3:]))
    environment, rewards, successes = family.make_environment(), [], []
    environment.reset(options={"task": other})
    for action in episode.trajectory.actions:
        _, reward, _, _, info = environment.step(action)
        rewards.append(reward)
        successes.append(info["success"])
    outcomes = family.outcomes(episode, family.goal(environment)[None])
    assert outcomes.rewards[0].tobytes() == np.array(rewards, np.float32).tobytes()
    assert outcomes.successes[0].tolist() == successes


def test_own_goal_bit_by_bit() -> None:
    assert_own_goal_gives_back_the_rewards("pick-place-v3")


def test_other_goal_bit_by_bit() -> None:
    assert_like_the_task_with_that_goal("push-v3")


@pytest.mark.slow
@pytest.mark.parametrize("name", splits.ALL_FAMILIES)
def test_own_goal_bit_by_bit_in_every_family(name: str) -> None:
    assert_own_goal_gives_back_the_rewards(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(splits.HIDDEN_GOAL - MOVES_WITH_ITS_GOAL))
def test_other_goal_bit_by_bit_in_every_family_that_hides_it(name: str) -> None:
    assert_like_the_task_with_that_goal(name)


def test_where_the_fingers_or_the_object_end_is_a_goal_that_is_reached() -> None:
    for name in ("reach-v3", "push-v3", "drawer-open-v3"):
        family = MetaWorldFamily(name)
        episode = noisy(family, family.sample_tasks(1, 7, "validation")[0], RolloutSettings(60))
        [hindsight] = relabelled(family, episode, family.reached(episode.trajectory.observations[-1:]))
        assert hindsight.trajectory.successes[-1]


def test_noise_in_the_world_is_noticed_and_version_1_refused() -> None:
    family = MetaWorldFamily("reach-v3")
    task = family.sample_tasks(1, 7, "validation")[0]
    shaken = noisy(family, task, RolloutSettings(10, action_noise=0.3))
    with pytest.raises(ValueError, match="it takes another path at step 0 when it is replayed"):
        relabelled(family, shaken, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="rewards v1 cannot be relabelled; set reward_version v2"):
        relabelled(MetaWorldFamily("reach-v3", reward_version="v1"), shaken, np.zeros((1, 3)))
