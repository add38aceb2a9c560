"""Stock and accelerated Meta-World side by side: not a single differing bit is allowed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP
    from metaworld.sawyer_xyz_env import SawyerXYZEnv
    from metaworld.types import Task

from wtl.tasks.metaworld import fast as fast_stepping
from wtl.tasks.metaworld.family import MetaWorldFamily
from wtl.tasks.metaworld.fast import VERIFIED, StockSteppingWarning, accelerate
from wtl.tasks.metaworld.fast.resets import forget_resets
from wtl.tasks.metaworld.fast.stepping import FastEnv

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::RuntimeWarning")

FAMILIES = sorted(ALL_V3_ENVIRONMENTS)
ROOT = Path(__file__).parent.parent


def draw_tasks(stock: SawyerXYZEnv, count: int = 1, partially_observable: bool = True) -> list[Task]:
    """``count`` tasks as ML1 makes them, drawn and accepted by the family's own reset."""
    family = type(stock)
    name = next(name for name, known in ALL_V3_ENVIRONMENTS.items() if known is family)
    stock._set_task_called, stock._freeze_rand_vec, stock.seeded_rand_vec = True, False, True
    stock.seed(7)
    tasks = []
    for _ in range(count):
        stock.reset()
        data = {
            "rand_vec": stock._last_rand_vec,
            "env_cls": family,
            "partially_observable": partially_observable,
        }
        tasks.append(Task(name, pickle.dumps(data)))
    stock._freeze_rand_vec, stock.seeded_rand_vec = True, False
    return tasks


def bits(value: Any) -> tuple[str, bytes]:
    """Kind and bytes of a number or array: np.bool_ and bool, np.float64 and float count as the same."""
    array = np.asarray(value)
    return array.dtype.str, array.tobytes()


def assert_same_state(stock: SawyerXYZEnv, fast: SawyerXYZEnv, where: str) -> None:
    fields = [
        "qpos",
        "qvel",
        "qacc",
        "qacc_warmstart",
        "mocap_pos",
        "mocap_quat",
        "ctrl",
        "xpos",
        "geom_xmat",
    ]
    if "step" in where:
        # In push and push-back the stock goal marker stands, until the first step, at the height the object had at
        # the end of the *previous* episode: it is drawn there and read by nobody.
        fields.append("site_xpos")
    for field in fields:
        assert bits(getattr(stock.data, field)) == bits(getattr(fast.data, field)), f"{field} {where}"
    assert stock.data.time == fast.data.time, where
    assert bits(stock.model.body_pos) == bits(fast.model.body_pos), where
    assert bits(stock._target_pos) == bits(fast._target_pos), where
    assert bits(stock._last_stable_obs) == bits(fast._last_stable_obs), where


def assert_same_attributes(stock: SawyerXYZEnv, fast: SawyerXYZEnv, where: str) -> None:
    """Every attribute with a value to compare; ``prev_obs`` and friends included."""
    seeding = {"seeded_rand_vec", "current_seed", "_np_random_seed"}
    for name, value in vars(stock).items():
        if name not in seeding and isinstance(value, np.ndarray | float | int | bool | str):
            assert bits(value) == bits(vars(fast)[name]), f"{name} {where}"
    assert set(vars(stock)) - {"_np_random", "_np_random_seed"} == set(vars(fast)) - {"_fast"}, where


def actions_for(name: str, stock: SawyerXYZEnv, style: str, seed: int) -> Any:
    """A function from the observation to an action: random, or the expert handed the goal."""
    rng = np.random.default_rng(seed)
    expert = ENV_POLICY_MAP[name]()

    def act(observation: np.ndarray) -> np.ndarray:
        if style == "random":
            return rng.uniform(-1.3, 1.3, 4)
        if style == "random32":
            return rng.uniform(-1.3, 1.3, 4).astype(np.float32)
        action = expert.get_action(np.concatenate([observation[:36], stock._target_pos]))
        return np.clip(action, -1, 1).astype(np.float32 if style == "expert32" else np.float64)

    return act


