"""Meta-World as task families: exactly the official tasks, goals out of sight, and what can be shared between tasks."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import metaworld
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, ML10_V3, ML25_V3, ML45_V3

from wtl.core.episode import Context, Episode
from wtl.core.task import Task
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings, play
from wtl.tasks import make_distribution
from wtl.tasks.metaworld import splits
from wtl.tasks.metaworld.family import LAYOUT, MetaWorldFamily, version
from wtl.tasks.metaworld.sampling import official_rand_vecs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::RuntimeWarning")

REACH = MetaWorldFamily("reach-v3")
GOALS = {"goals_per_family": 50, "validation_goals_per_family": 3, "test_goals_per_family": 50}
Numbers = dict[str, list[tuple[float, ...]]]


def theirs(tasks: list[Any]) -> Numbers:
    """Meta-World's own tasks by family."""
    found: Numbers = {}
    for task in tasks:
        found.setdefault(task.env_name, []).append(tuple(pickle.loads(task.data)["rand_vec"].tolist()))
    return found


def ours(tasks: tuple[Task, ...]) -> Numbers:
    found: Numbers = {}
    for task in tasks:
        found.setdefault(task.family, []).append(task.parameters)
    return found


def assert_official(name: str, seed: int, stock: Any, **family: str) -> None:
    made = make_distribution(name, seed=seed, **GOALS, **family)  # type: ignore[arg-type]
    assert ours(made.train) == theirs(stock.train_tasks)
    assert ours(made.test) == theirs(stock.test_tasks)
    for families, tasks in ((stock.train_classes, made.train), (stock.test_classes, made.test)):
        assert list(dict.fromkeys(task.family for task in tasks)) == list(families)


def test_ml1_reach_is_exactly_meta_worlds_own() -> None:
    # One set of train tasks is drawn with `seed`, the test tasks with `seed + 1`; the split then is disjoint.
    assert_official("ML1", 5, metaworld.ML1("reach-v3", seed=5), family="reach-v3")


@pytest.mark.slow
@pytest.mark.parametrize("family", splits.ALL_FAMILIES)
def test_ml1_of_every_family_is_exactly_meta_worlds_own(family: str) -> None:
    assert_official("ML1", 3, metaworld.ML1(family, seed=3), family=family)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["ML10", "ML25", "ML45"])
def test_the_benchmarks_are_exactly_meta_worlds_own(name: str) -> None:
    assert_official(name, 4, getattr(metaworld, name)(seed=4))


def test_splits_are_those_of_the_package() -> None:
    for name, package in (("ML10", ML10_V3), ("ML25", ML25_V3), ("ML45", ML45_V3)):
        assert splits.BENCHMARKS[name] == (tuple(package["train"]), tuple(package["test"])), name
    assert set(splits.ALL_FAMILIES) == set(ALL_V3_ENVIRONMENTS) and len(splits.ALL_FAMILIES) == 50
    assert set(splits.ALL_FAMILIES) >= splits.HIDDEN_GOAL
    assert set(splits.ML25_TRAIN) & set(splits.ML25_TEST) == {"basketball-v3"}
    assert not set(splits.ML10_TRAIN) & set(splits.ML10_TEST) and not set(splits.ML45_TRAIN) & set(splits.ML45_TEST)


def test_drawing_official_tasks_leaves_numpys_generator_alone() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    official_rand_vecs(["reach-v3"], 9)
    assert np.random.get_state()[1].tolist() == before


def test_more_goals_than_the_official_ones_begin_with_them_and_no_split_overlaps() -> None:
    made = make_distribution("ML1", family="reach-v3", seed=5, **GOALS | {"goals_per_family": 60})  # type: ignore[arg-type]
    official = make_distribution("ML1", family="reach-v3", seed=5, **GOALS)  # type: ignore[arg-type]
    assert made.train[:50] == official.train and made.test == official.test and made.validation == official.validation
    every = [t.parameters for t in (*made.train, *made.validation, *made.test)]
    assert len(set(every)) == len(every) == 60 + 3 + 50
    assert len({t.name for t in (*made.train, *made.validation, *made.test)}) == len(every)


