"""This module runs the families' own reward functions in a namespace of faster primitives.

Meta-World's reward functions are small, but ``np.linalg.norm``, ``np.clip``, ``tolerance`` and named access cost tens
of microseconds per step on three numbers. Instead of writing 50 functions anew, ``translated`` makes copies of them
whose globals hold drop-in primitives for scalars and whose ``self.data`` reads views looked up once. This is not a
reward library: the formulas stay Meta-World's.

Trap: results must keep the *type* too. numpy weighs a Python float less than ``np.float64`` when it meets a float32
action, so a norm that returned a Python float would change bits.

Source: metaworld/utils/reward_utils.py and metaworld/envs of Meta-World 3.1.1; scipy/spatial/transform of 1.17.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.utils import reward_utils
from scipy.spatial.transform import _rotation_cy

_float64 = np.float64
_ndarray = np.ndarray
_DOUBLE = np.dtype(np.float64)
_LONG_TAIL = float(np.sqrt(1 / 0.1 - 1))
_GAUSSIAN = float(np.sqrt(-2 * np.log(0.1)))


def norm(x: Any, ord: int | None = None) -> Any:
    """Return ``np.linalg.norm`` of a float64 vector or scalar: the same dot product (BLAS) and square root."""
    if type(x) is _ndarray:
        if x.dtype is _DOUBLE and (ord is None or ord == 2):
            return _float64(sqrt(x.dot(x)))
    elif type(x) is _float64:
        return _float64(sqrt(x * x))
    return np.linalg.norm(x, ord=ord)


def clip(a: Any, a_min: Any, a_max: Any, **options: Any) -> Any:
    """Return ``np.clip`` of a scalar."""
    if isinstance(a, (float, np.float32)) and not options:
        kind = type(a) if isinstance(a, np.floating) else _float64
        return kind(a_min) if a < a_min else kind(a_max) if a > a_max else kind(a)
    return np.clip(a, a_min, a_max, **options)


def tolerance(
    x: Any,
    bounds: Any = (0.0, 0.0),
    margin: Any = 0.0,
    sigmoid: Any = "gaussian",
    value_at_margin: float = 0.1,
) -> Any:
    """Return ``reward_utils.tolerance`` of a scalar; what it is not written for goes to the original."""
    if isinstance(x, float) and value_at_margin == 0.1:
        if sigmoid == "long_tail":
            return long_tail(float(x), bounds[0], bounds[1], float(margin))
        if sigmoid == "gaussian":
            return long_tail(float(x), bounds[0], bounds[1], float(margin), True)
    return reward_utils.tolerance(x, bounds, margin, sigmoid, value_at_margin)


def long_tail(x: float, lower: float, upper: float, margin: float, gaussian: bool = False) -> float:
    """Return ``tolerance`` with the sigmoid ``long_tail`` (or ``gaussian``) and 0.1 at the margin.

    Raises:
        ValueError: ``lower > upper`` or a negative margin, as the original.
    """
    if lower > upper or margin < 0:
        raise ValueError(f"tolerance expects lower <= upper and margin >= 0, got {lower}, {upper}, {margin}")
    if lower <= x <= upper:
        return 1.0
    if margin == 0:
        return 0.0
    distance = (lower - x if x < lower else x - upper) / margin
    if gaussian:
        # numpy's own exponential, which differs from the C library's in the last bit
        return float(np.exp(-0.5 * (distance * _GAUSSIAN) ** 2))
    return 1 / ((distance * _LONG_TAIL) ** 2 + 1)


def hamacher_product(a: Any, b: Any) -> Any:
    """Return ``reward_utils.hamacher_product``, whose message it copies, mistake included."""
    if not ((0.0 <= a <= 1.0) and (0.0 <= b <= 1.0)):
        raise ValueError(f"a ({b}) and b ({b}) must range between 0 and 1")
    product = a * b
    denominator = a + b - product
    h_prod = (product / denominator) if denominator > 0 else 0
    assert 0.0 <= h_prod <= 1.0
    return h_prod


def _caging_reward(
    env: Any, init: Any, action: Any, obj_pos: Any, obj_radius: float, pad_success_thresh: float,
    object_reach_radius: float, xz_thresh: float, desired_gripper_effort: float = 1.0,
    high_density: bool = False, medium_density: bool = False,
) -> Any:  # fmt: skip
    """Return ``SawyerXYZEnv._gripper_caging_reward``; ``init`` (3,) m is the object's position after a reset."""
    if high_density and medium_density:
        raise ValueError("Can only be either high_density or medium_density")
    fast = env._fast
    x, y, z = obj_pos.tolist()
    init_x, init_y, init_z = init.tolist()
    tcp_x, tcp_y, tcp_z = fast.tcp()
    tcp0_x, tcp0_y, tcp0_z = env.init_tcp.tolist()
    sides = []
    for pad_y in (fast.left_pad.item(1), fast.right_pad.item(1)):
        margin = abs(abs(pad_y - init_y) - pad_success_thresh)
        sides.append(long_tail(abs(pad_y - y), obj_radius, pad_success_thresh, margin))
    caging_y = hamacher_product(*sides)
    margin_xz = fast.norm2(init_x - tcp0_x, init_z - tcp0_z) - xz_thresh
    caging_xz = long_tail(fast.norm2(tcp_x - x, tcp_z - z), 0, xz_thresh, margin_xz)
    # The action's own precision, here and in the product below.
    gripper_closed = min(max(0, action[-1]), desired_gripper_effort) / desired_gripper_effort
    caging = hamacher_product(caging_y, caging_xz)
    gripping = gripper_closed if caging > 0.97 else 0.0
    caging_and_gripping = hamacher_product(caging, gripping)
    if high_density:
        return (caging_and_gripping + caging) / 2
    if medium_density:
        far = fast.norm3(init_x - tcp0_x, init_y - tcp0_y, init_z - tcp0_z)
        near = fast.norm3(x - tcp_x, y - tcp_y, z - tcp_z)
        reach = long_tail(near, 0, object_reach_radius, abs(far - object_reach_radius))
        return (caging_and_gripping + reach) / 2
    return caging_and_gripping


