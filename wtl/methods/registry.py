"""The one list of methods: those of this package, those of installed packages, and any by its address.

A method from outside needs no fork: its package names its spec under the entry point group `wtl.methods`, or a
configuration gives the address itself, `method=package.module:SPEC`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtl.core.task import FamilySpec
from wtl.methods import (
    cloning,
    drex,
    expert,
    hindsight,
    imitation,
    ladder,
    mil,
    nearest_neighbour,
    returns,
    transfer,
)  # fmt: skip
from wtl.methods.checkpoint import load_player
from wtl.methods.spec import MethodSpec
from wtl.play.policy import Player

METHODS: tuple[MethodSpec, ...] = (
    imitation.SPEC, transfer.SPEC, transfer.LEARNED, transfer.TOLD, transfer.BLIND, cloning.SPEC, mil.SPEC,
    nearest_neighbour.SPEC, hindsight.SPEC, expert.SPEC, *returns.SPECS, *drex.SPECS, *ladder.SPECS,
)  # fmt: skip
"""The methods of this package."""

GROUP = "wtl.methods"
"""The entry point group of methods that other packages bring."""


@functools.cache
def known_methods() -> dict[str, MethodSpec]:
    """Return all methods that have a name here, by name.

    Raises:
        ValueError: two have the same name, or an installed package brings something that is no method.
    """
    found = {spec.name: spec for spec in METHODS}
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            spec = _checked(entry.load(), entry.value)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise ValueError(f"entry point {entry.value} cannot be loaded ({error}); mend or remove it") from error
        if spec.name in found:
            raise ValueError(f"entry point {entry.value} brings a method named {spec.name!r}, which is taken")
        found[spec.name] = spec
    return found


def find_method(name: str) -> MethodSpec:
    """Return the method of this name, or at this address (`package.module:SPEC`).

    Raises:
        ValueError: there is none, the message lists those that there are; or another method has the same name.
    """
    methods = known_methods()
    if ":" in name:
        spec = _at_address(name)
        if methods.get(spec.name, spec) is not spec:  # settings and results go by names
            raise ValueError(f"{name} is a method named {spec.name!r}, which is taken; give it another name")
        return spec
    if name not in methods:
        raise ValueError(f"unknown method {name!r}; known are {', '.join(methods)}, or give package.module:SPEC")
    return methods[name]


def _at_address(address: str) -> MethodSpec:
    module, _, attribute = address.partition(":")
    try:
        if not module or module.startswith("."):
            raise ImportError("the name of its module must be absolute")
        return _checked(getattr(importlib.import_module(module), attribute), address)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ValueError(f"there is no method at {address!r} ({error}); expected package.module:SPEC") from error


def _checked(spec: Any, where: str) -> MethodSpec:
    if not isinstance(spec, MethodSpec):
        raise ValueError(f"{where} is no method: expected a MethodSpec, got {type(spec).__name__}")
    return spec


@dataclass(frozen=True)
class PlayerRecipe:
    """How a worker makes a player: small, picklable, and free of weights."""

    method: str
    """A name or an address, see `find_method`."""
    config: Any = None
    """The configuration of a method that is not trained."""
    checkpoint: Path | None = None
    one_walk: bool = False
    """Whether an attempt holds a single try (`protocol.walks`)."""
    variant: str = ""
    """One of the method's variants; empty: the method itself."""

    def player(self, family: FamilySpec) -> Player:
        """Return the player for families of these sizes. Raises ValueError if its checkpoint cannot be read."""
        spec = find_method(self.method)
        if self.checkpoint is not None:
            return load_player(self.checkpoint, spec, self.one_walk, family, self.variant)
        config = spec.one_walk(self.config) if self.one_walk else self.config
        make = spec.variants[self.variant].player if self.variant else spec.player
        return make(config, family, {}, spec.name)