def drive(stock: SawyerXYZEnv, fast: SawyerXYZEnv, task: Task, style: str, steps: int, seed: int = 0) -> bool:
    """Reset both to ``task``, step both with the same actions, compare everything. Returns whether it succeeded."""
    name, succeeded = task.env_name, False
    for env in (stock, fast):
        env.set_task(task)
    observation, info = stock.reset()
    observation_fast, info_fast = fast.reset()
    assert bits(observation) == bits(observation_fast) and info == info_fast, f"{name} reset"
    assert_same_attributes(stock, fast, f"{name} reset")
    assert_same_state(stock, fast, f"{name} reset")
    act = actions_for(name, stock, style, seed)
    for t in range(steps):
        where = f"{name} {style} step {t}"
        action = act(observation)
        observation, reward, *flags, info = stock.step(action.copy())
        observation_fast, reward_fast, *flags_fast, info_fast = fast.step(action.copy())
        assert bits(observation) == bits(observation_fast), where
        assert bits(reward) == bits(reward_fast) and flags == flags_fast, where
        assert list(info) == list(info_fast), where
        assert {k: bits(v) for k, v in info.items()} == {k: bits(v) for k, v in info_fast.items()}, where
        assert_same_state(stock, fast, where)
        succeeded = succeeded or bool(info["success"])
    assert_same_attributes(stock, fast, f"{name} {style} end")
    return succeeded


def pair(name: str, version: str = "v2") -> tuple[SawyerXYZEnv, SawyerXYZEnv]:
    stock = ALL_V3_ENVIRONMENTS[name](reward_function_version=version)
    return stock, accelerate(ALL_V3_ENVIRONMENTS[name](reward_function_version=version))


@pytest.mark.parametrize("name", FAMILIES)
def test_fast_equals_stock(name: str) -> None:
    stock, fast = pair(name)
    (task,) = draw_tasks(stock, 1)
    drive(stock, fast, task, "random", 10)
    drive(stock, fast, task, "expert32", 30)  # the second reset of the fast one is remembered


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", FAMILIES)
def test_fast_equals_stock_at_length(name: str, version: str) -> None:
    stock, fast = pair(name, version)
    tasks = draw_tasks(stock, 3)
    # Returning to a task finds other histories behind it than its first visit did.
    for seed, task in enumerate([*tasks, tasks[0], tasks[2]]):
        drive(stock, fast, task, ["expert", "random32", "expert32", "expert", "random"][seed], 300, seed)


def test_full_observability_and_changing_it() -> None:
    stock, fast = pair("pick-place-v3")
    (hidden,) = draw_tasks(stock, 1)
    (shown,) = draw_tasks(stock, 1, partially_observable=False)
    for task in (shown, hidden, shown):
        drive(stock, fast, task, "expert", 15)


def test_end_of_an_episode() -> None:
    stock, fast = pair("reach-v3")
    (task,) = draw_tasks(stock, 1)
    stock.max_path_length = fast.max_path_length = 5
    for _ in range(2):
        drive(stock, fast, task, "random", 5)
        for env in (stock, fast):
            with pytest.raises(ValueError, match="reset the env manually"):
                env.step(np.zeros(4))


def test_drawing_fresh_tasks_is_stock() -> None:
    """A reset that draws its own task takes the same random numbers, rejections included."""
    stock, fast = pair("push-v3")
    for env in (stock, fast):
        env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
        env.seed(3)
    for _ in range(3):
        assert bits(stock.reset()[0]) == bits(fast.reset()[0])
        assert bits(stock._last_rand_vec) == bits(fast._last_rand_vec)


def test_state_changed_by_hand_between_steps() -> None:
    """A step must not build on contacts and inertias of a state that was replaced behind its back."""
    stock, fast = pair("push-v3")
    (task,) = draw_tasks(stock, 1)
    drive(stock, fast, task, "expert", 10)
    for env in (stock, fast):
        qpos, _ = env.get_env_state()
        qpos[9:12] += 0.03
        env.data.qpos[:] = qpos
    for env in (stock, fast):
        env.step(np.array([0.3, 0.2, -1.0, 1.0]))
    assert_same_state(stock, fast, "step after the change")


