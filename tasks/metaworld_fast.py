"""Meta-World 3.1.1 environments that step two to three times as fast, with the very same bits coming out.

``accelerate(env)`` gives one environment a faster class; stock environments beside it stay stock. Nothing is
approximated: physics does the same arithmetic, and reward functions are the families' own, run in a
namespace of faster primitives (``metaworld_fast_rewards``). What goes is overhead: contacts as Python objects, names
looked up at every access, scipy's array-API layer, the second of two resets, resets that were simulated before.

Trap: post-reset states are remembered per task, and a step builds on contacts of the one before. Who changes
``env.model`` by hand (masses, sizes, positions) must call ``forget_resets(env)`` after each change. Forces nobody in
Meta-World reads (``cfrc_ext``, ``cacc``) are not computed; after a remembered reset ``data.contact`` is that of the
previous step until the next one, and goal markers may be drawn elsewhere than stock draws them until then.

Source: metaworld/sawyer_xyz_env.py of Meta-World 3.1.1; tests/test_metaworld_fast.py compares bit by bit.
"""

from __future__ import annotations

import ctypes
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from math import sqrt
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from tasks import metaworld_fast_rewards as rewards_

SUPPORTED_VERSION = "3.1.1"
"""The Meta-World release whose source this file follows line by line."""

CACHED_RESETS = 64
"""Post-reset states remembered per environment, each about 40 kB; the least recently used goes first."""

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_POSITION_STAGE = int(mujoco.mjtStage.mjSTAGE_POS)
_step, _forward, _forward_skip = mujoco.mj_step, mujoco.mj_forward, mujoco.mj_forwardSkip
_make_constraint, _euler = mujoco.mj_makeConstraint, mujoco.mj_Euler
_check_position, _check_velocity, _check_acceleration = mujoco.mj_checkPos, mujoco.mj_checkVel, mujoco.mj_checkAcc
_subtract = np.subtract
_HALF = np.full(3, 0.5)
_DOUBLE = np.dtype(np.float64)
# What np.clip calls in the end, without three layers of Python above it.
_clip: Any = np._core.umath.clip  # type: ignore[attr-defined]


def accelerate(env: SawyerXYZEnv, *, rewards: bool = True) -> SawyerXYZEnv:
    """Give ``env`` a faster class of the same behaviour, and return it.

    With ``rewards=False`` the reward is not computed: ``step`` returns NaN in its place (so that nobody takes it for
    one) and an ``info`` with ``success`` alone, which stays exact.
    On another Meta-World version than ``SUPPORTED_VERSION`` it warns once and returns ``env`` as it came.

    Raises:
        TypeError: ``env`` is not a Meta-World environment (a wrapper, for example).
    """
    if not isinstance(env, SawyerXYZEnv):
        raise TypeError(f"accelerate expects a Meta-World SawyerXYZEnv, got {type(env).__name__}; pass env.unwrapped")
    if not _supported():
        return env
    family: Any = type(env)._family if isinstance(env, FastEnv) else type(env)
    env.__class__ = _fast_class(family, rewards)
    env._bind()  # type: ignore[attr-defined]
    return env


def forget_resets(env: SawyerXYZEnv) -> None:
    """Drop the remembered post-reset states of ``env``: needed after changing ``env.model`` by hand."""
    if isinstance(env, FastEnv):
        env._fast.resets.clear()
        env._fast.hand_reset = None
        env._fast.position = None


@lru_cache(maxsize=1)
def _supported() -> bool:
    """Whether the installed Meta-World is the supported one; warns on the first call otherwise."""
    installed = version("metaworld")
    if installed != SUPPORTED_VERSION:
        warnings.warn(
            f"fast stepping follows metaworld {SUPPORTED_VERSION}, found {installed}: environments stay stock "
            "(same results, slower); install the supported version or set tasks.fast: false",
            stacklevel=3,
        )
    return installed == SUPPORTED_VERSION


@cache
def _fast_class(family: Any, rewards: bool) -> type[FastEnv]:
    """The fast subclass of ``family``, made once per process."""
    members: dict[str, Any] = {"_family": family, "_rewards": rewards, "__doc__": family.__doc__}
    fast: Any = type(family.__name__, (FastEnv, family), {**members, "__module__": family.__module__})
    for name, member in rewards_.translated(family, fast, rewards).items():
        setattr(fast, name, member)
    fast._recorder = type(family.__name__, (fast,), {"__setattr__": _record, "__module__": family.__module__})
    return fast


