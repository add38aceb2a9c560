"""This module remembers what a reset leaves behind, so that a task that was reset before is not simulated again.

Trap: after a remembered reset ``data.contact`` is that of the previous step until the next one, and goal markers may
be drawn elsewhere than stock draws them until then. Who changes ``env.model`` by hand must call ``forget_resets``.
Source: metaworld/sawyer_xyz_env.py of Meta-World 3.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from wtl.tasks.metaworld.fast.bound import INTEGRATION_STATE, Bound

CACHED_RESETS = 64
"""Post-reset states remembered per environment, each about 40 kB; the least recently used goes first."""


@dataclass
class RememberedReset:
    """It is everything that ``reset`` leaves behind for one task."""

    observation: np.ndarray
    """(39,) float64, what ``reset`` returns."""
    state: np.ndarray
    """MuJoCo's integration state, warm start included."""
    arrays: list[np.ndarray]
    """Copies of ``Bound.arrays``: derived quantities and the model's positions."""
    attributes: dict[str, Any]
    """Attributes of the environment that the reset assigned."""


def forget_resets(env: SawyerXYZEnv) -> None:
    """This drops the remembered post-reset states of ``env``: needed after changing ``env.model`` by hand."""
    if isinstance(env, FastResets):
        env._fast.resets.clear()
        env._fast.hand_reset = None
        env._fast.position = None


def record_assignment(env: FastResets, name: str, value: Any) -> None:
    """This is ``__setattr__`` of an environment while it is reset: it notes which attributes a reset assigns."""
    env._fast.written.add(name)
    env.__dict__[name] = value


class FastResets(SawyerXYZEnv):
    """These are the methods that reset, ahead of the family's own in the method resolution order."""

    _recorder: type[FastResets]
    _fast: Bound

    def _bind(self) -> None:
        self._fast = Bound(self)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Return that of ``SawyerXYZEnv.reset``; a task that was reset before is restored, not simulated."""
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

    def _simulated_reset(self) -> RememberedReset:
        """Return what a reset, done as stock does it, changed.

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
        mujoco.mj_getState(self.model, self.data, fast.state, INTEGRATION_STATE)
        return RememberedReset(observation, fast.state.copy(), [array.copy() for array in fast.arrays], attributes)

    def _reset_hand(self, steps: int = 50) -> None:
        """This does ``steps`` times 5 frames of physics that bring the hand to its start, as the family's own does.

        That is nine tenths of a first reset, and for many families the same for every task, because objects are placed
        afterwards. So the state before its last 5 frames is kept; these are simulated, and fill in all that is derived.
        """
        fast, model = self._fast, self.model
        if fast.skip_simulation or fast.data is not self.data or steps < 2 or fast.sites_matter:
            super()._reset_hand(steps)
            return
        mujoco.mj_getState(model, self.data, fast.state, INTEGRATION_STATE)
        key = (steps, np.asarray(self.hand_init_pos).tobytes(), fast.state.tobytes(), model.body_pos.tobytes())
        if fast.hand_reset is None or fast.hand_reset[0] != key:
            super()._reset_hand(steps - 1)
            mujoco.mj_getState(model, self.data, fast.state, INTEGRATION_STATE)
            fast.hand_reset = key, fast.state.copy()
        else:
            mujoco.mj_setState(model, self.data, fast.hand_reset[1], INTEGRATION_STATE)
        super()._reset_hand(1)

    def _restore_reset(self, known: RememberedReset) -> None:
        fast = self._fast
        mujoco.mj_setState(self.model, self.data, known.state, INTEGRATION_STATE)
        for array, value in zip(fast.arrays, known.arrays, strict=True):
            array[...] = value
        for name, attribute in known.attributes.items():
            self.__dict__[name] = _owned(attribute)


def _owned(value: Any) -> Any:
    """Return a copy of an array, but a view into MuJoCo's memory stays one (door-lock's handle)."""
    if isinstance(value, np.ndarray) and not _is_view_of_mujoco(value):
        return value.copy()
    return value


def _is_view_of_mujoco(array: np.ndarray) -> bool:
    base: Any = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    return base is not None
