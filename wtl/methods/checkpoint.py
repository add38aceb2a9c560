"""How a trained method lies on disk, and how a worker gets at it.

A checkpoint is a folder: `weights.safetensors` (no pickles) with all networks of the method, and `method.json`,
which says which method it is, how it was configured and for which sizes, so that a checkpoint of another model is
refused in one sentence. Everything that makes the behaviour is in it, exploration noise included.
"""

from __future__ import annotations

import dataclasses
import hashlib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from wtl.core.files import write_atomically
from wtl.core.records import RecordFormat, remedy
from wtl.core.task import SHARED_SIZES, FamilySpec
from wtl.methods.spec import MethodSpec, Networks
from wtl.play.policy import Player


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another method or version."""


DESCRIPTION = RecordFormat(
    1, {"method": str, "config": dict, "family": dict, "parts": list, "sha256": str}, error=CheckpointError
)
"""`method.json`."""


def from_plain(kind: Any, content: Any) -> Any:
    """Return a value of this type made from what JSON can say: the reverse of `dataclasses.asdict`.

    Args:
        kind: a dataclass, or the annotation of one of its fields.

    Raises:
        TypeError: the content has other fields than the dataclass.
    """
    if dataclasses.is_dataclass(kind) and isinstance(content, Mapping):
        hints = typing.get_type_hints(kind)
        return kind(**{name: from_plain(hints.get(name, Any), value) for name, value in content.items()})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(content, (list, tuple)):
        inner = arguments if arguments and arguments[-1] is not Ellipsis else arguments[:1] * len(content)
        return tuple(from_plain(one, value) for one, value in zip(inner, content, strict=True))
    if origin in (typing.Union, types.UnionType) and content is not None:
        return from_plain(next(one for one in arguments if one is not type(None)), content)
    return content


@dataclass(frozen=True)
class Checkpoint:
    """A trained method in a folder, described; its weights are read when they are asked for."""

    directory: Path
    method: str
    config: Any
    """The method's own configuration."""
    family: FamilySpec
    """The sizes that it was trained for."""
    parts: tuple[str, ...]
    sha256: str
    """The checksum of the weights."""

    @property
    def source(self) -> str:
        """What its episodes say about who played them."""
        return f"{self.method} {self.sha256[:12]}"


def _sizes(spec: FamilySpec) -> dict[str, Any]:
    """Return what a checkpoint remembers of the families it was trained on: sizes, not names."""
    return {key: value for key, value in asdict(spec).items() if key not in ("name", "hidden_goal", "weight")}


def save_checkpoint(directory: Path, spec: MethodSpec, config: Any, family: FamilySpec, networks: Networks) -> None:
    """Write a method's folder; `method.json`, which makes it loadable, comes last.

    Raises:
        FloatingPointError: a weight is not finite. Nothing is written.
    """
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    broken = not_finite(tensors)
    if broken:
        raise FloatingPointError(
            f"training {spec.name} ended with weights that are not finite ({broken}); delete {directory.parent} and "
            "train with a lower learning rate"
        )
    content = save(tensors)
    write_atomically(directory / "weights.safetensors", content)
    described = {
        "method": spec.name,
        "config": asdict(config),
        "family": _sizes(family),
        "parts": sorted(networks),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    DESCRIPTION.write(directory / "method.json", described)


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the name of a tensor that holds NaN or an infinite number; empty if none does."""
    return next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), "")


def method_name(directory: Path) -> str:
    """Return the name of the method in a folder. Raises CheckpointError if there is none."""
    return str(_description(directory)["method"])


def _description(directory: Path) -> dict[str, Any]:
    path = directory / "method.json"
    if not path.exists():
        raise CheckpointError(f"{directory} holds no trained method (method.json is missing); train it first")
    return DESCRIPTION.read(path)


def read_checkpoint(directory: Path, spec: MethodSpec) -> Checkpoint:
    """Return the description of a saved method.

    Raises:
        CheckpointError: nothing is there, or it is another method's, or its configuration has other fields.
    """
    content = _description(directory)
    if content["method"] != spec.name:
        raise CheckpointError(
            f"{directory} holds a checkpoint of {content['method']}, expected {spec.name}; give the folder of one, or "
            f"set method={content['method']}"
        )
    try:
        sizes = {**content["family"], "name": "any", "hidden_goal": True}
        config, family = from_plain(spec.config, content["config"]), from_plain(FamilySpec, sizes)
        return Checkpoint(directory, spec.name, config, family, tuple(content["parts"]), content["sha256"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{directory}/method.json does not fit this version of {spec.name}: {error}") from error


def load_networks(checkpoint: Checkpoint, spec: MethodSpec) -> dict[str, nn.Module]:
    """Return all networks of a saved method with their weights.

    Raises:
        CheckpointError: the weights are damaged or of another network.
    """
    path = checkpoint.directory / "weights.safetensors"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != checkpoint.sha256:
            raise SafetensorError("it was damaged or changed: its checksum is another one")
        tensors = load(content)
        broken = not_finite(tensors)
        if broken:
            raise SafetensorError(f"{broken} holds numbers that are not finite")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {remedy(path)}") from error
    return _filled(checkpoint, spec, tensors)


def _filled(checkpoint: Checkpoint, spec: MethodSpec, tensors: Mapping[str, torch.Tensor]) -> dict[str, nn.Module]:
    """Return the networks with these weights. Raises CheckpointError if they are those of other networks."""
    assert spec.network is not None
    networks = {}
    strange = [name for name in tensors if name.split("/")[0] not in checkpoint.parts]
    try:
        if strange:
            raise ValueError(f"nobody knows the weights {strange[0]}")
        for part in checkpoint.parts:
            own = {name.removeprefix(f"{part}/"): t for name, t in tensors.items() if name.startswith(f"{part}/")}
            networks[part] = spec.network(checkpoint.config, checkpoint.family, part)
            networks[part].load_state_dict(own)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{checkpoint.directory} is a checkpoint of another model: {reason}") from error
    return networks


def load_player(
    directory: Path,
    spec: MethodSpec,
    one_walk: bool = False,
    family: FamilySpec | None = None,
    variant: str = "",
) -> Player:
    """Return a saved method or a variant of it, ready to play; with `one_walk` an attempt of it holds a single try.

    Args:
        directory: the folder.
        spec: the method that is expected there.
        one_walk: see above.
        family: what it is to play, if that is known; its sizes must be those that the method was trained for.
        variant: one of the method's variants; empty: the method itself.

    Raises:
        CheckpointError: see `read_checkpoint` and `load_networks`; or it was trained for other sizes.
    """
    checkpoint = read_checkpoint(directory, spec)
    if family is not None:
        _check_sizes(checkpoint, family)
    networks = load_networks(checkpoint, spec)
    config = spec.one_walk(checkpoint.config) if one_walk else checkpoint.config
    make = spec.variants[variant].player if variant else spec.player
    try:
        return make(config, checkpoint.family, networks, checkpoint.source)
    except KeyError as error:
        raise CheckpointError(f"{directory} is not the whole method: it has no network {error}") from error


def _check_sizes(checkpoint: Checkpoint, family: FamilySpec) -> None:
    for name in SHARED_SIZES:
        trained, played = getattr(checkpoint.family, name), getattr(family, name)
        if trained != played:
            raise CheckpointError(
                f"{checkpoint.directory} was trained for families of other sizes: their {name} is {trained}, that of "
                f"{family.name} is {played}; give a checkpoint that was trained on families like it"
            )
