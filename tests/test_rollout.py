"""The one environment loop: the order of events, what a policy may see, whose randomness is whose, how it ends."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from players import SPEC, FixedPolicy, LineEnvironment, LineFamily, Tape, line_family, make_attempt
from strategies import TOY, same_episode

from wtl.core.episode import Episode
from wtl.core.task import Task
from wtl.play.attempts import EnvironmentPool
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.rollout import Observer, RolloutSettings
from wtl.play.rollout import play as play_it

TEN = RolloutSettings(10, ask_expert=True)


def lines(*solved_at: int) -> list[Task]:
    return [Task("line", "train", f"t{i}", (float(s),), f"t{i}") for i, s in enumerate(solved_at)]


def play(
    tasks: Sequence[Task],
    player: Any,
    family: Any = None,
    settings: RolloutSettings = TEN,
    *,
    seeds: Sequence[int] = (),
    environments: Any = None,
    number: int = 0,
    observer: Observer | None = None,
) -> list[Episode]:
    attempt = make_attempt(family or LineFamily(), tasks, seeds, environments, number)
    return play_it(attempt, player, settings, observer)


# Events.


def test_the_order_of_events() -> None:
    tape: Tape = []
    observed: list[tuple[int, int, int]] = []

    def observe(row: int, step: int, environment: Any) -> None:
        observed.append((row, step, environment.step_number))

    settings = RolloutSettings(2, after_success_steps=0, ask_expert=True)
    play(lines(1, 0), FixedPolicy(tape=tape), LineFamily(tape), settings, observer=observe)
    assert tape == [
        ("reset", "t0"), ("goal", "t0"),
        ("reset", "t1"), ("goal", "t1"),
        # All rows in step: labels of the states that the policy sees, one call of the policy, then the steps.
        ("expert", "t0"), ("expert", "t1"), ("act", "0", "1"),
        ("step", "t0"), ("step", "t1"),
        # Row 0 has ended, row 1 is not cut.
        ("expert", "t1"), ("act", "1"), ("step", "t1"),
    ]  # fmt: skip
    assert observed == [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1), (1, 2, 2)]


def test_an_episode_holds_each_step_with_its_outcome() -> None:
    half = FixedPolicy(lambda rows: np.full((len(rows), 3), 0.5))
    [episode] = play(lines(2), half, number=1, seeds=[7])
    t = episode.trajectory
    np.testing.assert_array_equal(t.observations[:, 0], range(8))  # success at step 2, five more, the first included
    np.testing.assert_array_equal(t.rewards, range(1, 8))
    assert t.successes.tolist() == [False, True] + [False] * 5
    np.testing.assert_array_equal(t.actions, np.full((7, 3), 0.5))
    np.testing.assert_array_equal(episode.expert_actions, np.full((7, 3), 0.25))
    np.testing.assert_array_equal(episode.goal, [1, 1])
    assert (episode.role, episode.attempt, episode.source, episode.seed) == ("trial", 1, "me", 7)
    [shown] = play(lines(2), half, settings=replace(TEN, role="demonstration"))
    assert shown.role == "demonstration"


def test_the_policy_sees_rows_observations_and_the_number_of_the_step() -> None:
    policy = FixedPolicy()
    play(lines(2, 1), policy, settings=RolloutSettings(3, after_success_steps=0))
    assert [step.number for step in policy.steps] == [0, 1]
    assert [step.rows.tolist() for step in policy.steps] == [[0, 1], [0]]
    assert [step.observations.tolist() for step in policy.steps] == [[[0, 0], [0, 0]], [[1, 0]]]


# What a policy may see of its rewards.


def test_feedback_at_the_end_shows_no_reward_while_the_episode_runs() -> None:
    policy = FixedPolicy()
    episodes = play(lines(3, 0, 5), policy, settings=RolloutSettings(10, after_success_steps=2))
    assert sum(len(e.trajectory) for e in episodes) == sum(len(step.rows) for step in policy.steps) == 5 + 10 + 7
    for step in policy.steps:
        assert step.previous_rewards.shape == step.previous_successes.shape == step.rows.shape
        assert np.isnan(step.previous_rewards).all() and np.isnan(step.previous_successes).all()


def test_feedback_at_each_step_shows_the_reward_of_the_step_before() -> None:
    policy = FixedPolicy()
    settings = RolloutSettings(10, after_success_steps=2, feedback="step")
    episodes = play(lines(3, 0, 5), policy, settings=settings)
    for step in policy.steps:
        for row, reward, success in zip(step.rows, step.previous_rewards, step.previous_successes, strict=True):
            if step.number == 0:
                assert np.isnan(reward) and np.isnan(success)
            else:
                t = episodes[row].trajectory
                assert (reward, success) == (t.rewards[step.number - 1], float(t.successes[step.number - 1]))
    assert any(step.previous_successes.any() for step in policy.steps[1:])


def test_what_a_policy_saw_is_not_changed_afterwards() -> None:
    """A policy may keep its steps; the loop never writes into what it has handed out."""
    policy = FixedPolicy()
    play(lines(0), policy, settings=RolloutSettings(4, feedback="step"))
    assert [step.observations[0, 0] for step in policy.steps] == [0, 1, 2, 3]
    np.testing.assert_array_equal([step.previous_rewards[0] for step in policy.steps], [np.nan, 1, 2, 3])


# Ends.


@pytest.mark.parametrize(
    "after, horizon, steps",
    [(0, 10, 3), (1, 10, 4), (5, 10, 8), (50, 10, 10), (None, 10, 10), (0, 2, 2), (5, 99, 8), (None, 99, 10)],
)
def test_when_an_episode_ends(after: int | None, horizon: int, steps: int) -> None:
    [episode] = play(lines(3), FixedPolicy(), settings=RolloutSettings(horizon, after))
    assert len(episode.trajectory) == steps  # never beyond the family's own horizon of 10


def test_each_row_may_have_its_own_horizon() -> None:
    episodes = play(lines(0, 0, 0, 2), FixedPolicy(), settings=RolloutSettings((3, 99, 1, 7), after_success_steps=1))
    assert [len(e.trajectory) for e in episodes] == [3, 10, 1, 3]


class Ending(LineEnvironment):
    """Says itself when its episode is over, and is not to be stepped afterwards."""

    says: tuple[bool, bool] = (False, False)

    def step(self, action: np.ndarray) -> Any:
        assert self.step_number < 4, "stepped after the end"
        observation, reward, *_, info = super().step(action)
        over = self.step_number == 4
        return observation, reward, over and self.says[0], over and self.says[1], info


class Terminating(Ending):
    says = (True, False)


class Truncating(Ending):
    says = (False, True)


@pytest.mark.parametrize("make", [Terminating, Truncating])
def test_an_environment_may_end_an_episode_itself(make: Any) -> None:
    family = LineFamily(make=make)
    environments = [make(family.tape), LineEnvironment(family.tape)]
    episodes = play(lines(0, 0), FixedPolicy(), family, environments=environments)
    assert [len(e.trajectory) for e in episodes] == [4, 10]  # the other row goes on
    [won] = play(lines(4), FixedPolicy(), family, RolloutSettings(10, after_success_steps=5))
    assert len(won.trajectory) == 4 and won.trajectory.success


def test_short_episodes_are_not_favoured() -> None:
    """Every entry is played once, in its own row, however early the others end."""
    tasks = lines(9, 1, 5, 0, 1, 7)
    episodes = play(tasks, FixedPolicy(), settings=RolloutSettings(10, after_success_steps=0))
    assert [e.task.name for e in episodes] == [t.name for t in tasks]
    assert [len(e.trajectory) for e in episodes] == [9, 1, 5, 10, 1, 7]
    assert np.mean([e.trajectory.success for e in episodes]) == 5 / 6


# Environments.


def test_environments_are_reset_with_a_seed_of_their_row() -> None:
    environments = [LineEnvironment([]), LineEnvironment([])]
    play(lines(0, 0), FixedPolicy(), seeds=[5, 2**62 + 6], environments=environments)
    play(lines(0, 0), FixedPolicy(), seeds=[5, 7], environments=environments)
    assert [environment.seeds for environment in environments] == [[5, 5], [6, 7]]  # gymnasium takes 32 bits


class Reusing(LineEnvironment):
    """Hands out the same arrays every time, and works in the action that it is given."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape)
        self.seen, self.goal = np.zeros(2), np.ones(2)

    def reset(self, **given: Any) -> Any:
        self.seen[:] = super().reset(**given)[0]
        self.goal[:] = 1.0
        return self.seen, {}

    def step(self, action: np.ndarray) -> Any:
        observation, *rest = super().step(action)
        self.seen[:] = observation
        self.goal += 1.0
        action *= 0.1
        return self.seen, *rest


