"""This module measures how fast Meta-World's families step: stock, fast, physics alone, and EnvPool if installed.

It counts CPU time of this process (``time.process_time``), without resets and policies. All ways of stepping get the
same actions and take turns in short blocks; each counts with its fastest block, because whatever else runs on the
machine can only slow a block down. Half of the blocks are an expert's (contacts), half are random.

Trap: EnvPool runs on a MuJoCo of its own (3.6) and cannot be given a goal, so its number is a speed to compare with and
not a replacement. It steps 16 environments in a batch on one thread, so that its Python call costs little.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from wtl.tasks.metaworld.family import MetaWorldFamily

ENVPOOL_ENVIRONMENTS = 16


@dataclass(frozen=True)
class StepRates:
    """The rates are steps per CPU second of one family."""

    family: str
    stock: float
    fast: float
    physics: float
    """MuJoCo's five `mj_step` and one `mj_forward` alone, with the controls of the same steps: the limit of everything
    that steps plainly. Fast can pass it, because it takes a step's first collisions from the step before."""
    envpool: float | None
    """None where EnvPool is not installed."""


def has_envpool() -> bool:
    """The result says whether the extra `envpool` is installed."""
    try:
        import envpool  # noqa: F401
    except ImportError:
        return False
    return True


def step_rates(family: str, steps: int, blocks: int) -> StepRates:
    """The result is measured in `blocks` (an even number) blocks of `steps` (at most 500) steps."""
    [task] = MetaWorldFamily(family).sample_tasks(1, seed=1, split="train")

    def make(fast: bool) -> Any:
        wrapped = MetaWorldFamily(family, fast).make_environment()
        wrapped.reset(options={"task": task})
        return wrapped.sawyer

    environments = {"stock": make(fast=False), "fast": make(fast=True)}
    actions = _record_actions(environments["fast"], family, steps, blocks)
    runners: dict[str, Callable[[np.ndarray], float]] = {
        name: lambda block, environment=environment: _seconds_of_environment(environment, block)  # type: ignore[misc]
        for name, environment in environments.items()
    }
    replay = make(fast=True)
    runners["physics"] = lambda block: _seconds_of_physics(replay, block)
    if has_envpool():
        pool = _make_pool(family)
        runners["envpool"] = lambda block: _seconds_of_pool(pool, block) / ENVPOOL_ENVIRONMENTS
    for run in runners.values():
        run(actions[0][: min(20, steps)])  # warm up
    # Expert and random blocks have different costs: least time within a kind, mean over the kinds.
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runners}
    for number, block in enumerate(actions):
        for name, run in runners.items():
            seconds[name][number % 2].append(run(block))
    rates = {name: steps / statistics.mean([min(kind) for kind in kinds]) for name, kinds in seconds.items()}
    pooled = rates.pop("envpool", None)
    return StepRates(family, **rates, envpool=pooled)


def _record_actions(environment: Any, family: str, steps: int, blocks: int) -> np.ndarray:
    """The result (blocks, steps, 4) float64 in [-1, 1] holds a noisy expert's actions in even blocks, random in odd."""
    rng = np.random.default_rng(0)
    policy = ENV_POLICY_MAP[family]()  # type: ignore[abstract]
    recorded = rng.uniform(-1, 1, (blocks, steps, 4))
    for block in recorded[::2]:
        observation, _ = environment.reset()
        for t in range(steps):
            full = np.concatenate([observation[:36], environment._target_pos])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "Constant(s) may be too high": clipped here
                block[t] = np.clip(policy.get_action(full) + 0.1 * rng.normal(size=4), -1, 1)
            observation = environment.step(block[t])[0]
    return recorded


def _seconds_of_environment(environment: Any, actions: Sequence[np.ndarray] | np.ndarray) -> float:
    environment.reset()
    start = time.process_time()
    for action in actions:
        environment.step(action)
    return time.process_time() - start


def _seconds_of_physics(environment: Any, actions: np.ndarray) -> float:
    """The result counts the same steps, with what each action does to the simulation worked out beforehand."""
    environment.reset()
    model, data = environment.model, environment.data
    controls = []
    for action in actions:
        environment.set_xyz_action(action[:3])
        controls.append((data.mocap_pos.copy(), data.mocap_quat.copy(), np.array([action[3], -action[3]])))
    environment.reset()
    position, quaternion, control = data.mocap_pos, data.mocap_quat, data.ctrl
    start = time.process_time()
    for position_t, quaternion_t, control_t in controls:
        position[:], quaternion[:], control[:] = position_t, quaternion_t, control_t
        mujoco.mj_step(model, data, nstep=environment.frame_skip)
        mujoco.mj_forward(model, data)
    return time.process_time() - start


def _make_pool(family: str) -> Any:
    import envpool

    name = "".join(part.title() for part in family.removesuffix("-v3").split("-"))
    return envpool.make_gymnasium(f"MetaWorld/{name}-v3", num_envs=ENVPOOL_ENVIRONMENTS, num_threads=1)


def _seconds_of_pool(pool: Any, actions: np.ndarray) -> float:
    """The result counts all environments of the pool together, which all do the same actions."""
    pool.reset()
    batches = np.repeat(actions[:, None], ENVPOOL_ENVIRONMENTS, axis=1)
    start = time.process_time()
    for batch in batches:
        pool.step(batch)
    return time.process_time() - start
