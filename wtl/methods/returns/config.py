"""What can be set about policies that are asked for a return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from wtl.core.bounds import Between, Bounded, Components, Layers, Share, Width
from wtl.data.meta_batches import BatchConfig
from wtl.methods.learner import TrainConfig

Command = Literal["return_to_go", "return_and_horizon", "mean_return", "none"]


def _training() -> TrainConfig:
    batch = BatchConfig(
        contexts=32, queries=4, trial_queries=1.0, translation=0.0, no_demonstration=0.0, masked_outcome=0.0
    )
    return TrainConfig(steps=2500, batch=batch, learning_rate=1e-3)


@dataclass(frozen=True)
class ReturnsConfig(Bounded):
    """The command that a policy is given, what it sees, how it acts and how it is trained."""

    command: Command = "return_and_horizon"
    """What it is asked for: the return from this step on; that and the steps that are left; the mean reward of the
    steps that are left, which stays as it was asked; or nothing, which is cloning."""
    window_steps: Annotated[int, Between(1, 1000)] = 1
    """W, the steps that it sees, the present one last: observations and commands."""
    past_actions: Literal["seen", "unseen"] = "unseen"
    """Whether it sees what it did at the steps before, as Decision Transformer does. Trap: what was done a step ago
    predicts so well what is done now, in smooth or slowly disturbed motion, that the rest is hardly learned from."""
    prompt_frames: Annotated[int, Between(0, 10_000)] = 8
    """F, frames of the demonstration that stand before the window; 0: it sees none."""
    width: Width = 64
    """E, of the tokens."""
    heads: Annotated[int, Between(1, 64)] = 4
    """H, of each attention."""
    layers: Layers = 2
    """Blocks of the transformer."""
    components: Components = 3
    """M, of the mixture over actions."""
    acting: Literal["sampled", "likeliest"] = "sampled"
    """sampled: each action is drawn from the mixture, so bad behaviour can be asked for too; likeliest: the mean of the
    heaviest component."""
    asked: Annotated[float, Between(0, 100)] = 1.0
    """The return that is asked for where the context names none, as a share of the demonstrated return; without a
    demonstration, as a share of the largest return that there can be."""
    returns: Literal["true", "shuffled"] = "true"
    """shuffled: each episode's command in training is that of another one, a control that can ask for nothing."""
    best_share: Share = 1.0
    """The share of each family's graded episodes that is learned from, those with the highest returns."""
    train: TrainConfig = field(default_factory=_training)
    """Its training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        if self.train.batch.trial_queries != 1.0:
            raise ValueError(
                f"train.batch.trial_queries must be 1, because graded episodes alone are learned from, got "
                f"{self.train.batch.trial_queries}"
            )