class ReusingFamily(LineFamily):
    def goal(self, environment: Any) -> np.ndarray:
        return environment.goal


def test_an_environment_may_reuse_its_arrays() -> None:
    half = FixedPolicy(lambda rows: np.full((len(rows), 3), 0.5))
    [episode] = play(lines(0), half, ReusingFamily(make=Reusing))
    np.testing.assert_array_equal(episode.trajectory.observations[:, 0], range(11))
    np.testing.assert_array_equal(episode.trajectory.actions, np.full((10, 3), 0.5))
    np.testing.assert_array_equal(episode.goal, [1, 1])  # as it was at the start
    assert [step.observations[0, 0] for step in half.steps] == list(range(10))


class Broken(LineEnvironment):
    """Does something wrong at its second step."""

    def __init__(self, tape: Tape, **wrong: Any) -> None:
        super().__init__(tape)
        self.wrong = wrong

    def reset(self, **given: Any) -> Any:
        observation, info = super().reset(**given)
        return self.wrong.get("begin", (self.wrong.get("start", observation), info))

    def step(self, action: np.ndarray) -> Any:
        observation, reward, *over, info = super().step(action)
        if self.step_number == 2:
            if "all" in self.wrong:
                return self.wrong["all"]
            observation, reward = self.wrong.get("observation", observation), self.wrong.get("reward", reward)
            info = self.wrong.get("info", info)
        return observation, reward, *over, info


