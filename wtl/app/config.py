"""One frozen dataclass for a run, composed of the configs that live above the classes they configure.

`wtl.app.reading` turns YAML and `key=value` into it. Each method's section is read as its own dataclass, so methods
from outside are configured like those of this package, and every mistake is one sentence before anything is written.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from wtl.app.reading import made, read, read_fields, read_overrides, section
from wtl.app.trees import ConfigError, Tree, expanded, merged, read_file, to_text
from wtl.core.bounds import Between, Bounded, Listed, Seed, Text, shown
from wtl.core.task import Regime
from wtl.methods.checkpoint import method_name
from wtl.methods.registry import METHODS, find_method, known_methods
from wtl.play.protocol import ProtocolConfig
from wtl.stages.demonstrations import DemonstrationsConfig
from wtl.stages.evaluate import EvaluationConfig
from wtl.stages.graded import GradedConfig
from wtl.stages.trials import TrialsConfig

PACKAGE = Path(__file__).parents[1]
PRESETS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
"""Inside the package where it was installed from a wheel, beside it in a checkout."""
PRETRAINED = PACKAGE / "pretrained"


Goals = Annotated[int, Between(2, 100_000)]
"""Tasks of a family: a demonstration is never of the identical task, so one task alone has none."""
GoalsOrNone = Annotated[int, Between(0, 100_000)]
"""The same where none may be asked for."""


@dataclass(frozen=True)
class TasksConfig(Bounded):
    """Which task families there are, and how many tasks of each."""

    benchmark: Annotated[str, Text("the name of a benchmark", r".+")] = "ML1"
    """`toy`, `ML1`, `ML10`, `ML25`, `ML45`, `custom`, the name of an entry point in the group `wtl.tasks`, or a
    function of one's own as `package.module:function` (see `tasks/__init__.py`)."""
    family: str = "reach-v3"
    """The one family of ML1."""
    train: Annotated[tuple[str, ...], Listed()] = ()
    """Training families of a custom split."""
    test: Annotated[tuple[str, ...], Listed()] = ()
    """Test families of a custom split."""
    seed: Seed = 1
    """Meta-World's own seed for the official tasks."""
    goals_per_family: GoalsOrNone = 50
    """Training goals; 50 is the benchmark, more departs from it and is recorded in every result. 0 draws none: enough
    where nothing is trained, and Meta-World's 45 training families take ten seconds to draw."""
    validation_goals_per_family: GoalsOrNone = 10
    """New goals of the training families, to watch training and to choose by; never the test goals. 0 draws none."""
    test_goals_per_family: Goals = 50
    """Test goals, at most 50 on Meta-World."""
    goals_per_start: Annotated[int, Between(1, 100_000)] = 1
    """Fresh goals that share one start, so that the start cannot be memorised as the name of the goal."""
    procedural_families: Annotated[int, Between(0, 10_000)] = 0
    """Procedurally generated families (`tasks/procedural/`) beside Meta-World's in training, where Meta-World's
    together weigh as much as they do."""
    tasks_per_procedural_family: Goals = 4
    """Training tasks of each of them."""
    hidden_goal_weight: Annotated[int, Between(1, 1000)] = 1
    """How many families a family with a hidden goal counts as in training: where trials are shared out among
    families, and where training batches draw them."""
    fast: bool = True
    """Accelerated stepping of Meta-World, bit-identical to its own; false steps the stock way."""
    reward_version: Literal["v1", "v2"] = "v2"
    """Meta-World's reward functions; published scores differ by tens of points between the two."""
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of a benchmark of one's own, handed to its function as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("goals_per_family", "validation_goals_per_family"):
            if getattr(self, name) == 1:  # a demonstration is never of the identical task
                raise ValueError(f"tasks.{name} must be 0 or at least 2, got 1")


@dataclass(frozen=True)
class RunConfig(Bounded):
    """Everything of `wtl run`, resolved and saved with the run."""

    directory: Annotated[str, Text("the path of a folder", r".+", is_path=True)] = "runs/unnamed"
    """Where everything is written."""
    seed: Seed = 0
    """The seed of collection, training and everything else but Meta-World's own tasks."""
    evaluation_seed: Seed = 1000
    """The seed of the entries, so that runs with different training seeds are compared on the same ones."""
    workers: Annotated[int, Between(0, 4096)] = 0
    """Processes; 0 means one a core. The outcome does not depend on it."""
    executor: Literal["local", "serial", "ray"] = "local"
    """Who collects and evaluates: the cores of this machine, this process alone, or a Ray cluster (`make ray`),
    for which `directory` must be on a file system that all nodes share. The outcome does not depend on it."""
    regime: Regime = "family"
    """What the demonstration shares with the task: `goal`, `family`, or there is `none`."""
    method: Annotated[str, Text("the name of a method", r".+")] = METHODS[0].name
    """Whose curve is measured: a name of `wtl methods`, or package.module:SPEC."""
    checkpoint: Annotated[str, Text("the folder or the name of a trained method, or empty", is_path=True)] = ""
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
    graded: GradedConfig = field(default_factory=GradedConfig)
    """Episodes from random to expert, for the methods that learn from such; `wtl graded` makes them alone."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """What is evaluated."""
    video: Literal["auto", "camera", "sketch"] = "auto"
    """The simulator's camera, a sketch, or the camera where it works."""

    def __post_init__(self) -> None:
        """Find mistakes before anything is written."""
        super().__post_init__()
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


