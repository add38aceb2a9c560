"""One frozen dataclass for a run, composed of the configs that live above the classes they configure.

The only file that knows OmegaConf: YAML and `key=value` come in, plain dataclasses go out, and a typo or a wrong type
is one sentence. Each method's section is merged against its own dataclass, so methods from outside are configured
like those of this package. Trap: nothing below ever sees a DictConfig.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import omegaconf
import yaml
from omegaconf import OmegaConf

from wtl.core.task import Regime
from wtl.methods.checkpoint import method_name
from wtl.methods.registry import METHODS, find_method, known_methods
from wtl.play.protocol import ProtocolConfig
from wtl.stages.demonstrations import DemonstrationsConfig
from wtl.stages.evaluate import EvaluationConfig
from wtl.stages.trials import TrialsConfig

PACKAGE = Path(__file__).parents[1]
PRESETS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
"""Inside the package where it was installed from a wheel, beside it in a checkout."""
PRETRAINED = PACKAGE / "pretrained"


@dataclass(frozen=True)
class TasksConfig:
    """Which task families there are, and how many tasks of each."""

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
    """Training goals; 50 is the benchmark, more departs from it and is recorded in every result. 0 draws none: enough
    where nothing is trained, and Meta-World's 45 training families take ten seconds to draw."""
    validation_goals_per_family: int = 10
    """New goals of the training families, to watch training and to choose by; never the test goals. 0 draws none."""
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
            none_allowed = name != "test_goals_per_family"
            if getattr(self, name) < 2 and not (none_allowed and getattr(self, name) == 0):
                # A demonstration is never of the identical task, so one task alone has none.
                expected = "0 or at least 2" if none_allowed else "at least 2"
                raise ValueError(f"tasks.{name} must be {expected}, got {getattr(self, name)}")
        if self.procedural_families and self.tasks_per_procedural_family < 2:
            raise ValueError(
                f"tasks.tasks_per_procedural_family must be at least 2, got {self.tasks_per_procedural_family}"
            )
        for name in ("goals_per_start", "hidden_goal_weight"):
            if getattr(self, name) < 1:
                raise ValueError(f"tasks.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class RunConfig:
    """Everything of `wtl run`, resolved and saved with the run."""

    directory: str = "runs/unnamed"
    """Where everything is written."""
    seed: int = 0
    """The seed of collection, training and everything else but Meta-World's own tasks."""
    evaluation_seed: int = 1000
    """The seed of the entries, so that runs with different training seeds are compared on the same ones."""
    workers: int = 0
    """Processes; 0 means one a core. The outcome does not depend on it."""
    executor: Literal["local", "serial", "ray"] = "local"
    """Who collects and evaluates: the cores of this machine, this process alone, or a Ray cluster (`make ray`),
    for which `directory` must be on a file system that all nodes share. The outcome does not depend on it."""
    regime: Regime = "family"
    """What the demonstration shares with the task: `goal`, `family`, or there is `none`."""
    method: str = METHODS[0].name
    """Whose curve is measured: a name of `wtl methods`, or package.module:SPEC."""
    checkpoint: str = ""
    """A trained method that is evaluated instead of training one: a folder, or the name of one that comes with the
    package (`wtl/pretrained/`). It brings its own configuration, exploration noise included."""
    methods: dict[str, Any] = field(default_factory=dict)
    """The settings of each method, by its name; see its configuration's dataclass."""
    tasks: TasksConfig = field(default_factory=TasksConfig)
    """Families and goals."""
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    """How an attempt is played."""
    demonstrations: DemonstrationsConfig = field(default_factory=DemonstrationsConfig)
    """How demonstrations are made."""
    trials: TrialsConfig = field(default_factory=TrialsConfig)
    """How trials are collected for training."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """What is evaluated."""
    video: Literal["auto", "camera", "sketch"] = "auto"
    """The simulator's camera, a sketch, or the camera where it works."""

    def __post_init__(self) -> None:
        """Find mistakes before anything is written."""
        spec = find_method(self.method)
        if spec.missing:
            raise ValueError(f"method {spec.name} needs {', '.join(spec.missing)}, which is not installed")
        if not self.checkpoint:
            spec.phases(self.settings_of(self.method), self.regime)
        for name in self.evaluation.methods:
            find_method(name)

    def settings_of(self, name: str) -> Any:
        """Return the configuration of a method, its defaults where nothing is set."""
        spec = find_method(name)
        return self.methods.get(spec.name, spec.config())


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one sentence for the user."""


def checkpoint_directory(name: str) -> Path:
    """Return the folder of a trained method. Raises ConfigError if there is none."""
    for candidate in (Path(name), PRETRAINED / name):
        if (candidate / "method.json").is_file():
            return candidate
    known = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob("*/method.json")))
    raise ConfigError(f"checkpoint: there is no trained method in {name!r}; give the folder of one, or one of {known}")


def preset_path(name: str) -> Path:
    """Return the YAML file of this name: a file, a run directory (its own resolved configuration) or a preset.

    Raises:
        ConfigError: none of these; the message names the presets.
    """
    for candidate in (Path(name), Path(name) / "config.yaml", PRESETS / f"{name}.yaml", PRESETS / name):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml") if not path.stem.startswith("_")))
    raise ConfigError(
        f"there is no configuration {name!r}; give a YAML file, a run directory or one of the presets {known}"
    )


def load_config(name: str, overrides: list[str]) -> RunConfig:
    """Return the configuration: defaults, then the YAML file, then `key=value` overrides.

    Raises:
        ConfigError: a key that does not exist, a value of the wrong type or out of range, a bad file.
    """
    path = preset_path(name)
    try:
        given: Any = OmegaConf.merge(_load_yaml(path), _dotlist(overrides))
        sections = given.pop("methods", None) or {}
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), given)
        if merged.checkpoint:  # a checkpoint knows what it is
            merged = OmegaConf.merge(merged, {"method": _method_of(str(merged.checkpoint), str(merged.method))})
        asked = dict.fromkeys([str(merged.method), *map(str, merged.evaluation.methods)])
        specs = {spec.name: spec for spec in (*known_methods().values(), *map(find_method, asked))}
        for section in sections:
            if section not in specs:
                raise ConfigError(f"methods.{section}: unknown method; known are {', '.join(specs)}")
        config: RunConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
        settings = {
            name: _merged(f"methods.{name}", spec.config, sections.get(name) or {})
            for name, spec in specs.items()
            if name in sections or any(find_method(one).name == name for one in asked)
        }
        return dataclasses.replace(config, methods=settings)
    except ConfigError:
        raise
    except (omegaconf.errors.OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(f"{path.name}: {_one_line(error)}") from error


def _method_of(checkpoint: str, asked: str) -> str:
    """Return the name or address of the method of a checkpoint; an address has to be given by the configuration."""
    name = method_name(checkpoint_directory(checkpoint))
    if name in known_methods():
        return name
    if find_method(asked).name == name:
        return asked
    raise ConfigError(f"checkpoint: {checkpoint} is of method {name!r}, which is not installed; set method=MODULE:SPEC")


def _merged(where: str, kind: type, section: Any) -> Any:
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), section))
    except (omegaconf.errors.OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {_one_line(error)}") from error


def _load_yaml(path: Path) -> Any:
    """Return a YAML file merged into the one that its key `base` names, beside it."""
    content: Any = _parsed(str(path), lambda: OmegaConf.load(path))
    if not OmegaConf.is_dict(content):
        raise ConfigError(f"{path} must hold `key: value` lines, got a list")
    base = content.pop("base", None)
    return OmegaConf.merge(_load_yaml(path.parent / str(base)), content) if base else content


def _dotlist(overrides: list[str]) -> Any:
    for override in overrides:
        if "=" not in override or override.startswith("="):
            raise ConfigError(f"expected key=value, got {override!r}; for example tasks.family=push-v3")
    return _parsed(" ".join(overrides), lambda: OmegaConf.from_dotlist(overrides))


def _parsed(where: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
    message = lines[0] if lines else type(error).__name__
    return f"{key}: {message}" if key and key not in message else message


def to_plain(config: Any) -> dict[str, Any]:
    """Return dataclasses as nested dictionaries."""
    return dataclasses.asdict(config)


def to_yaml(config: RunConfig) -> str:
    """Return the resolved configuration, loadable again."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))