def _record(env: FastEnv, name: str, value: Any) -> None:
    """``__setattr__`` of an environment while it is reset: notes which attributes a reset assigns."""
    env._fast.written.add(name)
    env.__dict__[name] = value


def _restore(family: type[SawyerXYZEnv], rewards: bool, state: Any) -> SawyerXYZEnv:
    """Unpickle an accelerated environment: the stock way, then accelerated again."""
    env = family.__new__(family)
    env.__setstate__(state)
    return accelerate(env, rewards=rewards)


@dataclass
class _Reset:
    """Everything ``reset`` leaves behind for one task."""

    observation: np.ndarray
    """(39,) float64, what ``reset`` returns."""
    state: np.ndarray
    """MuJoCo's integration state, warm start included."""
    arrays: list[np.ndarray]
    """Copies of ``_Bound.arrays``: derived quantities and the model's positions."""
    attributes: dict[str, Any]
    """Attributes of the environment that the reset assigned."""


class _Bound:
    """Views into one environment's MuJoCo arrays, and its remembered resets."""

    def __init__(self, env: SawyerXYZEnv) -> None:
        model, data = env.model, env.data
        self.model, self.data = model, data  # kept alive: views and addresses point into them
        self.qpos = data.qpos
        self.ctrl, self.mocap_quat = data.ctrl, data.mocap_quat
        self.mocap_pos = data.mocap_pos.reshape(-1)
        self.mocap_xpos = data.body("mocap").xpos
        self.quat = np.array([1.0, 0.0, 1.0, 0.0])
        self.hand = data.body("hand").xpos
        self.right_claw, self.left_claw = data.body("rightclaw").xpos, data.body("leftclaw").xpos
        self.right_tip, self.left_tip = data.site("rightEndEffector").xpos, data.site("leftEndEffector").xpos
        self.right_pad, self.left_pad = data.body("rightpad").xpos, data.body("leftpad").xpos
        self.left_pad_geom: int = data.geom("leftpad_geom").id
        self.right_pad_geom: int = data.geom("rightpad_geom").id
        self.main_geom: int | None = None
        self.bodies = {model.body(i).name: data.body(i).xpos for i in range(model.nbody)}
        self.sites = {model.site(i).name: data.site(i).xpos for i in range(model.nsite)}
        self.named = rewards_.NamedViews(model, data)
        self.space: Any = None
        self.low: np.ndarray = np.empty(0)
        self.high: np.ndarray = np.empty(0)
        self.mocap_low, self.mocap_high = env.mocap_low.tolist(), env.mocap_high.tolist()
        self.diff = np.empty(3)
        self.pair = np.empty(2)
        self.skip_simulation = False
        self.all_nodes: int = model.nbvh
        self.nodes = _bounding_volume_count(model)
        self.reusable = _mocap_without_contacts(model)
        self.position: bytes | None = None
        self.arrays = [model.body_pos, model.site_pos, *_derived_arrays(data)]
        self.state = np.empty(mujoco.mj_stateSize(model, _STATE))
        self.written: set[str] = set()
        self.resets: OrderedDict[Any, _Reset] = OrderedDict()
        self.hand_reset: tuple[Any, np.ndarray] | None = None
        self.sites_matter = _sites_matter(model)

    def advance(self, model: mujoco.MjModel, data: mujoco.MjData, frames: int) -> None:
        """``frames`` times ``mj_step`` and one ``mj_forward``, the forward not skippable: it sets the warm start.

        A step begins where the forward of the last one ended. Nothing but the mocap body has moved since, so inertias
        and contacts, the dearest part, are still right, and the first frame is put together from the rest.
        Source: mj_step, mj_forward and mj_fwdPosition in MuJoCo 3.3.0's engine_forward.c.
        """
        self.nodes.value = 0
        try:
            if self.position is not None and self.position == self.qpos.tobytes() and frames > 1:
                _check_position(model, data)
                _check_velocity(model, data)
                self.mocap_xpos[:] = self.mocap_pos
                _make_constraint(model, data)
                _forward_skip(model, data, _POSITION_STAGE, 1)
                _check_acceleration(model, data)
                _euler(model, data)
                frames -= 1
            _step(model, data, frames)
            _forward(model, data)
        finally:
            self.nodes.value = self.all_nodes
        self.position = self.qpos.tobytes() if self.reusable else None

    def tcp(self) -> tuple[float, float, float]:
        """The middle between the finger tips, x, y, z in metres, as ``tcp_center`` computes it."""
        right_x, right_y, right_z = self.right_tip.tolist()
        left_x, left_y, left_z = self.left_tip.tolist()
        return (right_x + left_x) / 2.0, (right_y + left_y) / 2.0, (right_z + left_z) / 2.0

    def norm3(self, x: float, y: float, z: float) -> float:
        """Length of a vector as numpy computes it. BLAS may fuse multiply and add; three Python products would not."""
        vector = self.diff
        vector[0] = x
        vector[1] = y
        vector[2] = z
        return sqrt(vector.dot(vector))

    def norm2(self, x: float, y: float) -> float:
        """As ``norm3``, in a plane."""
        vector = self.pair
        vector[0] = x
        vector[1] = y
        return sqrt(vector.dot(vector))