def _caging_of_object(self: Any, action: Any, obj_pos: Any, *args: Any, **kwargs: Any) -> Any:
    return _caging_reward(self, self.obj_init_pos, action, obj_pos, *args, **kwargs)


def _caging_of_stick(self: Any, action: Any, obj_pos: Any, *args: Any, **kwargs: Any) -> Any:
    return _caging_reward(self, self.stick_init_pos, action, obj_pos, *args, **kwargs)


def _caging_xz_and_pads(env: Any, obj_pos: Any, xz_thresh: float) -> tuple[float, list[tuple[float, float]]]:
    """Return caging in the x-z plane, then distance and margin of the right and the left pad."""
    fast = env._fast
    x, y, z = obj_pos.tolist()
    init_x, _, init_z = env.obj_init_pos.tolist()
    tcp_x, _, tcp_z = fast.tcp()
    tcp0_x, _, tcp0_z = env.init_tcp.tolist()
    pads = [
        (y - fast.right_pad.item(1), abs(abs(y - env.init_right_pad.item(1)) - 0.05)),
        (fast.left_pad.item(1) - y, abs(abs(y - env.init_left_pad.item(1)) - 0.05)),
    ]
    margin = fast.norm3(init_x - tcp0_x, 0.0, init_z - tcp0_z) - xz_thresh
    return long_tail(fast.norm3(tcp_x - x, 0.0, tcp_z - z), 0, xz_thresh, margin), pads


