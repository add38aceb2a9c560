"""Somebody's own policy as a method: evaluated with every control and curve by the same route.

Put `SPEC = wrap_policy("mine", make)` into a module of your own and run with `method=module:SPEC`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.methods.spec import MethodSpec, Networks, Reads
from wtl.play.policy import FromContext, Method, Player, StepBatch


class Acts(Protocol):
    """Anything that turns observations into actions."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return (R, A) actions for (R, O) observations."""
        ...


@dataclass(frozen=True)
class NoSettings:
    """A wrapped method is configured by whoever wrote it."""


@dataclass(frozen=True)
class ContextFree:
    """A `Method` and its `Policy` around an object that ignores contexts."""

    policy: Acts
    source: str

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> ContextFree:
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        return self.policy.act(step.observations)


def wrap_policy(name: str, make: Callable[[], Acts]) -> MethodSpec:
    """Return a method around an object with `act(observations)`, which is made anew in each worker."""
    return wrap_method(name, lambda family: ContextFree(make(), name), Reads(demonstrations="ignored"))


def wrap_method(name: str, make: Callable[[FamilySpec], Method], reads: Reads) -> MethodSpec:
    """Return a method around an object with `source` and `adapt(contexts, seeds)`, made anew in each worker.

    Args:
        make: from the sizes of the family that is played.
        reads: which contexts it reads; with `trials=True` later attempts and controls are played too.
    """

    def player(config: Any, family: FamilySpec, networks: Networks, source: str) -> Player:
        return FromContext(make(family))

    return MethodSpec(name, f"{name}, brought from outside.", NoSettings, player, reads)