def _bounding_volume_count(model: mujoco.MjModel) -> ctypes.c_int:
    """``model.nbvh`` itself, or a number beside it where MuJoCo's memory looks different from 3.3.0's.

    ``mj_collision`` starts by clearing one visualisation flag for each of the 135,000 nodes of the robot's mesh
    hierarchies, 1 microsecond each time, 9 % of a step without contacts. It is the one use of this number while
    stepping, so ``advance`` lets it read 0 there. Nothing in MuJoCo's interface turns the flags off.
    """
    sizes = (ctypes.c_int * 6).from_address(model._address)
    named = [model.nq, model.nv, model.nu, model.na, model.nbody, model.nbvh]
    if mujoco.__version__ != "3.3.0" or list(sizes) != named:
        return ctypes.c_int(model.nbvh)
    return ctypes.c_int.from_address(model._address + 5 * ctypes.sizeof(ctypes.c_int))


def _mocap_without_contacts(model: mujoco.MjModel) -> bool:
    """Whether moving the mocap body leaves every contact as it is, and the model uses plain Euler steps."""
    option = model.opt
    mocap = model.body_mocapid[model.geom_bodyid] >= 0
    childless = not (model.body_mocapid[model.body_parentid] >= 0).any()
    colliding = (model.geom_contype[mocap] | model.geom_conaffinity[mocap]).any()
    plain = option.integrator == mujoco.mjtIntegrator.mjINT_EULER and not option.disableflags | option.enableflags
    return bool(plain and childless and not colliding and not (model.npair or model.ntendon or model.nflex))


def _sites_matter(model: mujoco.MjModel) -> bool:
    """Whether physics depends on where sites are, and not only what is drawn and observed."""
    pulled = {mujoco.mjtTrn.mjTRN_SITE, mujoco.mjtTrn.mjTRN_SLIDERCRANK}
    tied = (model.eq_objtype == mujoco.mjtObj.mjOBJ_SITE).any()
    return bool(tied or model.ntendon or pulled & set(model.actuator_trntype.tolist()))


def _derived_arrays(data: mujoco.MjData) -> list[np.ndarray]:
    """Every array of ``data`` of a fixed size and place, except bookkeeping: those of constraints come and go."""
    skip = ("efc_", "bvh_", "maxuse", "solver", "island", "dof_island", "tendon_efc", "plugin")
    names = [name for name in dir(data) if not name.startswith(("_", *skip))]
    arrays = [getattr(data, name) for name in names]
    return [array for array in arrays if isinstance(array, np.ndarray) and array.size]


