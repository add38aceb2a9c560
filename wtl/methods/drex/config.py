"""What can be set about rewards that are learned from a noise ladder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from wtl.core.bounds import Between, Bounded, Noise, Width
from wtl.data.meta_batches import BatchConfig
from wtl.methods.learner import TrainConfig


def _training() -> TrainConfig:
    batch = BatchConfig(
        contexts=12, queries=8, trial_queries=1.0, translation=0.1, no_demonstration=0.0, masked_outcome=0.0
    )
    return TrainConfig(steps=300, batch=batch, learning_rate=1e-3, validation_batches=12)


@dataclass(frozen=True)
class RankingConfig(Bounded):
    """The ladder, the snippets that are compared, the network and its training."""

    least_noise: Noise = 0.4
    """The best rung of the ladder that is read, in units of the action: the expert with this much noise is the
    suboptimal policy, and nothing that it does with less is seen."""
    shuffled: bool = False
    """Whether the rungs are dealt out anew among the episodes of each task: a control that can learn nothing."""
    snippet_steps: Annotated[int, Between(1, 1000)] = 50
    """W, the steps of a snippet."""
    stride_steps: Annotated[int, Between(1, 1000)] = 5
    """Every so many steps of a snippet are read."""
    apart_steps: Annotated[int, Between(0, 100_000)] = 50
    """How far apart in their episodes two snippets may be and still be compared: early ones look alike on all rungs."""
    margin: Noise = 0.25
    """How much more noise the worse of two snippets must have."""
    frames: Annotated[int, Between(2, 10_000)] = 8
    """F, of the demonstration; its first and its last one are read."""
    width: Width = 128
    """Units of each hidden layer."""
    noise: Noise = 0.3
    """Standard deviation of the noise with which the best-ranked trial is done again."""
    train: TrainConfig = field(default_factory=_training)
    """Its training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        batch = self.train.batch
        if batch.trial_queries != 1.0 or batch.no_demonstration != 0.0:
            raise ValueError(
                "train.batch.trial_queries must be 1 and train.batch.no_demonstration 0, because snippets of the "
                f"ladder are read beside a demonstration, got {batch.trial_queries} and {batch.no_demonstration}"
            )
        if batch.queries < 2:
            raise ValueError(
                f"train.batch.queries must be at least 2, because snippets are compared, got {batch.queries}"
            )