def test_stock_stays_stock_and_pickles_survive() -> None:
    stock, fast = pair("door-lock-v3")
    assert type(stock) is ALL_V3_ENVIRONMENTS["door-lock-v3"] and type(fast) is not type(stock)
    assert isinstance(fast, type(stock)) and type(fast).__name__ == type(stock).__name__
    assert accelerate(fast) is fast and type(accelerate(fast)).__mro__.count(FastEnv) == 1
    (task,) = draw_tasks(stock, 1)
    drive(stock, fast, task, "expert", 5)
    stock, fast = pickle.loads(pickle.dumps(stock)), pickle.loads(pickle.dumps(fast))
    assert isinstance(fast, FastEnv)
    drive(stock, fast, task, "expert", 10)
    drive(copy.deepcopy(stock), copy.deepcopy(fast), task, "expert", 10)


def test_returned_arrays_and_remembered_resets_are_independent() -> None:
    stock, fast = pair("drawer-open-v3")
    (task,) = draw_tasks(stock, 1)
    fast.set_task(task)
    first, _ = fast.reset()
    kept, goal = first.copy(), fast._target_pos.copy()
    first[:] = 7.0
    fast._target_pos += 1.0
    again, _ = fast.reset()
    assert bits(again) == bits(kept) and bits(fast._target_pos) == bits(goal)
    again[:] = 8.0
    assert bits(fast.reset()[0]) == bits(kept)


def test_forgetting_resets_after_changing_the_model() -> None:
    stock, fast = pair("push-v3")
    (task,) = draw_tasks(stock, 1)
    drive(stock, fast, task, "expert", 5)
    for env in (stock, fast):
        env.model.body("obj").mass *= 2
        env.model.body("hand").mass *= 2
    forget_resets(fast)
    drive(stock, fast, task, "expert", 20)


@pytest.mark.parametrize("package", list(VERIFIED))
def test_other_versions_step_the_stock_way_and_say_so_once(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_stepping, "version", lambda name: "9.9.9" if name == package else VERIFIED[name])
    fast_stepping._is_verified.cache_clear()
    family = MetaWorldFamily("reach-v3", fast=True)
    sentence = f"fast stepping was not verified with {package} 9.9.9 .verified: {VERIFIED[package]}., so Meta-World"
    try:
        with pytest.warns(StockSteppingWarning, match=sentence) as warned:
            environment = family.make_environment()
        assert len([w for w in warned if w.category is StockSteppingWarning]) == 1
        assert type(environment.sawyer) is ALL_V3_ENVIRONMENTS["reach-v3"]
        environment.reset(options={"task": family.sample_tasks(1, 0, "validation")[0]})
        assert np.isfinite(environment.step(np.zeros(4))[0]).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error", StockSteppingWarning)
            accelerate(environment.sawyer)
    finally:
        fast_stepping._is_verified.cache_clear()


def test_the_installed_versions_are_the_verified_ones() -> None:
    """The other tests of this file would compare stock with stock."""
    assert fast_stepping._is_verified()


def test_nothing_of_fast_stepping_is_imported_while_it_is_off() -> None:
    code = (
        "import sys; from wtl.tasks.metaworld.family import MetaWorldFamily as F; "
        "F('reach-v3', fast=False).make_environment(); "
        "assert not [n for n in sys.modules if n.startswith('wtl.tasks.metaworld.fast')]; "
        "F('reach-v3').make_environment(); assert 'wtl.tasks.metaworld.fast.rewards' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wrappers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"env\.unwrapped"):
        accelerate(object())  # type: ignore[arg-type]


def test_subclasses_keep_what_they_override() -> None:
    base = ALL_V3_ENVIRONMENTS["push-v3"]

    class Doubled(base):  # type: ignore[misc, valid-type]
        def compute_reward(self, action: Any, obs: Any) -> Any:
            reward, *rest = super().compute_reward(action, obs)
            return (2 * reward, *rest)

    stock, fast = base(), accelerate(Doubled())
    (task,) = draw_tasks(stock, 1)
    for env in (stock, fast):
        env.set_task(task)
        env.reset()
    for _ in range(5):
        reward, reward_fast = stock.step([0.1, 0.2, -1, 1])[1], fast.step([0.1, 0.2, -1, 1])[1]
        assert reward_fast == 2 * reward
        assert_same_state(stock, fast, "step of a subclass")
