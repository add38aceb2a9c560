"""What the training loop needs of a method, and how a trained method lies on disk.

A policy on disk is a folder: `weights.safetensors` (no pickles) and `policy.json`, which says which
method it is and how it was built, so that a checkpoint of another model is refused in one sentence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wtl.core.files import write_atomically
from wtl.core.task import FamilySpec, ObservationLayout
from wtl.data.meta_batches import Batch


@dataclass(frozen=True)
class Losses:
    """One training step's losses; `total` is what is minimised."""

    total: Tensor
    action: Tensor | None = None
    """Negative log-likelihood of the expert's actions, nats; of methods that imitate."""
    belief: Tensor | None = None
    """How far a believed goal is off, in a measure of the method's own; of methods that infer it."""

    def named(self) -> dict[str, Tensor]:
        """Those that there are, in the order of the fields."""
        return {name: part for name, part in vars(self).items() if part is not None}


class Learner(Protocol):
    """A method that is trained by supervised learning."""

    @property
    def network(self) -> nn.Module:
        """The parameters."""
        ...

    @property
    def compiles(self) -> bool:
        """Whether torch.compile can take the loss (used on a GPU)."""
        ...

    def loss(self, batch: Batch) -> Losses:
        """On one meta-batch."""
        ...

    def fit_features(self, observations_NO: Tensor) -> None:
        """Take the normalisation of inputs from data, before the first step."""
        ...


def spec_to_json(spec: FamilySpec) -> dict[str, Any]:
    """What a checkpoint remembers of the families it was trained on: sizes, not names."""
    return {key: value for key, value in asdict(spec).items() if key not in ("name", "hidden_goal", "weight")}


def spec_from_json(content: Mapping[str, Any]) -> FamilySpec:
    """The reverse of `spec_to_json`."""
    layout = dict(content["layout"])
    layout["points"], layout["scalars"] = tuple(layout["points"]), tuple(layout["scalars"])
    return FamilySpec(**{**content, "layout": ObservationLayout(**layout), "name": "any", "hidden_goal": True})


def save_policy(directory: Path, method: str, network: nn.Module, settings: Mapping[str, Any]) -> None:
    """Write a policy's folder; `policy.json`, which makes it loadable, last."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    content = save(tensors)
    write_atomically(directory / "weights.safetensors", content)
    description = {"method": method, "sha256": hashlib.sha256(content).hexdigest(), **settings}
    write_atomically(directory / "policy.json", json.dumps(description, indent=1).encode())


def read_policy(directory: Path) -> dict[str, Any]:
    """The description of a saved policy. Raises ValueError if there is none."""
    path = directory / "policy.json"
    if not path.is_file():
        raise ValueError(f"{directory} holds no trained policy (policy.json is missing); train it first")
    return json.loads(path.read_text())


def load_weights(directory: Path, network: nn.Module) -> None:
    """Load a saved policy's weights. Raises ValueError if they are damaged or of another network."""
    path = directory / "weights.safetensors"
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != read_policy(directory)["sha256"]:
            raise SafetensorError("its checksum is another one")
        tensors = load_file(path)
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{directory}/weights.safetensors cannot be read ({error}); train it again") from error
    except RuntimeError as error:
        raise ValueError(
            f"{directory} is a checkpoint of another model: {str(error).splitlines()[-1].strip()}"
        ) from error
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        raise ValueError(f"{directory} is a checkpoint of another model: {names} do not match")


def inherit_weights(directory: Path, network: nn.Module, method: str, *others: str) -> None:
    """Start from the weights of a saved policy of this method, or of one of the others.

    Raises:
        ValueError: it is of none of them, or `load_weights` does.
    """
    if read_policy(directory)["method"] not in (method, *others):
        raise ValueError(f"{directory} is no {method} policy, so a {method} policy cannot start from it")
    load_weights(directory, network)
