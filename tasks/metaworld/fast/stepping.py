"""This module has the methods that every fast environment shares, and makes a fast class of each family.

The family's own reward functions come from ``rewards.translated``, resets from ``resets.py``. Trap: forces that nobody
in Meta-World reads (``cfrc_ext``, ``cacc``) are not computed. Source: metaworld/sawyer_xyz_env.py of Meta-World 3.1.1.
"""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from wtl.tasks.metaworld.fast import accelerate
from wtl.tasks.metaworld.fast.resets import FastResets, record_assignment
from wtl.tasks.metaworld.fast.rewards import translated

_step = mujoco.mj_step
_subtract = np.subtract
_HALF = np.full(3, 0.5)
_DOUBLE = np.dtype(np.float64)
# What np.clip calls in the end, without three layers of Python above it.
_clip: Any = np._core.umath.clip  # type: ignore[attr-defined]


def with_fast_class(env: SawyerXYZEnv) -> SawyerXYZEnv:
    """Return ``env`` itself, with the fast class of its family."""
    family: Any = type(env)._family if isinstance(env, FastEnv) else type(env)
    env.__class__ = _fast_class(family)
    env._bind()  # type: ignore[attr-defined]
    return env


@cache
def _fast_class(family: Any) -> type[FastEnv]:
    """Return the fast subclass of ``family``, made once per process."""
    members: dict[str, Any] = {"_family": family, "__doc__": family.__doc__, "__module__": family.__module__}
    fast: Any = type(family.__name__, (FastEnv, family), members)
    for name, member in translated(family, fast).items():
        setattr(fast, name, member)
    recording = {"__setattr__": record_assignment, "__module__": family.__module__}
    fast._recorder = type(family.__name__, (fast,), recording)
    return fast


def _restore(family: type[SawyerXYZEnv], state: Any) -> SawyerXYZEnv:
    """This unpickles an accelerated environment: the stock way, then accelerated again."""
    env = family.__new__(family)
    env.__setstate__(state)
    return accelerate(env)