class FastEnv(SawyerXYZEnv):
    """The methods every fast class shares, ahead of the family's own in the method resolution order."""

    _family: type[SawyerXYZEnv]
    _rewards: bool
    _recorder: type[FastEnv]
    _fast: _Bound

    def _bind(self) -> None:
        self._fast = _Bound(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = self.__getstate__()
        state["state"] = {k: v for k, v in state["state"].items() if k != "_fast"}
        return _restore, (self._family, self._rewards, state)

    @property
    def _fast_data(self) -> Any:
        """What the family's translated functions see as ``self.data``: the named views, looked up once."""
        return self._fast.named

    # ---- stepping -------------------------------------------------------------------------------------------

    def step(self, action: Any) -> Any:
        """As ``SawyerXYZEnv.step``: (39,) float64 observation, reward, False, truncated, info."""
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
        """Move the mocap body by ``action``, (3,) in units of ``action_scale`` metres, within its bounds."""
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
        """Advance ``n_frames`` of 2.5 ms; without ``mj_rnePostConstraint``, whose results nobody reads."""
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
        """Write hand, gripper and objects into the first 18 numbers of ``observation``, zeros before."""
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
        """Whether both finger pads press on the geom, from MuJoCo's contact arrays."""
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

    # ---- resetting -------------------------------------------------------------------------------------------

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """As ``SawyerXYZEnv.reset``; a task that was reset before is restored instead of simulated."""
        if self._fast.data is not self.data:
            self._bind()
        if self.render_mode == "human" or not self._freeze_rand_vec or self._last_rand_vec is None:
            return super().reset(seed=seed, options=options)
        resets = self._fast.resets
        key = (self._last_rand_vec.tobytes(), self._partially_observable, getattr(self, "reward_function_version", ""))
        known = resets.get(key)
        self.curr_path_length = 0
        self._fast.position = None
        if known is None:
            known = resets[key] = self._simulated_reset()
            if len(resets) > CACHED_RESETS:
                resets.popitem(last=False)
        else:
            resets.move_to_end(key)
            self._restore_reset(known)
        return known.observation.copy(), {}

    def _simulated_reset(self) -> _Reset:
        """Reset as stock does, recording what changes.

        Stock calls ``reset_model`` twice. The first call's simulation is thrown away by ``mj_resetData``; what stays
        of it are body positions in the model, which depend on the task alone: so its simulation is skipped.
        """
        fast = self._fast
        before = type(self)
        fast.written.clear()
        self.__class__ = before._recorder
        try:
            fast.skip_simulation = True
            self.reset_model()
            fast.skip_simulation = False
            mujoco.mj_resetData(self.model, self.data)
            observation = self.reset_model().astype(np.float64)
            self._prev_obs = observation[:18].copy()
            observation[18:36] = self._prev_obs
        finally:
            fast.skip_simulation = False
            object.__setattr__(self, "__class__", before)
        attributes = {name: _owned(self.__dict__[name]) for name in fast.written}
        mujoco.mj_getState(self.model, self.data, fast.state, _STATE)
        return _Reset(observation, fast.state.copy(), [array.copy() for array in fast.arrays], attributes)

    def _reset_hand(self, steps: int = 50) -> None:
        """As the family's own: ``steps`` times 5 frames of physics that bring the hand to its start.

        That is nine tenths of a first reset, and for many families the same for every task, because objects are placed
        afterwards. So the state before its last 5 frames is kept; these are simulated, and fill in all that is derived.
        """
        fast, model = self._fast, self.model
        if fast.skip_simulation or fast.data is not self.data or steps < 2 or fast.sites_matter:
            super()._reset_hand(steps)
            return
        mujoco.mj_getState(model, self.data, fast.state, _STATE)
        key = (steps, np.asarray(self.hand_init_pos).tobytes(), fast.state.tobytes(), model.body_pos.tobytes())
        if fast.hand_reset is None or fast.hand_reset[0] != key:
            super()._reset_hand(steps - 1)
            mujoco.mj_getState(model, self.data, fast.state, _STATE)
            fast.hand_reset = key, fast.state.copy()
        else:
            mujoco.mj_setState(model, self.data, fast.hand_reset[1], _STATE)
        super()._reset_hand(1)

    def _restore_reset(self, known: _Reset) -> None:
        fast = self._fast
        mujoco.mj_setState(self.model, self.data, known.state, _STATE)
        for array, value in zip(fast.arrays, known.arrays, strict=True):
            array[...] = value
        for name, attribute in known.attributes.items():
            self.__dict__[name] = _owned(attribute)


def _owned(value: Any) -> Any:
    """A copy of an array, except of a view into MuJoCo's memory, which has to stay one (door-lock's handle)."""
    if isinstance(value, np.ndarray) and not _is_view_of_mujoco(value):
        return value.copy()
    return value


def _is_view_of_mujoco(array: np.ndarray) -> bool:
    base: Any = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    return base is not None