AT = "at step 1 of task t1"


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"observation": np.array([0.0, np.nan])}, f"the environment gave an observation that is not finite {AT}"),
        ({"observation": np.zeros(3)}, f"an observation must have shape (2,), got (3,) {AT}"),
        ({"observation": {"hand": 1}}, f"an observation must be 2 numbers, got dict of 1 {AT}"),
        ({"observation": [[1.0], [1.0, 2.0]]}, f"an observation must be 2 numbers, got [[1.0], [1.0, 2.0]] {AT}"),
        ({"reward": np.inf}, f"the environment gave a reward that is not a finite number, inf, {AT}"),
        ({"reward": float("nan")}, f"the environment gave a reward that is not a finite number, nan, {AT}"),
        ({"reward": None}, f"the environment gave a reward that is not a finite number, None, {AT}"),
        ({"reward": np.zeros(2)}, f"the environment gave a reward that is not a finite number, array([0., 0.]), {AT}"),
        ({"info": {}}, f'the environment did not say whether the task is solved (info["success"]) {AT}'),
        ({"info": None}, f'the environment did not say whether the task is solved (info["success"]) {AT}'),
        ({"info": {"success": float("nan")}}, f'info["success"] must be true or false, got nan {AT}'),
        ({"info": {"success": None}}, f'info["success"] must be true or false, got None {AT}'),
        ({"info": {"success": np.array([True, False])}},
         f'info["success"] must be true or false, got array([ True, False]) {AT}'),
        ({"all": (np.zeros(2), 0.0, False, {"success": True})},
         f"the environment must return (observation, reward, terminated, truncated, info), got tuple of 4 {AT}"),
        ({"start": np.array([np.inf, 0.0])},
         "the environment gave an observation that is not finite at the reset to task t1"),
        ({"begin": np.zeros(2)},
         "the environment must return (observation, info) at the reset to task t1, got array([0., 0.])"),
    ],
)  # fmt: skip
def test_what_an_environment_does_wrong_is_named_with_step_and_task(wrong: Any, sentence: str) -> None:
    environments = [LineEnvironment([]), Broken([], **wrong)]
    with pytest.raises(ValueError) as caught:
        play(lines(0, 0), FixedPolicy(), environments=environments)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("success", [np.True_, 1.0, np.float32(1.0), np.array([1]), 1])
