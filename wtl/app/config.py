"""One frozen dataclass per command, composed of the configs that live above the classes they configure.

The only file that knows OmegaConf: YAML and `key=value` come in, plain dataclasses go out, and a typo
or a wrong type is one sentence. Trap: nothing below ever sees a DictConfig.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import omegaconf
from omegaconf import OmegaConf

from wtl.core.task import Regime
from wtl.methods.cloning import CloningConfig
from wtl.methods.imitation.policy import PolicyConfig
from wtl.methods.mil import MilConfig
from wtl.methods.nn.acting import ActingConfig
from wtl.methods.transfer.method import FollowingConfig
from wtl.play.attempts import ExplorationConfig
from wtl.stages.demonstrations import DemonstrationsConfig
from wtl.stages.evaluate import EvaluationConfig
from wtl.stages.train import TrainConfig
from wtl.stages.trials import TrialsConfig

PRESETS = Path(__file__).parents[2] / "configs"
PRETRAINED = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class TasksConfig:
    """The config says which task families there are, and how many tasks of each."""

    benchmark: str = "ML1"
    """`toy`, `ML1`, `ML10`, `ML25`, `ML45`, `custom`, the name of an entry point in the group `wtl.tasks`, or a
    function of one's own as `package.module:function` (see `tasks/__init__.py`)."""
    family: str = "reach-v3"
    """The one family of ML1."""
    train: tuple[str, ...] = ()
    """Training families of a custom split."""
    test: tuple[str, ...] = ()
    """Test families of a custom split."""
    seed: int = 1
    """Meta-World's own seed for the official tasks."""
    goals_per_family: int = 50
    """Training goals; 50 is the benchmark, more departs from it and is recorded in every result."""
    validation_goals_per_family: int = 10
    """New goals of the training families, to watch training and to choose by; never the test goals."""
    test_goals_per_family: int = 50
    """Test goals, at most 50 on Meta-World."""
    goals_per_start: int = 1
    """Fresh goals that share one start, so that the start cannot be memorised as the name of the goal."""
    procedural_families: int = 0
    """Procedurally generated families (`tasks/procedural/`) beside Meta-World's in training, where Meta-World's
    together weigh as much as they do."""
    tasks_per_procedural_family: int = 4
    """Training tasks of each of them."""
    hidden_goal_weight: int = 1
    """How many families a family with a hidden goal counts as in training: where trials are shared out among
    families, and where training batches draw them."""
    fast: bool = True
    """Accelerated stepping of Meta-World, bit-identical to its own; false steps the stock way."""
    reward_version: Literal["v1", "v2"] = "v2"
    """Meta-World's reward functions; published scores differ by tens of points between the two."""
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of a benchmark of one's own, handed to its function as they are."""

    def __post_init__(self) -> None:
        for name in ("goals_per_family", "validation_goals_per_family", "test_goals_per_family"):
            if getattr(self, name) < 2:
                # A demonstration is never of the identical task, so one task alone has none.
                raise ValueError(f"tasks.{name} must be at least 2, got {getattr(self, name)}")
        if self.procedural_families and self.tasks_per_procedural_family < 2:
            raise ValueError(
                f"tasks.tasks_per_procedural_family must be at least 2, got {self.tasks_per_procedural_family}"
            )
        for name in ("goals_per_start", "hidden_goal_weight"):
            if getattr(self, name) < 1:
                raise ValueError(f"tasks.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class PhaseConfig:
    """The network and the training of trial or retrial policy."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class RetrialConfig:
    """The retrial policy and its rounds of meta-training."""

    shared: bool = False
    """One network for all attempts: it goes on from the trial policy's weights and takes over attempt 0 too, so
    that what its own attempts teach serves all of them. The paper trains two networks."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the first round."""
    later_train: TrainConfig = field(default_factory=TrainConfig)
    """Of each later round, which goes on from the weights of the round before."""
    rounds: int = 2
    """How often trials are collected and read: 1 is the paper, more let the operator meet its own retrials."""
    first_trials_in_context: int = 1
    """Largest k in the first round."""
    later_trials_in_context: int = 2
    """Largest k in later rounds."""


@dataclass(frozen=True)
class CloningPhase:
    """Behaviour cloning without context."""

    policy: CloningConfig = field(default_factory=CloningConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class MilPhase:
    """Meta-imitation learning: gradient steps on the demonstration."""

    policy: MilConfig = field(default_factory=MilConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class RunConfig:
    """Everything of `wtl run`, resolved and saved with the run."""

    directory: str = "runs/unnamed"
    seed: int = 0
    """Of collection, training and everything else that is not Meta-World's own seed."""
    evaluation_seed: int = 1000
    """Of the entries, so that runs with different training seeds are compared on the same ones."""
    workers: int = 0
    """Processes; 0 means one a core. The outcome does not depend on it."""
    executor: Literal["local", "serial", "ray"] = "local"
    """Who collects and evaluates: the cores of this machine, this process alone, or a Ray cluster (`make ray`),
    for which `directory` must be on a file system that all nodes share. The outcome does not depend on it."""
    regime: Regime = "family"
    operator: Literal["imitating", "following"] = "imitating"
    """How behaviour comes out of a context: the expert's actions are imitated, step by step, by a trial and a retrial
    policy, as in the paper; or the demonstrated route is followed, bent by what one network infers (`following`)."""
    tasks: TasksConfig = field(default_factory=TasksConfig)
    trained: str = ""
    """A trained policy for all attempts, evaluated instead of training one: a folder, or the name of one that comes
    with the package (`wtl/pretrained/`)."""
    own_demonstrations: str = ""
    """A finished episode store of one's own, used instead of asking the expert."""
    demonstrations: DemonstrationsConfig = field(default_factory=DemonstrationsConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    trials: TrialsConfig = field(default_factory=TrialsConfig)
    trial: PhaseConfig = field(default_factory=lambda: PhaseConfig(PolicyConfig(acting=ActingConfig("held"))))
    retrial: RetrialConfig = field(default_factory=RetrialConfig)
    """Rounds and training of either operator."""
    following: FollowingConfig = field(default_factory=FollowingConfig)
    cloning: CloningPhase = field(default_factory=CloningPhase)
    mil: MilPhase = field(default_factory=MilPhase)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    video: Literal["auto", "camera", "sketch"] = "auto"

    def __post_init__(self) -> None:
        if self.retrial.rounds < 1:
            raise ValueError(f"retrial.rounds must be at least 1, got {self.retrial.rounds}")
        if self.operator == "following":
            self._check_following()
        if self.retrial.shared:
            if self.regime == "none":
                raise ValueError(
                    "retrial.shared needs something to watch before attempt 0; in regime `none` set it to false"
                )
            if self.retrial.policy.network != self.trial.policy.network:
                raise ValueError("retrial.shared goes on from the trial policy: the two policy.network must be equal")
        readable, where = self.retrial.policy.network.max_trials, "retrial.policy.network.max_trials"
        if self.operator == "following":
            readable, where = self.following.max_trials, "following.max_trials"
        wanted = max(self.retrial.first_trials_in_context, self.retrial.later_trials_in_context)
        if wanted > readable:
            raise ValueError(f"retrial.*_trials_in_context is {wanted}, but {where} is {readable}")

    def _check_following(self) -> None:
        if self.regime == "none":
            raise ValueError("operator: following needs something to follow; in regime `none` set operator: imitating")
        for name in ("train", "later_train")[: self.retrial.rounds]:
            batch = getattr(self.retrial, name).batch
            if batch.no_demonstration or batch.trial_queries:
                raise ValueError(
                    f"operator: following reads how demonstrations are shifted and is asked for no actions; set "
                    f"retrial.{name}.batch.no_demonstration and .trial_queries to 0, "
                    f"got {batch.no_demonstration} and {batch.trial_queries}"
                )


Config = TypeVar("Config")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one sentence for the user."""


def trained_policy(name: str) -> Path:
    """The folder of a trained policy. Raises ConfigError if there is none."""
    for candidate in (Path(name), PRETRAINED / name):
        if (candidate / "policy.json").is_file():
            return candidate
    known = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob("*/policy.json")))
    raise ConfigError(f"trained: there is no policy in {name!r}; give the folder of one, or one of {known}")


def preset_path(name: str) -> Path:
    """A YAML file, a run directory (its own resolved configuration) or a preset.

    Raises:
        ConfigError: none of these; the message names the presets.
    """
    for candidate in (Path(name), Path(name) / "config.yaml", PRESETS / f"{name}.yaml", PRESETS / name):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))
    raise ConfigError(
        f"there is no configuration {name!r}; give a YAML file, a run directory or one of the presets {known}"
    )


def load_config(name: str, overrides: list[str], kind: type[Config] = RunConfig) -> Config:  # type: ignore[assignment]
    """Defaults, then the YAML file, then `key=value` overrides.

    Raises:
        ConfigError: a key that does not exist, a value of the wrong type or out of range, a bad file.
    """
    path = preset_path(name)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.load(path), _dotlist(overrides))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (omegaconf.errors.OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(f"{path.name}: {_one_line(error)}") from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"{path} is not YAML: {_one_line(error)}") from error
        raise


def _dotlist(overrides: list[str]) -> Any:
    for override in overrides:
        if "=" not in override or override.startswith("="):
            raise ConfigError(f"expected key=value, got {override!r}; for example retrial.train.steps=1000")
    return OmegaConf.from_dotlist(overrides)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
    message = lines[0] if lines else type(error).__name__
    return f"{key}: {message}" if key and key not in message else message


def to_plain(config: Any) -> dict[str, Any]:
    """Dataclasses as nested dictionaries."""
    return dataclasses.asdict(config)


def to_yaml(config: Any) -> str:
    """The resolved configuration, loadable again."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))
