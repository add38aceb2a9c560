"""Any gymnasium environment as a task family: what is copied, how an episode ends, and what is refused."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from players import FixedPolicy, make_attempt

from tasks.gymnasium_adapter import GymnasiumFamily, GymnasiumStep
from wtl.core.task import FamilySpec, ObservationLayout, Task, TaskDistribution
from wtl.play.noise import Expert
from wtl.play.rollout import RolloutSettings
from wtl.play.rollout import play as play_it

SPEC = FamilySpec("line", ObservationLayout(1, 1, (0,), hand_step=0.1), 1, 20, 1, True, 1.0)


class LineEnvironment(gymnasium.Env[Any, Any]):
    """A hand on a line that has to reach a hidden goal; it hands out the same array at every step."""

    action_space = gymnasium.spaces.Box(-0.1, 0.1, (1,), np.float32)
    observation_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def __init__(self, render_mode: str | None = None, **broken: Any) -> None:
        self.render_mode, self.broken = render_mode, broken
        self.position, self.goal, self.far = np.zeros(1, np.float32), 0.0, 1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.far = (options or {}).get("far", 1.0)
        self.goal = self.far * float(self.np_random.choice([-0.5, 0.5]))
        self.position[:] = 0.0
        return self.position, {}

    def step(self, action: np.ndarray) -> Any:
        assert action.dtype == np.float32 and abs(action[0]) <= np.float32(0.1)
        self.position += action
        away = abs(float(self.position[0]) - self.goal)
        outcome = {"observation": self.position, "reward": 1.0 - away, "info": {"success": away < 0.06}, **self.broken}
        return outcome["observation"], outcome["reward"], bool(away < 0.06), False, outcome["info"]

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8)


def towards_goal(environment: Any) -> np.ndarray:
    return np.sign(environment.goal - environment.position)


def goal_of(environment: Any) -> np.ndarray:
    return np.array([environment.goal])


FAMILY = GymnasiumFamily(SPEC, LineEnvironment, expert=towards_goal, find_goal=goal_of)


def play(family: GymnasiumFamily, player: Any, count: int = 6) -> Any:
    attempt = make_attempt(family, family.sample_tasks(count, 0, "train"))
    return play_it(attempt, player, RolloutSettings(20, ask_expert=True))


def to_the_right() -> FixedPolicy:
    """Always at full speed to the right."""
    return FixedPolicy(lambda rows: np.ones((len(rows), 1)))


def test_the_expert_plays_it_and_its_observations_are_copies() -> None:
    episodes = play(FAMILY, Expert())
    goals = [float(e.goal[0]) for e in episodes]
    assert set(goals) == {-0.5, 0.5}  # the seed chooses
    for goal, episode in zip(goals, episodes, strict=True):
        t = episode.trajectory
        assert len(t) == 5 and t.success  # it terminates at once, although five more steps were wanted
        np.testing.assert_allclose(t.observations[:, 0], np.sign(goal) * np.arange(6) * 0.1, atol=1e-6)
        np.testing.assert_array_equal(t.actions, np.full((5, 1), np.sign(goal)))


def test_without_an_expert_labels_and_goals_are_nan() -> None:
    episodes = play(GymnasiumFamily(SPEC, LineEnvironment), to_the_right())
    assert {e.trajectory.success for e in episodes} == {True, False}
    for episode in episodes:
        assert len(episode.trajectory) == (5 if episode.trajectory.success else 20)
        assert np.isnan(episode.expert_actions).all() and np.isnan(episode.goal).all()
    with pytest.raises(ValueError, match=r"line has no expert that acts .*; bring demonstrations of your own"):
        play(GymnasiumFamily(SPEC, LineEnvironment), Expert())


def test_a_task_replays_and_splits_share_no_seed() -> None:
    made = TaskDistribution.sampled(
        {"line": FAMILY}, seed=3, goals_per_family=9, validation_goals_per_family=9, test_goals_per_family=9
    )
    assert len({task.parameters for task in (*made.train, *made.validation, *made.test)}) == 27
    assert FAMILY.sample_tasks(4, 3, "train") == made.train[:4] != FAMILY.sample_tasks(4, 4, "train")
    first, again = play(FAMILY, Expert()), play(FAMILY, Expert())
    assert [e.trajectory.observations.tobytes() for e in first] == [e.trajectory.observations.tobytes() for e in again]
    with pytest.raises(ValueError, match="line has no other start for the goal of line/train/0"):
        FAMILY.with_other_start(made.train[0], 0)


def test_success_and_reset_options_may_come_from_functions() -> None:
    def is_far(step: GymnasiumStep) -> bool:
        return bool(step.observation[0] > 0.25) and not step.terminated and step.info == {} and step.reward < 2.0

    make = functools.partial(LineEnvironment, info={})
    family = GymnasiumFamily(SPEC, make, is_solved=is_far, reset_options=lambda seed: {"far": 3.0})
    for episode in play(family, to_the_right()):
        assert episode.trajectory.successes.argmax() == 2 and len(episode.trajectory) == 8


def test_it_is_picklable_and_can_be_rendered() -> None:
    environment = pickle.loads(pickle.dumps(FAMILY)).make_environment(render=True)
    assert environment.render().shape == (4, 4, 3) and environment.inner.render_mode == "rgb_array"


@pytest.mark.parametrize(
    "broken, sentence",
    [
        ({"observation": np.array([np.nan])}, "step 1: observation is not finite, got [nan]"),
        ({"observation": np.zeros(3)}, "step 1: observation must have shape (1,), got (3,)"),
        ({"reward": np.inf}, "step 1: the reward is not a finite number, got inf"),
        ({"reward": None}, "step 1: the reward is not a finite number, got None"),
        ({"info": {"speed": 1.0}}, "step 1: info holds no `success`, only speed; give the family `is_solved`"),
    ],
)
def test_what_an_environment_does_wrong_is_one_sentence(broken: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        play(GymnasiumFamily(SPEC, functools.partial(LineEnvironment, **broken)), to_the_right(), count=1)
    assert str(caught.value) == f"line, task line/train/0, {sentence}"


class Windy(LineEnvironment):
    """Is pushed about by the wind, which it draws from its own generator and from that of its action space."""

    def step(self, action: np.ndarray) -> Any:
        wind = 0.01 * self.np_random.standard_normal(1) + 0.1 * self.action_space.sample()
        return super().step(np.clip(action + wind, -0.1, 0.1).astype(np.float32))


def test_a_stochastic_environment_repeats_with_the_seed_of_the_attempt_and_differs_with_another() -> None:
    family = GymnasiumFamily(SPEC, Windy, find_goal=goal_of)
    [task] = family.sample_tasks(1, 0, "train")

    def of(seed: int) -> Any:
        [episode] = play_it(make_attempt(family, [task], [seed]), to_the_right(), RolloutSettings(20))
        return episode

    first, again, other = of(1), of(1), of(2)
    np.testing.assert_array_equal(first.trajectory.observations, again.trajectory.observations)
    assert first.trajectory.observations[1] != other.trajectory.observations[1]
    assert first.goal == other.goal and first.trajectory.observations[0] == other.trajectory.observations[0]


class OldFashioned(LineEnvironment):
    """Speaks gym, which gymnasium followed."""

    def step(self, action: np.ndarray) -> Any:
        observation, reward, over, _, info = super().step(action)
        return observation, reward, over, info


def test_an_environment_of_the_old_interface_is_named() -> None:
    with pytest.raises(ValueError, match="line, task line/train/0, step 1: step must return .*, truncated, info"):
        play(GymnasiumFamily(SPEC, OldFashioned), to_the_right(), count=1)


@pytest.mark.parametrize("parameters", [(), (1.0, 2.0), (-1.0,), (float("nan"),), (2.0**32,)])
def test_a_task_that_is_no_seed_is_refused(parameters: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="task line/train/9 of line must have one parameter, a seed, got"):
        FAMILY.make_environment().reset(options={"task": Task("line", "train", "line/train/9", parameters, "")})


def test_spaces_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="line expects a box of 1 actions, got the space Discrete"):
        GymnasiumFamily(SPEC, functools.partial(gymnasium.make, "CartPole-v1")).make_environment()


def test_what_an_environment_refuses() -> None:
    environment = FAMILY.make_environment()
    with pytest.raises(ValueError, match="the episode has ended; reset the environment first"):
        environment.step(np.ones(1))
    environment.reset(options={"task": FAMILY.sample_tasks(1, 0, "train")[0]})
    with pytest.raises(ValueError, match="line, task line/train/0, step 0: the action is not finite; a family without"):
        environment.step(np.full(1, np.nan))
    with pytest.raises(ValueError, match="line is reset with"):
        environment.reset(options={"task": Task("other", "train", "other/0", (1.0,), "other/0")})


def test_an_environment_of_gymnasium_itself() -> None:
    layout = ObservationLayout(3, 1, (), (0, 1, 2))
    spec = FamilySpec("pendulum", layout, 1, 200, 0, False, 17.0)
    family = GymnasiumFamily(
        spec, functools.partial(gymnasium.make, "Pendulum-v1", max_episode_steps=7), is_solved=lambda s: s.reward > -0.1
    )
    [episode] = play(family, to_the_right(), count=1)
    assert len(episode.trajectory) == 7 and episode.goal.shape == (0,)  # truncated
