"""What can be set about trajectory transfer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from wtl.core.bounds import Between, Bounded, Count, Frames, Noise, NotNegative, Positive, Rounds
from wtl.data.meta_batches import BatchConfig
from wtl.methods.learner import TrainConfig
from wtl.methods.transfer.controller import ControllerConfig
from wtl.methods.transfer.copier import CopierConfig
from wtl.methods.transfer.copying import CopyingConfig
from wtl.methods.transfer.reference import ReferenceConfig
from wtl.methods.transfer.scorer import ScorerConfig


def _training() -> TrainConfig:
    batch = BatchConfig(contexts=64, queries=1, translation=0.2, trial_queries=0.0, no_demonstration=0.0)
    return TrainConfig(steps=2500, batch=batch, learning_rate=3e-3, validation_batches=12)


@dataclass(frozen=True)
class InferenceConfig(Bounded):
    """How the goal offset is inferred, whoever controls."""

    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    """The network that scores hypotheses."""
    max_trials: Annotated[int, Between(1, 100)] = 4
    """Trials that are read; of more, the newest."""
    hypotheses: Annotated[int, Between(1, 10_000)] = 16
    """H, that an episode can try one after another."""
    reach_steps: Positive = 4.0
    """How far off, in hand steps, a hypothesis may be and still be good."""
    unknown_spread_steps: NotNegative = 5.0
    """Deviation of the hypotheses, in hand steps, where an unsuccessful trial is the only reference."""
    misled_steps: NotNegative = 4.0
    """How far, in hand steps, a goal must be from the task's own to mislead the policy that plays the first trials."""
    misled_tasks: Count | None = None
    """Training tasks of those first trials (null: as the run's `trials` say)."""
    frames: Frames = 24
    """F, of each demonstration and each trial."""
    rounds: Rounds = 1
    """How often trials are collected and read; later rounds play the method itself."""
    first_trials_in_context: Annotated[int, Between(0, 100)] = 1
    """Largest number of trials in a context in the first round."""
    later_trials_in_context: Annotated[int, Between(0, 100)] = 2
    """Largest number of trials in a context in later rounds."""
    train: TrainConfig = field(default_factory=_training)
    """The training of the first round."""
    later_train: TrainConfig = field(default_factory=_training)
    """The training of each later round, which goes on from the weights of the round before."""

    @property
    def reference(self) -> ReferenceConfig:
        """How a reference is read; the controller's part of the configuration says it."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = max(self.first_trials_in_context, self.later_trials_in_context)
        if wanted > self.max_trials:
            raise ValueError(f"*_trials_in_context is {wanted}, but max_trials is {self.max_trials}")
        for name in ("train", "later_train"):
            batch = getattr(self, name).batch
            if batch.no_demonstration or batch.trial_queries:
                raise ValueError(
                    f"trajectory transfer reads how demonstrations are offset and imitates no actions; set "
                    f"{name}.batch.no_demonstration and .trial_queries to 0, "
                    f"got {batch.no_demonstration} and {batch.trial_queries}"
                )


@dataclass(frozen=True)
class TransferConfig(InferenceConfig):
    """Trajectory transfer whose controller is written by hand."""

    controller: ControllerConfig = field(default_factory=ControllerConfig)
    """How the warped reference is tracked."""

    @property
    def reference(self) -> ReferenceConfig:
        """How a reference is read."""
        return self.controller.reference


def _imitation(steps: int, learning_rate: float) -> TrainConfig:
    batch = BatchConfig(
        contexts=32, queries=16, trial_queries=0.75, translation=0.0, no_demonstration=0.0, masked_outcome=0.0
    )
    return TrainConfig(steps=steps, batch=batch, learning_rate=learning_rate, weight_decay=1e-4)


@dataclass(frozen=True)
class LearnedConfig(InferenceConfig):
    """Trajectory transfer whose controller is learned."""

    copier: CopierConfig = field(default_factory=CopierConfig)
    """The network that controls."""
    copying: CopyingConfig = field(default_factory=CopyingConfig)
    """When a hypothesis is given up."""
    expert_noise: Noise = 1.2
    """Largest standard deviation of the noise in what the expert executes beside its path."""
    own_noise: Noise = 0.4
    """The same where the controller itself leads."""
    sight_noise_steps: NotNegative = 0.5
    """Largest deviation of where objects are seen in training, in hand steps."""
    control_rounds: Annotated[int, Between(0, 100)] = 2
    """How often the controller leads, told the true goal, and learns what the expert would have done there."""
    control_tasks: Count | None = 800
    """Training tasks of each such round (null: as many as `trials.later_round_tasks`)."""
    control_train: TrainConfig = field(default_factory=lambda: _imitation(4000, 1.5e-3))
    """The training of the controller on the expert's path and beside it."""
    later_control_train: TrainConfig = field(default_factory=lambda: _imitation(5000, 1.5e-3))
    """Its training after each round but the last."""
    last_control_train: TrainConfig = field(default_factory=lambda: _imitation(20000, 1.5e-3))
    """Its training after the last round."""

    @property
    def reference(self) -> ReferenceConfig:
        """How a reference is read."""
        return self.copying.reference