def test_a_success_may_be_any_truth_that_is_one(success: Any) -> None:
    info = {"success": success}
    [episode] = play(lines(0), FixedPolicy(), environments=[Broken([], info=info, reward=np.array([2.5]))])
    assert episode.trajectory.successes.tolist() == [False, True] + [False] * 5
    assert episode.trajectory.rewards[1] == 2.5


def test_an_error_of_the_environments_own_says_where_it_happened() -> None:
    class Failing(LineEnvironment):
        def step(self, action: np.ndarray) -> Any:
            raise RuntimeError("the robot fell over")

    with pytest.raises(RuntimeError, match="the robot fell over") as caught:
        play(lines(0), FixedPolicy(), environments=[Failing([])])
    assert caught.value.__notes__ == ["This happened at step 0 of task t0."]


def test_observations_that_begin_as_integers_are_not_cut_to_integers() -> None:
    policy = FixedPolicy()
    environments = [Broken([], start=np.zeros(2, int), observation=np.array([0.5, 0.25]))]
    play(lines(0), policy, settings=RolloutSettings(3, None), environments=environments)
    assert [step.observations.tolist() for step in policy.steps] == [[[0, 0]], [[1, 0]], [[0.5, 0.25]]]


def test_a_goal_of_another_size_is_named() -> None:
    class Tall(LineFamily):
        def goal(self, environment: Any) -> np.ndarray:
            return np.ones(3)

    with pytest.raises(ValueError, match=r"the goal must have shape \(2,\), got \(3,\) at the reset to task t0"):
        play(lines(0), FixedPolicy(), Tall())