def _caging_in_two_widths(grip_margin: float, xz_thresh: float) -> Callable[..., float]:
    """Return the caging reward of push-back, soccer, sweep and sweep-into, which differ in two lengths (m)."""

    def reward(self: Any, action: Any, obj_pos: Any, obj_radius: float, **unused: Any) -> float:
        caging_xz, pads = _caging_xz_and_pads(self, obj_pos, xz_thresh)
        y_caging = hamacher_product(*[long_tail(pad, obj_radius, 0.05, margin) for pad, margin in pads])
        caging = hamacher_product(y_caging, caging_xz)
        width = obj_radius + grip_margin
        # Stock computes the grip in any case, and raises if the radius were wider than it: it never is.
        gripping = 0.0
        if caging > 0.95:
            gripping = hamacher_product(*[long_tail(pad, obj_radius, width, margin) for pad, margin in pads])
        return (caging + gripping) / 2

    return reward


def _caging_of_pick_place(self: Any, action: Any, obj_pos: Any, **unused: Any) -> Any:
    caging_xz, pads = _caging_xz_and_pads(self, obj_pos, 0.005)
    caging = hamacher_product(
        hamacher_product(*[long_tail(pad, 0.015, 0.05, margin) for pad, margin in pads]), caging_xz
    )
    gripping = min(max(0, action[-1]), 1) if caging > 0.97 else 0.0
    return (hamacher_product(caging, gripping) + caging) / 2


_CAGING: dict[str, Callable[..., Any]] = {
    "SawyerXYZEnv": _caging_of_object,
    "SawyerStickPushEnvV3": _caging_of_stick,
    "SawyerPickPlaceEnvV3": _caging_of_pick_place,
    "SawyerPushBackEnvV3": _caging_in_two_widths(0.003, 0.01),
    "SawyerSoccerEnvV3": _caging_in_two_widths(0.01, 0.005),
    "SawyerSweepIntoGoalEnvV3": _caging_in_two_widths(0.005, 0.01),
    "SawyerSweepEnvV3": _caging_in_two_widths(0.01, 0.005),
}
"""The caging rewards, by the class whose ``_gripper_caging_reward`` each replaces."""


def quaternion_by_kernel(matrix: Any) -> Any:
    """Return ``Rotation.from_matrix(matrix).as_quat()`` for one 3 x 3 matrix, by scipy's compiled kernel.

    ``assume_valid`` skips the check that the matrix is orthogonal to 1e-12, which takes ten times as long as the
    conversion: MuJoCo makes every matrix from a quaternion it has just normalised, so it is orthogonal to 1e-15.
    """
    return _rotation_cy.from_matrix(matrix, assume_valid=True)


def quaternion_in_python(matrix: Any) -> list[float]:
    """Return (x, y, z, w) by the kernel's arithmetic, three times as fast without memory views."""
    a, b, c, d, e, f, g, h, i = matrix.ravel().tolist()
    trace = a + e + i
    if trace > a and trace > e and trace > i:
        x, y, z, w = h - f, c - g, d - b, 1 + trace
    elif a >= e and a >= i:
        x, y, z, w = 1 - trace + 2 * a, d + b, g + c, h - f
    elif e >= i:
        x, y, z, w = d + b, 1 - trace + 2 * e, h + f, c - g
    else:
        x, y, z, w = g + c, h + f, 1 - trace + 2 * i, d - b
    norm_ = sqrt(x * x + y * y + z * z + w * w)
    return [x / norm_, y / norm_, z / norm_, w / norm_]


def _quaternion() -> Callable[[Any], Any]:
    """Return the fast conversion where it gives the kernel's bits: a compiler may have fused products there."""
    random = np.random.default_rng(0).normal(size=(300, 3, 3))
    matrices = np.linalg.qr(random)[0]
    matrices = matrices * np.linalg.det(matrices)[:, None, None].round()
    same = all(np.array(quaternion_in_python(m)).tobytes() == quaternion_by_kernel(m).tobytes() for m in matrices)
    return quaternion_in_python if same else quaternion_by_kernel


