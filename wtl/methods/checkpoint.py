"""How a trained method lies on disk, and how a worker gets at it.

A checkpoint is a folder: `weights.safetensors` (no pickles) with all networks of the method, and `method.json`,
which says which method it is, how it was configured and for which sizes, so that a checkpoint of another model is
refused in one sentence. Everything that makes the behaviour is in it, exploration noise included.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from wtl.core.files import write_atomically
from wtl.core.task import FamilySpec
from wtl.methods.spec import MethodSpec, Networks
from wtl.play.policy import Player

VERSION = 1
_AGAIN = "train or copy it again (in a run, delete the folder of its stage)"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another method or version."""


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
    """Write a method's folder; `method.json`, which makes it loadable, comes last."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    content = save(tensors)
    write_atomically(directory / "weights.safetensors", content)
    described = {
        "version": VERSION,
        "method": spec.name,
        "config": asdict(config),
        "family": _sizes(family),
        "parts": sorted(networks),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(directory / "method.json", json.dumps(described, indent=1).encode())


def method_name(directory: Path) -> str:
    """Return the name of the method in a folder. Raises CheckpointError if there is none."""
    return str(_description(directory)["method"])


def _description(directory: Path) -> dict[str, Any]:
    path = directory / "method.json"
    if not path.is_file():
        raise CheckpointError(f"{directory} holds no trained method (method.json is missing); train it first")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        version, _ = content["version"], content["method"]
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {_AGAIN}") from error
    except KeyError as error:
        raise CheckpointError(f"{path} cannot be read (it has no {error}); {_AGAIN}") from error
    if version != VERSION:
        raise CheckpointError(f"{path} is of version {version}, and this program reads version {VERSION}; {_AGAIN}")
    return content


def read_checkpoint(directory: Path, spec: MethodSpec) -> Checkpoint:
    """Return the description of a saved method.

    Raises:
        CheckpointError: nothing is there, or it is another method's, or its configuration has other fields.
    """
    content = _description(directory)
    if content["method"] != spec.name:
        raise CheckpointError(f"{directory} holds a checkpoint of {content['method']}, expected {spec.name}")
    try:
        sizes = {**content["family"], "name": "any", "hidden_goal": True}
        config, family = from_plain(spec.config, content["config"]), from_plain(FamilySpec, sizes)
        return Checkpoint(directory, spec.name, config, family, tuple(content["parts"]), content["sha256"])
    except (TypeError, KeyError, ValueError) as error:
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
            raise SafetensorError("its checksum is another one")
        tensors = load(content)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {_AGAIN}") from error
    assert spec.network is not None
    networks = {}
    for part in checkpoint.parts:
        own = {name.removeprefix(f"{part}/"): t for name, t in tensors.items() if name.startswith(f"{part}/")}
        try:
            networks[part] = spec.network(checkpoint.config, checkpoint.family, part)
            networks[part].load_state_dict(own)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{checkpoint.directory} is a checkpoint of another model: {reason}") from error
    return networks


def load_player(directory: Path, spec: MethodSpec, one_walk: bool = False, variant: str = "") -> Player:
    """Return a saved method or a variant of it, ready to play; with `one_walk` an attempt of it holds a single try.

    Raises:
        CheckpointError: see `read_checkpoint` and `load_networks`.
    """
    checkpoint = read_checkpoint(directory, spec)
    networks = load_networks(checkpoint, spec)
    config = spec.one_walk(checkpoint.config) if one_walk else checkpoint.config
    make = spec.variants[variant].player if variant else spec.player
    return make(config, checkpoint.family, networks, checkpoint.source)