def test_fewer_goals_are_the_first_and_more_test_goals_are_refused() -> None:
    assert (
        ours(REACH.sample_tasks(3, 5, "train"))["reach-v3"] == ours(REACH.sample_tasks(50, 5, "train"))["reach-v3"][:3]
    )
    with pytest.raises(ValueError, match="the benchmark has 50 test goals a family, got 51"):
        make_distribution("ML1", family="reach-v3", seed=5, **GOALS | {"test_goals_per_family": 51})  # type: ignore[arg-type]


def test_the_tasks_of_a_split_are_the_same_where_no_others_are_drawn() -> None:
    some = {"goals_per_family": 2, "validation_goals_per_family": 2, "test_goals_per_family": 3}
    none = {"goals_per_family": 0, "validation_goals_per_family": 0, "test_goals_per_family": 3}
    whole, bare = (
        make_distribution("custom", train=["push-v3"], test=["reach-v3"], seed=5, **counts)  # type: ignore[arg-type]
        for counts in (some, none)
    )
    assert bare.test == whole.test and not bare.train and not bare.validation


def test_goals_may_share_a_start() -> None:
    tasks = MetaWorldFamily("reach-v3", goals_per_start=3).sample_tasks(56, 5, "train")[50:]
    starts = [t.parameters[:3] for t in tasks]
    assert starts[0] == starts[1] == starts[2] != starts[3] == starts[4] == starts[5]
    assert len({t.parameters[3:] for t in tasks}) == 6


# What is hidden.