class FastRotation:
    """It stands in for ``scipy.spatial.transform.Rotation`` in ``from_matrix(m).as_quat()``."""

    quaternion: Any
    _convert = staticmethod(_quaternion())

    @classmethod
    def from_matrix(cls, matrix: Any) -> FastRotation:
        """Return the quaternion of one 3 x 3 rotation matrix."""
        rotation = cls()
        rotation.quaternion = cls._convert(matrix)
        return rotation

    def as_quat(self) -> Any:
        """Return (x, y, z, w), an array or a list."""
        return self.quaternion


class NamedViews:
    """It is a read-only stand-in for ``MjData`` with named access: every view is looked up once."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._bodies = {model.body(i).name: _views(data.body(i), "xpos xquat xmat") for i in range(model.nbody)}
        self._geoms = {model.geom(i).name: _views(data.geom(i), "xpos xmat") for i in range(model.ngeom)}
        self._sites = {model.site(i).name: _views(data.site(i), "xpos xmat") for i in range(model.nsite)}
        self._joints = {model.joint(i).name: _views(data.joint(i), "qpos qvel") for i in range(model.njnt)}
        self.body, self.geom = self._bodies.__getitem__, self._geoms.__getitem__
        self.site, self.joint = self._sites.__getitem__, self._joints.__getitem__
        self.qpos, self.qvel = data.qpos, data.qvel


def _views(named: Any, fields: str) -> SimpleNamespace:
    return SimpleNamespace(id=named.id, **{field: getattr(named, field) for field in fields.split()})


def _fast_numpy() -> ModuleType:
    module = ModuleType("numpy")
    module.__dict__.update(vars(np))
    module.__dict__.update(linalg=SimpleNamespace(norm=norm), clip=clip)
    return module


_PRIMITIVES: dict[str, Any] = {
    "np": _fast_numpy(),
    "reward_utils": SimpleNamespace(
        tolerance=tolerance,
        hamacher_product=hamacher_product,
        rect_prism_tolerance=reward_utils.rect_prism_tolerance,
    ),
    "tolerance": tolerance,
    "hamacher_product": hamacher_product,
    "Rotation": FastRotation,
}

_UNTRANSLATED = ("__init__", "reset_model", "_reset_hand", "_set_obj_xyz", "_get_obs_dict", "model_name")


def translated(family: type, fast: type) -> dict[str, Any]:
    """Return the functions of ``family`` that run at every step, as members for its fast subclass ``fast``.

    Only Meta-World's own functions: what a user's subclass overrides stays as the user wrote it.
    """
    members: dict[str, Any] = {}
    owners = {name: owner for owner in reversed(family.__mro__) for name in vars(owner)}
    for name, owner in owners.items():
        inherited = owner is SawyerXYZEnv and name == "_gripper_caging_reward"
        if name in _UNTRANSLATED or not (inherited or owner.__module__.startswith("metaworld.envs.")):
            continue
        member = vars(owner)[name]
        if name == "_gripper_caging_reward":
            members[name] = _CAGING[owner.__name__]
        elif isinstance(member, staticmethod):
            members[name] = staticmethod(_translate(member.__func__, owner, fast))
        elif isinstance(member, FunctionType):
            members[name] = _translate(_undecorated(member), owner, fast)
    return members


def _undecorated(function: FunctionType) -> FunctionType:
    """Return the function inside ``assert_task_is_set``, a check that the fast ``step`` makes itself."""
    if function.__name__ == "inner" and function.__closure__ is not None:
        inner = function.__closure__[function.__code__.co_freevars.index("func")].cell_contents
        assert isinstance(inner, FunctionType)
        return inner
    return function


def _translate(function: Any, family: type, fast: type) -> FunctionType:
    """Return ``function`` with fast primitives as globals, and ``_fast_data`` wherever it says ``data``."""
    code = function.__code__
    code = code.replace(co_names=tuple("_fast_data" if name == "data" else name for name in code.co_names))
    names = {k: v for k, v in _PRIMITIVES.items() if k in function.__globals__}
    names = {**function.__globals__, **names, family.__name__: fast}
    copy = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
