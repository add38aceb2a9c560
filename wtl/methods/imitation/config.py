"""What can be set about the paper's method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from wtl.core.bounds import Between, Bounded, Components, Frames, Noise, NotNegative, Rounds, Width
from wtl.core.episode import Context
from wtl.methods.learner import TrainConfig
from wtl.methods.nn.acting import ActingConfig
from wtl.methods.nn.context_network import NetworkConfig


@dataclass(frozen=True)
class ExplorationConfig(Bounded):
    """Noise in what is executed: part of the behaviour, and saved with it."""

    trial_noise: Noise = 0.3
    """Standard deviation at attempt 0: a wider path says more about where the reward is."""
    retrial_noise: Noise = 0.0
    """The same at later attempts, as long as no trial has succeeded; then there is nothing left to look for."""

    def scale(self, context: Context) -> float:
        """Return the standard deviation for an episode that follows this context."""
        if context.solved:
            return 0.0
        return self.retrial_noise if context.trials else self.trial_noise


@dataclass(frozen=True)
class TrialConfig(Bounded):
    """The trial policy."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Its sizes."""
    acting: ActingConfig = field(default_factory=lambda: ActingConfig("held"))
    """How it chooses among hypotheses; `held` makes trials differ."""
    goal_loss_weight: NotNegative = 1.0
    """Weight of the auxiliary loss on the hidden goal."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Its training."""


@dataclass(frozen=True)
class RetrialConfig(Bounded):
    """The retrial policy and its rounds of meta-training."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Its sizes."""
    acting: ActingConfig = field(default_factory=ActingConfig)
    """How it chooses among hypotheses."""
    goal_loss_weight: NotNegative = 1.0
    """Weight of the auxiliary loss on the hidden goal."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training of the first round."""
    later_train: TrainConfig = field(default_factory=TrainConfig)
    """The training of each later round, which goes on from the weights of the round before."""
    rounds: Rounds = 2
    """How often trials are collected and read: 1 is the paper, more let the policy meet its own retrials."""
    first_trials_in_context: Annotated[int, Between(1, 100)] = 1
    """Largest number of trials in a context in the first round."""
    later_trials_in_context: Annotated[int, Between(1, 100)] = 2
    """Largest number of trials in a context in later rounds."""


@dataclass(frozen=True)
class UninformedConfig(Bounded):
    """The network that acts where there is nothing to read: plain cloning, in regime `none`."""

    width: Width = 128
    """Units of each hidden layer."""
    components: Components = 5
    """M, of the mixture."""
    acting: ActingConfig = field(default_factory=lambda: ActingConfig("held"))
    """How it chooses among hypotheses."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Its training."""


@dataclass(frozen=True)
class ImitationConfig(Bounded):
    """Watch-Try-Learn as in the paper: experts are imitated, step by step."""

    shared: bool = False
    """One network for all attempts: it goes on from the trial policy's weights and takes over attempt 0 too, so
    that what its own attempts teach serves all of them. The paper trains two networks."""
    frames: Frames = 24
    """F, of each demonstration and each trial."""
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    """Noise in what is executed."""
    trial: TrialConfig = field(default_factory=TrialConfig)
    """The policy of attempt 0."""
    retrial: RetrialConfig = field(default_factory=RetrialConfig)
    """The policy of later attempts."""
    uninformed: UninformedConfig = field(default_factory=UninformedConfig)
    """What acts at attempt 0 in regime `none`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        retrial = self.retrial
        wanted = max(retrial.first_trials_in_context, retrial.later_trials_in_context)
        if wanted > retrial.network.max_trials:
            raise ValueError(
                f"retrial.*_trials_in_context is {wanted}, but retrial.network.max_trials is "
                f"{retrial.network.max_trials}"
            )
        if self.shared and retrial.network != self.trial.network:
            raise ValueError("shared goes on from the trial policy: retrial.network and trial.network must be equal")