def checkpoint_directory(name: str) -> Path:
    """Return the folder of a trained method. Raises ConfigError if there is none."""
    for candidate in (Path(name), PRETRAINED / name):
        if os.path.isfile(candidate / "method.json"):
            return candidate
    known = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob("*/method.json")))
    raise ConfigError(
        f"checkpoint: there is no trained method in {shown(name)}; give the folder of one, or one of {known}"
    )


def preset_path(name: str) -> Path:
    """Return the YAML file of this name: a file, a run directory (its own resolved configuration) or a preset.

    Raises:
        ConfigError: none of these; the message names the presets.
    """
    for candidate in (Path(name), Path(name) / "config.yaml", PRESETS / f"{name}.yaml", PRESETS / name):
        if os.path.isfile(candidate):  # unlike Path.is_file, it takes a name that no file can have
            return candidate
    known = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml") if not path.stem.startswith("_")))
    raise ConfigError(
        f"there is no configuration {shown(name)}; give a YAML file, a run directory or one of the presets {known}"
    )


def run_directory_of(path: Path) -> Path | None:
    """Return the run directory whose resolved configuration a file is; None for any other file."""
    directory = path.parent
    begun = any(os.path.isfile(directory / stage / "settings.json") for stage in ("demonstrations", "evaluation"))
    return directory if path.name == "config.yaml" and begun else None


def load_config(name: str, overrides: list[str]) -> RunConfig:
    """Return the configuration: defaults, then the YAML file, then `key=value` overrides.

    A run directory is run where it lies, wherever it was when it was made.

    Raises:
        ConfigError: a key that does not exist, a value of the wrong type or out of range, a bad file.
    """
    path = preset_path(expanded(name, "CONFIG"))
    content = read_file(path)
    directory = run_directory_of(path)
    if directory is not None:
        content.pop("directory", None)
    given = merged(content, read_overrides(overrides, RunConfig))
    sections = section(given.pop("methods", {}), "methods")
    fields = made(lambda: read_fields(RunConfig, given, RunConfig(), ""), "")
    if directory is not None:
        fields.setdefault("directory", str(directory))
    return made(lambda: _with_methods(fields, sections, overrides), "")


def _with_methods(fields: Mapping[str, Any], sections: Mapping[str, Tree], overrides: list[str]) -> RunConfig:
    """Return the run with each method's section read as that method's own configuration."""
    config = {"method": RunConfig.method, "checkpoint": "", "evaluation": EvaluationConfig(), **fields}
    if config["checkpoint"]:  # a checkpoint knows what it is
        config["method"] = _method_of(config["checkpoint"], config["method"], overrides)
    asked = [find_method(name) for name in dict.fromkeys([config["method"], *config["evaluation"].methods])]
    specs = {spec.name: spec for spec in (*known_methods().values(), *asked)}
    for name in sections:
        if name not in specs:
            raise ConfigError(f"methods.{name}: unknown method; known are {', '.join(specs)}")
    settings = {
        name: read(spec.config, sections.get(name, {}), None, f"methods.{name}")
        for name, spec in specs.items()
        if name in sections or spec in asked
    }
    return RunConfig(**config, methods=settings)


def _method_of(checkpoint: str, asked: str, overrides: list[str]) -> str:
    """Return the name or address of the method of a checkpoint; an address has to be given by the configuration."""
    name = method_name(checkpoint_directory(checkpoint))
    if any(override.startswith("method=") for override in overrides) and find_method(asked).name != name:
        raise ConfigError(
            f"checkpoint: {checkpoint} is of method {name!r}, and method={asked} was asked for; leave `method` out, or "
            "give a checkpoint of that method"
        )
    if name in known_methods():
        return name
    if find_method(asked).name == name:
        return asked
    raise ConfigError(f"checkpoint: {checkpoint} is of method {name!r}, which is not installed; set method=MODULE:SPEC")


def to_plain(config: Any) -> dict[str, Any]:
    """Return dataclasses as nested dictionaries."""
    return dataclasses.asdict(config)


def to_yaml(config: RunConfig) -> str:
    """Return the resolved configuration, loadable again."""
    return to_text(to_plain(config))
