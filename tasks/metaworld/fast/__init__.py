"""This folder makes Meta-World 3.1.1 environments step two to three times as fast, with the very same bits.

``accelerate(env)`` gives one environment a faster class; stock environments beside it stay stock. Nothing is
approximated: physics does the same arithmetic, and reward functions are the families' own, run in a namespace of
faster primitives (``rewards.py``). What goes is overhead: contacts as Python objects, names looked up at every access,
scipy's array-API layer, the second of two resets, resets that were simulated before.

Trap: it relies on private parts of four libraries, so with other versions than the verified ones nothing in this
folder is imported and environments stay stock. Source: metaworld/sawyer_xyz_env.py of Meta-World 3.1.1;
tests/test_metaworld_fast.py compares bit by bit.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.metadata import version

from metaworld.sawyer_xyz_env import SawyerXYZEnv

VERIFIED = {"metaworld": "3.1.1", "mujoco": "3.3.0", "numpy": "2.4.6", "scipy": "1.17.1"}
"""The versions with which every family was compared with stock, bit by bit."""


class StockSteppingWarning(UserWarning):
    """The warning says that environments step the stock way although fast stepping was asked for."""


def accelerate(env: SawyerXYZEnv) -> SawyerXYZEnv:
    """Return ``env`` itself, with a faster class of the same behaviour.

    With other library versions than ``VERIFIED`` it warns, once a process, and returns ``env`` as it came.

    Raises:
        TypeError: ``env`` is not a Meta-World environment (a wrapper, for example).
    """
    if not isinstance(env, SawyerXYZEnv):
        raise TypeError(f"accelerate expects a Meta-World SawyerXYZEnv, got {type(env).__name__}; pass env.unwrapped")
    if not _is_verified():
        return env
    from wtl.tasks.metaworld.fast.stepping import with_fast_class

    return with_fast_class(env)


@lru_cache(maxsize=1)
def _is_verified() -> bool:
    """Return whether the installed versions are the verified ones; the first call warns otherwise."""
    installed = {name: version(name) for name in VERIFIED}
    others = [f"{name} {installed[name]} (verified: {VERIFIED[name]})" for name in VERIFIED]
    others = [text for name, text in zip(VERIFIED, others, strict=True) if installed[name] != VERIFIED[name]]
    if others:
        warnings.warn(
            f"fast stepping was not verified with {', '.join(others)}, so Meta-World steps the stock way: the same "
            "results, two to three times slower; install the verified versions, or set tasks.fast=false",
            StockSteppingWarning,
            stacklevel=3,
        )
    return not others
