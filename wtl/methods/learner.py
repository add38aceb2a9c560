"""What the training loop needs of a method: a network, a loss, and how it is optimised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Protocol

from torch import Tensor, nn

from wtl.core.bounds import Between, Bounded, Positive, Steps, Text
from wtl.data.meta_batches import Batch, BatchConfig


@dataclass(frozen=True)
class Losses:
    """The losses of one training step; `total` is what is minimised."""

    total: Tensor
    action: Tensor | None = None
    """Negative log-likelihood of the expert's actions, nats; of methods that imitate."""
    goal: Tensor | None = None
    """How far an inferred goal is off, in a measure of the method's own; of methods that infer one."""

    def named(self) -> dict[str, Tensor]:
        """Return those that there are, in the order of the fields."""
        return {name: part for name, part in vars(self).items() if part is not None}


class Learner(Protocol):
    """One network of a method while it is trained by supervised learning."""

    @property
    def network(self) -> nn.Module:
        """The parameters."""
        ...

    @property
    def compiles(self) -> bool:
        """Whether torch.compile can take the loss (used on a GPU)."""
        ...

    def loss(self, batch: Batch) -> Losses:
        """Return the losses on one meta-batch."""
        ...

    def fit_features(self, observations_NO: Tensor) -> None:
        """Take the normalisation of inputs from data, before the first step."""
        ...


@dataclass(frozen=True)
class TrainConfig(Bounded):
    """How one network is optimised."""

    steps: Steps = 2000
    """Optimiser steps."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """How the batch of a step is drawn."""
    micro_batches: Annotated[int, Between(1, 4096)] = 1
    """M, of each step: the gradient is the mean over M batches, as of one that is M times as large. Under torchrun
    they are shared out, so M must be a multiple of the number of processes; the outcome depends on M alone."""
    learning_rate: Annotated[float, Between(0, 10, open_low=True)] = 1e-3
    """Peak; linear warm-up, then a cosine to zero."""
    warmup_steps: Annotated[int, Between(0, 10**9)] = 100
    """Steps of the linear warm-up."""
    weight_decay: Annotated[float, Between(0, 10)] = 1e-4
    """The weight decay of AdamW."""
    clip_norm: Positive = 1.0
    """Largest norm of the gradient."""
    validate_every_steps: Steps = 250
    """Steps between two looks at new goals of the training families."""
    validation_batches: Annotated[int, Between(1, 10_000)] = 4
    """Batches of each such look."""
    checkpoint_every_steps: Steps = 250
    """Steps that are lost at most when a training is killed."""
    log_every_steps: Steps = 25
    """Steps between two lines of losses."""
    device: Annotated[str, Text("auto, cpu, cuda or cuda:NUMBER", r"auto|cpu|cuda(:[0-9]{1,3})?")] = "auto"
    """auto: a GPU if there is one (bf16 and torch.compile there), else the CPU in float32."""