def played(
    task: Task, actions: np.ndarray, family: MetaWorldFamily = REACH
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, all 39 numbers, and rewards."""
    environment = family.make_environment()
    observations = [environment.reset(options={"task": task})[0]]
    full, rewards = [environment.full_observation], []
    for action in actions:
        observation, reward, *_ = environment.step(action)
        observations.append(observation)
        full.append(environment.full_observation)
        rewards.append(reward)
    return np.array(observations), np.array(full), np.array(rewards)


def test_two_tasks_that_differ_in_the_hidden_goal_look_the_same() -> None:
    """What a policy is given cannot hold the goal: under the same actions not a bit differs, only the rewards do."""
    [task] = REACH.sample_tasks(1, 5, "train")
    other = Task(task.family, task.split, "other", (*task.parameters[:3], -0.05, 0.85, 0.12), "other")
    actions = np.random.default_rng(0).uniform(-1, 1, (25, 4)).astype(np.float32)
    (seen, full, rewards), (seen_too, _, other_rewards) = played(task, actions), played(other, actions)
    assert seen.shape == (26, 18) and full.shape == (26, 39)
    assert seen.tobytes() == seen_too.tobytes()
    assert not full[:, 36:39].any()
    assert (rewards != other_rewards).all()


def test_the_expert_does_not_leave_the_goal_in_the_observation() -> None:
    environment = REACH.make_environment()
    [task] = REACH.sample_tasks(1, 5, "train")
    environment.reset(options={"task": task})
    for _ in range(5):
        environment.step(REACH.expert_action(environment))
        assert not environment.full_observation[36:39].any()
    np.testing.assert_allclose(REACH.goal(environment), task.parameters[3:])


def test_a_task_replays_bit_for_bit_and_the_seed_of_reset_is_ignored() -> None:
    first, second = REACH.sample_tasks(2, 5, "train")
    actions = np.random.default_rng(1).uniform(-1, 1, (10, 4)).astype(np.float32)
    environment = REACH.make_environment()

    def replay(seed: int) -> bytes:
        seen = [environment.reset(seed=seed, options={"task": first})[0]]
        seen += [environment.step(action)[0] for action in actions]
        state = np.array(environment.sawyer.data.qpos)
        environment.reset(options={"task": second})  # another task in between
        return np.array(seen).tobytes() + state.tobytes()

    assert replay(0) == replay(1) == replay(2)


def test_a_task_of_another_family_is_refused() -> None:
    environment = REACH.make_environment()
    [push] = MetaWorldFamily("push-v3").sample_tasks(1, 0, "validation")
    with pytest.raises(ValueError, match=r"reach-v3 is reset with options=\{'task': a task of reach-v3\}, got Task"):
        environment.reset(options={"task": push})
    with pytest.raises(ValueError, match="got None"):
        environment.reset()


# Starts.


def target(family: MetaWorldFamily, task: Task) -> np.ndarray:
    environment = family.make_environment()
    environment.reset(options={"task": task})
    return family.goal(environment)


SINGLE_START = {"assembly-v3", "pick-out-of-hole-v3", "plate-slide-side-v3", "plate-slide-v3"}


def assert_same_goal_elsewhere(name: str) -> None:
    family = MetaWorldFamily(name)
    [task] = family.sample_tasks(1, 5, "validation")
    other = family.with_other_start(task, 3)
    assert other.parameters != task.parameters and other.goal_name == task.goal_name and other.name != task.name
    assert other == family.with_other_start(task, 3) != family.with_other_start(task, 4)
    np.testing.assert_array_equal(target(family, task), target(family, other))


@pytest.mark.parametrize("name", ["reach-v3", "push-v3"])
def test_another_start_keeps_the_hidden_goal(name: str) -> None:
    assert_same_goal_elsewhere(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(splits.HIDDEN_GOAL - SINGLE_START))
def test_another_start_keeps_the_hidden_goal_of_every_family(name: str) -> None:
    assert_same_goal_elsewhere(name)


@pytest.mark.parametrize("name", sorted(SINGLE_START))
def test_a_family_with_a_single_start_has_no_other(name: str) -> None:
    family = MetaWorldFamily(name)
    with pytest.raises(ValueError, match=f"{name} has a single start, so regime `goal` does not exist for it"):
        family.with_other_start(family.sample_tasks(1, 0, "validation")[0], 0)


# Experts and environments.


def demonstrated(family: MetaWorldFamily, tasks: tuple[Task, ...], noise: float = 0.0) -> list[Episode]:
    """The expert in new environments."""
    sessions = [Session(task, Context(), (), seed) for seed, task in enumerate(tasks)]
    environments = [family.make_environment() for _ in tasks]
    attempt = Attempt(family, environments, sessions, [Context()] * len(tasks), range(len(tasks)))
    return play(attempt, Expert(NoiseConfig(noise)), RolloutSettings(500))


def test_the_expert_solves_reach_even_with_noise() -> None:
    for episode in demonstrated(REACH, REACH.sample_tasks(2, 5, "train"), noise=0.2):
        assert episode.trajectory.success and len(episode.trajectory) < 200
        assert episode.trajectory.rewards.max() <= REACH.spec.reward_scale
        assert not episode.trajectory.actions[:, 3].any() or (np.abs(episode.trajectory.actions) <= 1).all()


def test_the_layout_is_that_of_the_observation() -> None:
    [task] = MetaWorldFamily("push-v3").sample_tasks(1, 5, "validation")
    environment = MetaWorldFamily("push-v3").make_environment()
    observation, _ = environment.reset(options={"task": task})
    assert observation.shape == (LAYOUT.size,) == environment.observation_space.shape
    hand, puck, absent = (observation[p : p + 3] for p in LAYOUT.points)
    np.testing.assert_allclose(hand, environment.sawyer.tcp_center, atol=0.1)
    np.testing.assert_allclose(puck[:2], task.parameters[:2], atol=1e-3)
    assert not absent.any()


def test_unknown_families_and_benchmarks() -> None:
    with pytest.raises(ValueError, match="unknown Meta-World family 'reach-v2'; `wtl tasks` lists all"):
        MetaWorldFamily("reach-v2")
    with pytest.raises(ValueError, match="unknown Meta-World family 'reach-v2'"):
        make_distribution("ML1", family="reach-v2", seed=0, **GOALS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown benchmark 'ML11', known are toy, ML1, custom, ML10, ML25, ML45"):
        make_distribution("ML11", seed=0, **GOALS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tasks.benchmark=custom needs families"):
        make_distribution("custom", train=["reach-v3"], seed=0, **GOALS)  # type: ignore[arg-type]
    assert version() == "3.1.1"


def test_a_custom_split_is_a_list_of_families() -> None:
    few = {"goals_per_family": 2, "validation_goals_per_family": 1, "test_goals_per_family": 2}
    made = make_distribution("custom", train=["reach-v3"], test=["push-v3"], seed=0, **few)  # type: ignore[arg-type]
    names = {split: [task.name for task in made.split(split)] for split in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert names == {
        "train": ["reach-v3/train/0", "reach-v3/train/1"],
        "validation": ["reach-v3/validation/0"],
        "test": ["push-v3/test/0", "push-v3/test/1"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", splits.ALL_FAMILIES)
def test_every_family_builds_and_its_expert_solves_it(name: str) -> None:
    family = MetaWorldFamily(name)
    episodes = demonstrated(family, family.sample_tasks(4, 1, "train"))
    assert sum(e.trajectory.success for e in episodes) >= 3
    spec = family.spec
    for episode in episodes:
        assert episode.trajectory.observations.shape[1] == spec.layout.size
        assert episode.trajectory.actions.shape[1] == spec.action_size and episode.goal.shape == (spec.goal_size,)
        assert episode.trajectory.rewards.max() <= spec.reward_scale * (1 + 1e-6)


@pytest.mark.parametrize("library", ["osmesa", "egl", "nonsense"])
def test_a_library_that_is_missing_stops_nothing_that_does_not_draw(library: str) -> None:
    code = (
        "import sys; sys.modules['OpenGL'] = None\n"  # as where it is not installed
        "from wtl.tasks.metaworld.family import MetaWorldFamily\n"
        "print(len(MetaWorldFamily('reach-v3').sample_tasks(2, 0, 'test')))"
    )
    environment = {**os.environ, "MUJOCO_GL": library, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "2\n", done.stderr


def test_a_picture_marks_the_goal_and_taking_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", "egl"))
    [task] = REACH.sample_tasks(1, 5, "test")
    filmed, plain = REACH.make_environment(render=True), REACH.make_environment()
    for environment in (filmed, plain):
        environment.reset(options={"task": task})
    try:
        filmed.render()
    except Exception as error:  # which one it is depends on the driver
        pytest.skip(f"no OpenGL on this machine: {error}")
    with pytest.raises(ValueError, match="takes no pictures; make it with render=True"):
        plain.render()
    for _ in range(30):
        action = REACH.expert_action(plain)
        np.testing.assert_array_equal(filmed.step(action)[0], plain.step(action)[0])
        picture = filmed.render()
    assert picture.shape == (240, 240, 3) and picture.dtype == np.uint8
    assert (picture == (0, 204, 89)).all(-1).sum() > 20  # the ring around the goal
    for environment in (filmed, plain):
        environment.close()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "parameters, sentence",
    [
        ((0.0, 0.6, 0.02), "task push-v3/test/7 of push-v3 must have 6 parameters, got 3"),
        ((0.0, 0.6, 0.02, 0.0, 9.0, 0.0), r"parameter 4 of task push-v3/test/7 must lie in \[0.8, 0.9\], got 9.0"),
        ((0.0, np.nan, 0.02, 0.0, 0.85, 0.0), "parameter 1 of task push-v3/test/7 must lie in .* got nan"),
        # Start and goal within 15 cm: stock draws again, and with frozen parameters it does so for ever.
        ((0.0, 0.7, 0.02, 0.0, 0.8, 0.015), "push-v3 has no task with the parameters of push-v3/test/7: its own reset"),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_parameters_that_a_family_does_not_have_are_refused_and_never_hang(
    parameters: tuple[float, ...], sentence: str, fast: bool
) -> None:
    environment = MetaWorldFamily("push-v3", fast=fast).make_environment()
    with pytest.raises(ValueError, match=sentence):
        environment.reset(options={"task": Task("push-v3", "test", "push-v3/test/7", parameters, "")})
