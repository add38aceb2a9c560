"""This module binds one environment to its MuJoCo arrays: every name is looked up once, every view is kept.

It also holds the physics of one step, which reuses what the step before computed. Trap: a step builds on contacts of
the one before, so whoever changes ``data.qpos`` is noticed, and whoever changes ``env.model`` by hand (masses, sizes,
positions) is not and must call ``resets.forget_resets``. Source: MuJoCo 3.3.0, engine_forward.c.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from math import sqrt
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from wtl.tasks.metaworld.fast import rewards

if TYPE_CHECKING:
    from wtl.tasks.metaworld.fast.resets import RememberedReset

INTEGRATION_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_POSITION_STAGE = int(mujoco.mjtStage.mjSTAGE_POS)
_step, _forward, _forward_skip = mujoco.mj_step, mujoco.mj_forward, mujoco.mj_forwardSkip
_make_constraint, _euler = mujoco.mj_makeConstraint, mujoco.mj_Euler
_check_position, _check_velocity, _check_acceleration = mujoco.mj_checkPos, mujoco.mj_checkVel, mujoco.mj_checkAcc


class Bound:
    """It holds views into one environment's MuJoCo arrays, and the environment's remembered resets."""

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
        self.named = rewards.NamedViews(model, data)
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
        self.state = np.empty(mujoco.mj_stateSize(model, INTEGRATION_STATE))
        self.written: set[str] = set()
        self.resets: OrderedDict[Any, RememberedReset] = OrderedDict()
        self.hand_reset: tuple[Any, np.ndarray] | None = None
        self.sites_matter = _sites_matter(model)

    def advance(self, model: mujoco.MjModel, data: mujoco.MjData, frames: int) -> None:
        """This does ``frames`` times ``mj_step`` and one ``mj_forward``, which sets the warm start of the next step.

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
        """Return the middle between the finger tips, x, y, z in metres, as ``tcp_center`` computes it."""
        right_x, right_y, right_z = self.right_tip.tolist()
        left_x, left_y, left_z = self.left_tip.tolist()
        return (right_x + left_x) / 2.0, (right_y + left_y) / 2.0, (right_z + left_z) / 2.0

    def norm3(self, x: float, y: float, z: float) -> float:
        """Return a vector's length as numpy computes it: BLAS may fuse multiply and add, Python would not."""
        vector = self.diff
        vector[0] = x
        vector[1] = y
        vector[2] = z
        return sqrt(vector.dot(vector))

    def norm2(self, x: float, y: float) -> float:
        """Return that of ``norm3``, in a plane."""
        vector = self.pair
        vector[0] = x
        vector[1] = y
        return sqrt(vector.dot(vector))


def _bounding_volume_count(model: mujoco.MjModel) -> ctypes.c_int:
    """Return ``model.nbvh`` itself, or a number beside it where MuJoCo's memory looks different from 3.3.0's.

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
    """Return whether moving the mocap body leaves every contact as it is, with plain Euler steps."""
    option = model.opt
    mocap = model.body_mocapid[model.geom_bodyid] >= 0
    childless = not (model.body_mocapid[model.body_parentid] >= 0).any()
    colliding = (model.geom_contype[mocap] | model.geom_conaffinity[mocap]).any()
    plain = option.integrator == mujoco.mjtIntegrator.mjINT_EULER and not option.disableflags | option.enableflags
    return bool(plain and childless and not colliding and not (model.npair or model.ntendon or model.nflex))


def _sites_matter(model: mujoco.MjModel) -> bool:
    """Return whether physics depends on where sites are, and not only what is drawn and observed."""
    pulled = {mujoco.mjtTrn.mjTRN_SITE, mujoco.mjtTrn.mjTRN_SLIDERCRANK}
    tied = (model.eq_objtype == mujoco.mjtObj.mjOBJ_SITE).any()
    return bool(tied or model.ntendon or pulled & set(model.actuator_trntype.tolist()))


def _derived_arrays(data: mujoco.MjData) -> list[np.ndarray]:
    """Return every array of ``data`` with a fixed size and address; those of constraints come and go."""
    skip = ("efc_", "bvh_", "maxuse", "solver", "island", "dof_island", "tendon_efc", "plugin")
    names = [name for name in dir(data) if not name.startswith(("_", *skip))]
    arrays = [getattr(data, name) for name in names]
    return [array for array in arrays if isinstance(array, np.ndarray) and array.size]