class Stochastic(LineEnvironment):
    """Draws from the generator of its own reset, from numpy's global one, and from Python's."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.generator = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> Any:
        observation, _, *rest = super().step(action)
        observation[1] = self.generator.random() + np.random.random()
        return observation, random.random(), *rest


def test_one_seed_gives_one_set_of_episodes_of_a_stochastic_environment() -> None:
    def of(*seeds: int) -> list[Episode]:
        return play(lines(0, 0), FixedPolicy(), LineFamily(make=Stochastic), seeds=seeds)

    first, again, other = of(3, 4), of(3, 4), of(5, 6)
    assert all(same_episode(a, b) for a, b in zip(first, again, strict=True))
    assert not any(same_episode(a, b) for a, b in zip(first, other, strict=True))


def test_the_global_generators_are_left_as_they_were() -> None:
    np.random.seed(1), random.seed(1)
    expected = np.random.random(), random.random()
    np.random.seed(1), random.seed(1)
    play(lines(0), FixedPolicy(), LineFamily(make=Stochastic))
    assert (np.random.random(), random.random()) == expected


@pytest.mark.parametrize(
    "actions, sentence",
    [
        (np.zeros(3), r"me gave actions of shape \(3,\), expected \(2, 3\), .* at step 0"),
        (np.zeros((2, 2)), r"me gave actions of shape \(2, 2\), expected \(2, 3\), .* at step 0"),
        (0.0, r"me gave actions of shape \(\), expected"),
        (None, "me gave None in place of actions at step 0"),
        ((np.zeros((2, 3)), None), r"me gave tuple of 2 in place of actions \(.*\) at step 0"),
        (np.full((2, 3), "0"), r"me gave array\(\[\['0', '0', '0'\], .* in place of actions at step 0"),
        (np.zeros((2, 3), complex), "me gave .* in place of actions at step 0"),
        (torch.zeros(2, 3, requires_grad=True), r"in place of actions \(Can't call numpy\(\) on Tensor that requires"),
        ({"a": 1}, "me gave dict of 1 in place of actions at step 0"),
    ],
)
def test_actions_of_another_size_are_named(actions: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        play(lines(3, 3), FixedPolicy(lambda rows: actions))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("policy", [None, 3, lambda step: np.zeros((1, 3))])
def test_what_does_not_act_is_no_policy(policy: Any) -> None:
    class Adapts(FixedPolicy):
        def policy(self, attempt: Any) -> Any:
            return policy

    with pytest.raises(ValueError, match=r"me must adapt to a policy, an object with act\(step\), got "):
        play(lines(3), Adapts())


def test_an_action_that_is_not_finite_names_the_task() -> None:
    def broken(rows: np.ndarray) -> np.ndarray:
        actions = np.zeros((len(rows), 3))
        actions[-1, 1] = np.nan
        return actions

    with pytest.raises(ValueError, match="me gave an action that is not finite to task t1 at step 0"):
        play(lines(3, 3), FixedPolicy(broken))


def test_actions_are_clipped() -> None:
    environments = [LineEnvironment([])]
    [episode] = play(lines(3), FixedPolicy(lambda rows: np.full((len(rows), 3), 7.0)), environments=environments)
    np.testing.assert_array_equal(episode.trajectory.actions, np.ones((8, 3)))
    np.testing.assert_array_equal(environments[0].actions, np.ones((8, 3)))


def test_without_asking_the_expert_labels_are_nan() -> None:
    tape: Tape = []
    [episode] = play(lines(3), FixedPolicy(), LineFamily(tape), replace(TEN, ask_expert=False))
    assert np.isnan(episode.expert_actions).all()
    assert {event for event, _ in tape} == {"reset", "goal", "step"}


def test_the_expert_is_asked_once_a_step_however_often_it_is_needed() -> None:
    tape: Tape = []
    play(lines(0), Expert(), LineFamily(tape))
    assert sum(event == "expert" for event, *_ in tape) == 10


# Whose randomness is whose.


def test_a_row_depends_on_its_own_seed_and_on_nothing_else() -> None:
    family = list(TOY.values())[-1]
    tasks, seeds = list(family.sample_tasks(5, 0, "train")), [11, 12, 13, 14, 15]
    noisy, settings = Expert(NoiseConfig(0.4, varied=True)), RolloutSettings(24, ask_expert=True)

    def of(rows: list[int]) -> list[Episode]:
        return play([tasks[i] for i in rows], noisy, family, settings, seeds=[seeds[i] for i in rows])

    together, alone, turned = of([0, 1, 2, 3, 4]), of([2]), of([4, 2, 0])
    assert same_episode(together[2], alone[0]) and same_episode(together[2], turned[1])
    [other] = play([tasks[2]], noisy, family, settings, seeds=[99])
    assert not same_episode(other, alone[0])


def test_an_environment_that_was_used_before_replays_the_same() -> None:
    family = list(TOY.values())[-1]
    task, other = family.sample_tasks(2, 0, "train")
    environments = [family.make_environment()]

    def of(which: Task) -> Episode:
        noisy = Expert(NoiseConfig(0.4))
        return play([which], noisy, family, RolloutSettings(24), seeds=[5], environments=environments)[0]

    first = of(task)
    of(other)
    assert same_episode(first, of(task))


def test_the_pool_keeps_one_family_at_a_time() -> None:
    tape: Tape = []
    family, other = LineFamily(tape), LineFamily(tape, replace(SPEC, name="other"))
    pool = EnvironmentPool()
    two = pool.take(family, 2)
    three = pool.take(family, 3)
    assert three[:2] == two and len({id(environment) for environment in three}) == 3
    assert pool.take(family, 1) == three[:1] and not tape
    [new] = pool.take(other, 1)
    assert [event for event, _ in tape] == ["close"] * 3 and new not in three
    assert pool.take(line_family("line"), 1)[0] not in three
