"""This module puts one Meta-World environment behind gymnasium's interface, with the goal out of sight.

Learners get the first 18 of Meta-World's 39 numbers: the hand, the gripper, two objects. The other
21 are the same numbers one step earlier and the goal, which is zeros in every ML benchmark and is
cut off here once more. Trap: Meta-World's `reset(seed=...)` is ignored; a task that is set replays bit
for bit. Source: metaworld 3.1.1, `sawyer_xyz_env.py`.
"""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import gymnasium
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.types import Task as OfficialTask

from wtl.core.task import Task

VISIBLE = 18
"""How many of the 39 numbers of an observation a learner gets; they come first."""
_ROUNDING = 1e-6
"""Metres by which parameters may be out of range, because somebody kept them as float32."""
_MOST_OFFERS = 8
"""A reset asks for its parameters twice, and again for as long as it refuses them."""
_CAMERA = {"render_mode": "rgb_array", "camera_name": "corner2", "width": 240, "height": 240}


@functools.cache
def _compiled(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(path)


@functools.cache
def _class_with_compiled_model(name: str) -> type:
    def initialize(self: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = copy.copy(_compiled(self.fullpath))
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    stock = ALL_V3_ENVIRONMENTS[name]
    return type(stock.__name__, (stock,), {"_initialize_simulation": initialize})


def make_sawyer(name: str, **arguments: Any) -> Any:
    """Return a stock environment whose model was compiled once a process: 40 instead of 150 ms each."""
    sawyer = _class_with_compiled_model(name)(**arguments)
    sawyer.__class__ = ALL_V3_ENVIRONMENTS[name]
    return sawyer


class MetaWorldEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """An environment is one simulated robot arm, which is reset with a `Task` of its family."""

    def __init__(self, name: str, reward_version: str, fast: bool, render: bool) -> None:
        extra = _CAMERA if render else {}
        self.name = name
        self.sawyer = make_sawyer(name, reward_function_version=reward_version, **extra)
        if fast and not render:
            # Here and not above: fast stepping relies on private parts of libraries whose versions it checks.
            from tasks.metaworld.fast import accelerate

            self.sawyer = accelerate(self.sawyer)
        self._task, self._offers = "", 0
        self.sawyer._get_state_rand_vec = self._offer
        self.policy: Any = ENV_POLICY_MAP[name]()  # type: ignore[abstract]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (VISIBLE,), np.float64)
        self.action_space = self.sawyer.action_space
        self.full_observation = np.zeros(39)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Return the first observation, (18,) float64, and an empty info.

        `options={"task": Task}` is required. Raises ValueError for a task of another family, and for parameters that
        the family does not have: of another number, out of range, or refused by its own reset.
        """
        task = (options or {}).get("task")
        if not isinstance(task, Task) or task.family != self.name:
            raise ValueError(f"{self.name} is reset with options={{'task': a task of {self.name}}}, got {task!r}")
        data = {
            "rand_vec": self._checked(task),
            "env_cls": ALL_V3_ENVIRONMENTS[self.name],
            "partially_observable": True,
        }
        self.sawyer.set_task(OfficialTask(self.name, pickle.dumps(data)))
        self.full_observation, _ = self.sawyer.reset()
        return self.full_observation[:VISIBLE].copy(), {}

    def _checked(self, task: Task) -> np.ndarray:
        space, vector = self.sawyer._random_reset_space, np.array(task.parameters, dtype=np.float64)
        if vector.shape != space.low.shape:
            raise ValueError(
                f"task {task.name} of {self.name} must have {space.low.size} parameters, got {vector.size}"
            )
        inside = (vector >= space.low - _ROUNDING) & (vector <= space.high + _ROUNDING)  # NaN is not inside
        if not inside.all():
            i = int(np.flatnonzero(~inside)[0])
            raise ValueError(
                f"parameter {i} of task {task.name} must lie in [{space.low[i]:g}, {space.high[i]:g}], got {vector[i]}"
            )
        self._task, self._offers = task.name, 0
        return vector

    def _offer(self) -> np.ndarray:
        """Return the parameters of the task; stock, which keeps them, would be asked for others for ever."""
        self._offers += 1
        if self._offers > _MOST_OFFERS:
            raise ValueError(
                f"{self.name} has no task with the parameters of {self._task}: its own reset refuses them, because "
                "start and goal are too near to one another"
            )
        return self.sawyer._last_rand_vec

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return gymnasium's; `info["success"]` is Meta-World's flag of this step.

        `action` (4,) in [-1, 1]: the hand's motion along x, y, z in centimetres, and the effort of the gripper.
        """
        self.full_observation, reward, _, truncated, info = self.sawyer.step(action)
        info["success"] = bool(info["success"])
        return self.full_observation[:VISIBLE].copy(), float(reward), False, bool(truncated), info

    def render(self) -> Any:
        """Return a picture, (240, 240, 3) uint8. Camera corner2 hangs upside down, so it is turned here."""
        return np.ascontiguousarray(self.sawyer.render()[::-1, ::-1])

    def close(self) -> None:
        """This frees the simulator."""
        self.sawyer.close()
