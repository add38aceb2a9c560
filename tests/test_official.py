"""Our agent in Meta-World's evaluator: what it records, which policy acts when, and a real small run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest

from wtl.core.episode import Context, Trajectory
from wtl.play.official import OfficialAgent, OfficialSettings
from wtl.play.policy import StepBatch


class Step(NamedTuple):
    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


@dataclass
class StubPolicy:
    """Says in its action how many trials its row has, and counts its own steps."""

    contexts: Sequence[Context]
    steps: int = 0

    def act(self, step: StepBatch) -> np.ndarray:
        assert step.observations.shape == (len(step.rows), 18) and step.number == self.steps
        assert np.isnan(step.previous_rewards).all() and np.isnan(step.previous_successes).all()
        self.steps += 1
        return np.array([[len(self.contexts[row].trials) / 10, self.steps / 100, 0.0, 5.0] for row in step.rows])


@dataclass
class StubMethod:
    """Notes the numbers of trials and the seeds of every batch that it adapts to."""

    source: str = "stub"
    calls: list[tuple[list[int], list[int]]] = field(default_factory=list)

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> StubPolicy:
        assert len({len(context.trials) for context in contexts}) == 1
        self.calls.append(([len(context.trials) for context in contexts], list(seeds)))
        return StubPolicy(contexts)


def some_path() -> Trajectory:
    return Trajectory(np.ones((3, 18)), np.zeros((2, 4)), np.zeros(2), np.zeros(2, bool))


def observe(count: int, step: int) -> np.ndarray:
    return np.full((count, 39), float(step)) + np.arange(count)[:, None] / 10


def drive(agent: OfficialAgent, count: int, ends: dict[int, list[int]], steps: int, reward: float = 1.0) -> np.ndarray:
    """Adapt for some steps; `ends[step]` are the environments whose episode ends. Returns all actions."""
    actions = []
    for step in range(steps):
        observations = observe(count, step)
        action, extra = agent.adapt_action(observations)
        assert extra == {}
        ended = np.isin(np.arange(count), ends.get(step, []))
        agent.step(Step(observations, action, np.full(count, reward * step), np.zeros(count, bool), ended))
        actions.append(action)
    return np.stack(actions)


def test_each_episode_is_played_with_the_trials_before_it() -> None:
    method = StubMethod()
    actions = drive(OfficialAgent(method, 2), 2, {2: [0, 1], 5: [0, 1]}, steps=7)
    np.testing.assert_allclose(actions[:, 0, 0], [0, 0, 0, 0.1, 0.1, 0.1, 0.2], atol=1e-6)
    assert [counts for counts, _ in method.calls] == [[0, 0], [1, 1], [2, 2]]
    assert actions.max() == 1.0  # clipped to the action space


def test_episodes_are_recorded_as_they_were_played() -> None:
    agent = OfficialAgent(StubMethod(), 2)
    actions = drive(agent, 2, {2: [1]}, steps=4)
    assert [len(context.trials) for context in agent.contexts] == [0, 1]
    (played,) = agent.contexts[1].trials
    expected = [0.1, 1.1, 2.1, 2.1]  # what followed the last action is not delivered
    np.testing.assert_allclose(played.observations, np.tile(np.array(expected)[:, None], (1, 18)), rtol=1e-6)
    np.testing.assert_array_equal(played.actions, actions[:3, 1])
    np.testing.assert_array_equal(played.rewards, [0, 1, 2])
    assert not played.success


def test_environments_that_end_apart_are_acted_in_groups() -> None:
    agent = OfficialAgent(StubMethod(), 3)
    actions = drive(agent, 3, {0: [1], 1: [1, 2]}, steps=3)
    np.testing.assert_allclose(actions[-1, :, 0], [0, 0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(actions[:, 0, 1], [0.01, 0.02, 0.03], atol=1e-6)  # row 0 was never interrupted


def test_adapt_freezes_the_contexts_and_init_forgets_them() -> None:
    path = some_path()
    agent = OfficialAgent(StubMethod(), 2, demonstrations=[path, path])
    drive(agent, 2, {1: [0, 1]}, steps=3)  # the third step is of an unfinished episode
    agent.adapt()
    frozen = agent.contexts
    agent.reset(np.ones(2, bool))
    for step in range(3):
        actions = agent.eval_action(observe(2, step))
        np.testing.assert_allclose(actions[:, 0], 0.1, atol=1e-6)
        agent.reset(np.zeros(2, bool))
    assert agent.contexts == frozen
    assert all(context.demonstrations == (path,) and len(context.trials) == 1 for context in frozen)
    drive(agent, 2, {1: [0, 1]}, steps=2)
    assert len(agent.contexts[0].trials[1]) == 2  # the unfinished episode is not part of the next one
    agent.init()
    assert all(context.demonstrations == (path,) and context.trials == () for context in agent.contexts)


def test_reset_renews_only_the_rows_of_its_mask() -> None:
    agent = OfficialAgent(StubMethod(), 2)
    agent.eval_action(observe(2, 0))
    agent.reset(np.array([True, False]))
    np.testing.assert_allclose(agent.eval_action(observe(2, 1))[:, 1], [0.01, 0.02], atol=1e-6)


def test_every_episode_has_a_seed_of_its_own_and_the_same_each_time() -> None:
    seeds = []
    for _ in range(2):
        method = StubMethod()
        agent = OfficialAgent(method, 2, seed=7)
        drive(agent, 2, {0: [0, 1]}, steps=2)
        agent.init()
        drive(agent, 2, {}, steps=1)
        seeds.append([seed for _, drawn in method.calls for seed in drawn])
    assert len(set(seeds[0])) == len(seeds[0]) == 6
    assert seeds[0] == seeds[1]


def test_solved_steps_can_be_told_by_their_reward() -> None:
    agent = OfficialAgent(StubMethod(), 1, settings=OfficialSettings(solved_reward=10.0, after_success_steps=2))
    drive(agent, 1, {9: [0]}, steps=10, reward=2.0)  # rewards 0, 2, 4, ..., 18: solved at step 5
    (played,) = agent.contexts[0].trials
    assert len(played) == 8
    np.testing.assert_array_equal(np.flatnonzero(played.successes), [5, 6, 7])


def test_demonstrations_must_match_the_environments() -> None:
    with pytest.raises(ValueError, match="one demonstration for each of 3 environments, got 1"):
        OfficialAgent(StubMethod(), 3, demonstrations=[some_path()])


@dataclass
class ReachTarget:
    """A method and a policy: goes to a fixed position whatever its context."""

    source = "reach"
    position: np.ndarray

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> ReachTarget:
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        return np.concatenate([10 * (self.position - step.observations[:, :3]), np.zeros((len(step.rows), 1))], axis=1)


@pytest.mark.slow
def test_the_stock_evaluator_runs_reach() -> None:
    from wtl.tasks.metaworld.official import official_environments, official_evaluation

    environments = official_environments(["reach-v3"], 0)
    assert environments.num_envs == 1
    environments.call("sample_tasks")
    observations, _ = environments.reset()
    assert not observations[:, 36:].any()  # the goal is hidden
    goal = np.array(environments.envs[0].unwrapped._target_pos)  # type: ignore[attr-defined]
    environments.close()

    lost = ReachTarget(np.array([0.0, 0.4, 0.05]))
    agent = OfficialAgent(lost, 1)
    result = official_evaluation(
        agent, ["reach-v3"], 0, tasks_per_family=1, adaptation_episodes=2, evaluation_episodes=1
    )
    assert result.success == 0.0 == result.success_by_family["reach-v3"]
    assert [len(trial) for trial in agent.contexts[0].trials] == [500, 500]
    first, second = agent.contexts[0].trials
    np.testing.assert_array_equal(first.observations, second.observations)  # the task stays the same

    # The same seed serves the same first task, so an oracle that was told its goal solves it.
    told = ReachTarget(goal)
    agent = OfficialAgent(told, 1, settings=OfficialSettings(solved_reward=10.0))
    result = official_evaluation(
        agent, ["reach-v3"], 0, tasks_per_family=1, adaptation_episodes=1, evaluation_episodes=2
    )
    assert result.success == 1.0
    assert agent.contexts[0].trials[0].success
    assert len(agent.contexts[0].trials[0]) < 500


@pytest.mark.slow
def test_official_environments_hold_the_benchmarks_test_tasks_once_each() -> None:
    import pickle

    from wtl.tasks.metaworld.official import official_environments
    from wtl.tasks.metaworld.sampling import official_rand_vecs
    from wtl.tasks.metaworld.splits import ML10_TEST

    environments = official_environments(ML10_TEST, 3)
    expected = official_rand_vecs(ML10_TEST, 3)
    assert environments.num_envs == len(ML10_TEST)
    for family, tasks in zip(ML10_TEST, environments.get_attr("tasks"), strict=True):
        assert {task.env_name for task in tasks} == {family}
        np.testing.assert_array_equal([pickle.loads(task.data)["rand_vec"] for task in tasks], expected[family])
    environments.close()


def test_families_that_are_no_benchmark_are_refused() -> None:
    from wtl.tasks.metaworld.official import official_environments, official_evaluation

    with pytest.raises(ValueError, match="expected one family or the test families of ML10, ML25, ML45"):
        official_environments(["reach-v3", "push-v3"], 0)
    agent = OfficialAgent(StubMethod(), 2)
    with pytest.raises(ValueError, match="one a family, got 2"):
        official_evaluation(agent, ["reach-v3"], 0)