class FastEnv(FastResets):
    """These are the methods that step, ahead of the family's own in the method resolution order."""

    _family: type[SawyerXYZEnv]

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = self.__getstate__()
        state["state"] = {k: v for k, v in state["state"].items() if k != "_fast"}
        return _restore, (self._family, state)

    @property
    def _fast_data(self) -> Any:
        """The named views, looked up once, are what translated functions see as ``self.data``."""
        return self._fast.named

    # ---- stepping -------------------------------------------------------------------------------------------

    def step(self, action: Any) -> Any:
        """Return that of ``SawyerXYZEnv.step``: (39,) float64 observation, reward, False, truncated, info."""
        fast = self._fast
        if not self._set_task_called or self._did_see_sim_exception or self.curr_path_length >= self.max_path_length:
            fast.position = None
            return super().step(action)
        assert len(action) == 4, f"Actions should be size 4, got {len(action)}"
        self.set_xyz_action(action[:3])
        effort = action[-1]
        fast.ctrl[0] = effort
        fast.ctrl[1] = -effort
        fast.advance(self.model, self.data, self.frame_skip)
        self.curr_path_length += 1
        # Stock places the goal's sites before its forward, which places every site anew: it was without effect.
        observation = self._get_obs()
        space = self.sawyer_observation_space
        if space is not fast.space:
            fast.space, fast.low, fast.high = space, space.low, space.high
        _clip(observation, fast.low, fast.high, observation)
        self._last_stable_obs = observation
        reward, info = self.evaluate_state(observation, action)
        truncated = self.curr_path_length == self.max_path_length
        return observation.copy(), reward, False, truncated, info

    def set_xyz_action(self, action: Any) -> None:
        """This moves the mocap body by ``action``, (3,) in units of ``action_scale`` metres, within its bounds."""
        fast = self._fast
        action = np.asarray(action)
        # The product keeps the action's own precision, as stock does: float32 actions move by float32 amounts.
        if action.dtype is _DOUBLE:
            scale = self.action_scale
            dx, dy, dz = action.tolist()
            dx = (-1.0 if dx < -1.0 else 1.0 if dx > 1.0 else dx) * scale
            dy = (-1.0 if dy < -1.0 else 1.0 if dy > 1.0 else dy) * scale
            dz = (-1.0 if dz < -1.0 else 1.0 if dz > 1.0 else dz) * scale
        else:
            dx, dy, dz = (_clip(action, -1, 1) * self.action_scale).tolist()
        position = fast.mocap_pos
        x, y, z = position.tolist()
        x, y, z = x + dx, y + dy, z + dz
        low_x, low_y, low_z = fast.mocap_low
        high_x, high_y, high_z = fast.mocap_high
        position[0] = low_x if x < low_x else high_x if x > high_x else x
        position[1] = low_y if y < low_y else high_y if y > high_y else y
        position[2] = low_z if z < low_z else high_z if z > high_z else z
        fast.mocap_quat[:] = fast.quat

    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        """This advances ``n_frames`` of 2.5 ms, without ``mj_rnePostConstraint``, whose results nobody reads."""
        fast = self._fast
        if not fast.skip_simulation:
            fast.ctrl[:] = ctrl
            fast.position = None
            _step(self.model, self.data, nstep=n_frames)

    # ---- what observations and rewards read ------------------------------------------------------------------

    def get_endeff_pos(self) -> Any:
        return self._fast.hand

    @property
    def tcp_center(self) -> Any:
        middle = self._fast.right_tip + self._fast.left_tip
        middle *= _HALF
        return middle

    def get_body_com(self, body_name: str) -> Any:
        return self._fast.bodies[body_name]

    def _get_site_pos(self, site_name: str) -> Any:
        return self._fast.sites[site_name].copy()

    def _observe(self, observation: np.ndarray) -> None:
        """This writes hand, gripper and objects into the first 18 numbers of ``observation``, zeros before."""
        fast = self._fast
        observation[:3] = fast.hand
        apart = _subtract(fast.right_claw, fast.left_claw, fast.diff)
        opened = sqrt(apart.dot(apart)) / 0.1
        observation[3] = opened if opened < 1.0 else 1.0
        position, quaternion = self._get_pos_objects(), self._get_quat_objects()
        if len(position) == 3:
            observation[4:7] = position
            observation[7:11] = quaternion
        else:
            observation[4:7], observation[11:14] = position[:3], position[3:]
            observation[7:11], observation[14:18] = quaternion[:4], quaternion[4:]

    def _get_curr_obs_combined_no_goal(self) -> Any:
        observation = np.zeros(18)
        self._observe(observation)
        return observation

    def _get_obs(self) -> Any:
        observation = np.zeros(39)
        self._observe(observation)
        observation[18:36] = self._prev_obs
        if not self._partially_observable:
            observation[36:] = self._get_pos_goal()
        self._prev_obs = observation[:18].copy()
        return observation

    @property
    def touching_main_object(self) -> bool:
        fast = self._fast
        if fast.main_geom is None:
            fast.main_geom = int(self._get_id_main_object())
        return self.touching_object(fast.main_geom)

    def touching_object(self, object_geom_id: int) -> bool:
        """Return whether both finger pads press on the geom, read from MuJoCo's contact arrays."""
        data, fast = self.data, self._fast
        left: list[int] = []
        right: list[int] = []
        for i, pair in enumerate(data.contact.geom.tolist()):
            if object_geom_id in pair:
                if fast.left_pad_geom in pair:
                    left.append(i)
                if fast.right_pad_geom in pair:
                    right.append(i)
        if not (left and right):
            return False
        force, address = data.efc_force, data.contact.efc_address
        return bool(sum(force[address[i]] for i in left) > 0 and sum(force[address[i]] for i in right) > 0)
