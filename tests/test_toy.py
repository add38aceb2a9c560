"""The toy: what can be reached is known, and only the right kind of experience reaches it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from players import make_attempt

from wtl.core.task import Task
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import StepBatch
from wtl.play.rollout import RolloutSettings
from wtl.play.rollout import play as play_it
from wtl.tasks import make_distribution
from wtl.tasks.toy import CANDIDATES, COLOURS, ToyEnvironment, ToyFamily

FAMILIES = [ToyFamily(name) for name in COLOURS]
GOLDEN = [
    0.030005443344716387, 0.1561176689694474, 0.9838856604464383, -0.17879878961524265, -0.9785311971160982,
    -0.20609875368506206, -0.0372654037052103, 0.9993054036112722, 0.04797441514592717, -0.9988485648442441, 1.0,
]  # fmt: skip
families = pytest.mark.parametrize("family", FAMILIES, ids=list(COLOURS))


def play(family: ToyFamily, tasks: Any, player: Any) -> Any:
    return play_it(make_attempt(family, tasks), player, RolloutSettings(24, 0))


@families
def test_the_expert_solves_every_task(family: ToyFamily) -> None:
    tasks = family.sample_tasks(30, 0, "test")
    for expert in (Expert(), Expert(NoiseConfig(0.3, varied=True))):
        episodes = play(family, tasks, expert)
        assert all(e.trajectory.success for e in episodes)
    spec = family.spec
    [first, *_] = episodes
    assert first.trajectory.observations.shape[1] == spec.layout.size
    assert first.trajectory.actions.shape[1] == spec.action_size and first.goal.shape == (spec.goal_size,)
    assert max(e.trajectory.rewards.max() for e in episodes) <= spec.reward_scale


class Walker:
    """A player and its policy that goes to one of the visible candidates, whatever the goal."""

    source = "walker"

    def __init__(self, candidate: int) -> None:
        self.candidate = candidate

    def policy(self, attempt: Any) -> Walker:
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        seen = step.observations
        way = seen[:, 2 + 2 * self.candidate : 4 + 2 * self.candidate] - seen[:, :2]
        return np.clip(way / 0.12, -1, 1)


@families
def test_the_known_optima(family: ToyFamily) -> None:
    """1 in 2N for any candidate, 1 in N for one of the right colour, 1 for the rewarded one itself."""
    tasks = family.sample_tasks(200, 0, "test")
    success = np.array([[e.trajectory.success for e in play(family, tasks, Walker(p))] for p in range(2 * CANDIDATES)])
    assert (success.sum(axis=0) == 1).all()  # exactly one candidate is the right one and no walk passes two
    assert success.mean() == 1 / (2 * CANDIDATES)
    rates = success.mean(axis=1)
    right = slice(CANDIDATES * COLOURS[family.name], CANDIDATES * (COLOURS[family.name] + 1))
    assert np.abs(rates[right] - 1 / CANDIDATES).max() < 0.1  # no candidate of the colour is a favourite
    assert rates.sum() == pytest.approx(rates[right].sum())  # and the other colour is never right


@families
def test_success_at_one_candidate_is_none_at_another(family: ToyFamily) -> None:
    candidates = np.array([task.parameters[2:-1] for task in family.sample_tasks(200, 0, "train")]).reshape(200, -1, 2)
    distances = [np.linalg.norm(p[a] - p[b]) for p in candidates for a in range(len(p)) for b in range(a)]
    assert min(distances) > 4 * 0.15


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_another_start_keeps_the_candidates_and_the_goal(seed: int, other: int) -> None:
    family = FAMILIES[seed % len(FAMILIES)]
    [task] = family.sample_tasks(1, seed, "train")
    twin = family.with_other_start(task, other)
    assert twin.goal_name == task.goal_name and twin.name != task.name and twin.split == task.split
    assert twin.parameters[2:] == task.parameters[2:] and twin.parameters[:2] != task.parameters[:2]


def test_the_reward_tells_the_distance_and_nothing_visible_does() -> None:
    family = FAMILIES[0]
    [task] = family.sample_tasks(1, 0, "train")
    seen, rewards = [], []
    for rewarded in range(2 * CANDIDATES):
        other = Task(task.family, task.split, "other", (*task.parameters[:-1], float(rewarded)), "other")
        environment = family.make_environment()
        observation, _ = environment.reset(options={"task": other})
        seen.append(np.concatenate([observation, environment.step(np.ones(2))[0]]))
        rewards.append(environment.step(np.zeros(2))[1])
        distance = np.linalg.norm(environment.candidates[rewarded] - environment.position)
        assert rewards[-1] == pytest.approx(np.exp(-distance))
        np.testing.assert_array_equal(family.goal(environment), environment.candidates[rewarded])
    assert len({s.tobytes() for s in seen}) == 1 and len(set(rewards)) == 2 * CANDIDATES


def test_tasks_are_those_of_earlier_runs() -> None:
    """The streams are seeded with the names of then, so that runs repeat whatever the toy is called."""
    [task] = ToyFamily("probe-red").sample_tasks(1, 1, "train")
    np.testing.assert_allclose(task.parameters, GOLDEN, rtol=0, atol=1e-15)


def test_splits_are_disjoint_and_repeat_for_a_seed() -> None:
    counts = {"goals_per_family": 5, "validation_goals_per_family": 2, "test_goals_per_family": 3}
    made = make_distribution("toy", seed=1, **counts)  # type: ignore[arg-type]
    number = len(FAMILIES)
    assert [len(made.split(s)) for s in ("train", "validation", "test")] == [5 * number, 2 * number, 3 * number]  # type: ignore[arg-type]
    assert made.train == make_distribution("toy", seed=1, **counts).train  # type: ignore[arg-type]
    assert made.train != make_distribution("toy", seed=2, **counts).train  # type: ignore[arg-type]


def test_a_task_of_another_family_is_refused() -> None:
    one, other, *_ = FAMILIES
    with pytest.raises(ValueError, match=f"{one.name} is reset with"):
        one.make_environment().reset(options={"task": other.sample_tasks(1, 0, "train")[0]})
    with pytest.raises(ValueError, match="unknown toy family 'toy-up', expected one of"):
        ToyFamily("toy-up")


def test_the_picture_shows_the_rewarded_candidate() -> None:
    environment = ToyEnvironment(FAMILIES[0].name)
    environment.reset(options={"task": FAMILIES[0].sample_tasks(1, 0, "train")[0]})
    picture = environment.render()
    assert picture.dtype == np.uint8 and (picture == (0, 158, 115)).all(-1).sum() >= 40
