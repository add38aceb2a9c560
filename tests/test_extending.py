"""Nobody has to fork: a method, a control, a context field, a task family and a policy from a folder of one's own."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_everything

from wtl.analysis.results import read_results
from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.methods import drex, ladder, returns
from wtl.methods.registry import METHODS

ROOT = Path(__file__).parent.parent

MINE = '''
"""Everything that a newcomer may want to bring, in one file outside the package."""

from dataclasses import asdict, dataclass, field, replace

import gymnasium
import numpy as np
import torch
from torch import nn

from wtl.core.task import FamilySpec, ObservationLayout, Task, TaskDistribution
from wtl.data.meta_batches import BatchConfig, Needs
from wtl.methods.learner import Losses, TrainConfig
from wtl.methods.spec import Collection, MethodSpec, Phase, Reads
from wtl.methods.wrapped import wrap_policy
from wtl.play.policy import FromContext
from wtl.stages.controls import Control


# A task family: walk along a line to a hidden place; the reward says how near it is.

class Line(gymnasium.Env):
    def reset(self, *, seed=None, options=None):
        self.x, self.goal = options["task"].parameters
        return np.array([self.x]), {}

    def step(self, action):
        self.x += 0.2 * float(action[0])
        away = abs(self.x - self.goal)
        return np.array([self.x]), 1.0 - away, False, False, {"success": away < 0.1}


@dataclass(frozen=True)
class LineFamily:
    name: str

    @property
    def spec(self):
        return FamilySpec(self.name, ObservationLayout(1, 1, (0,), hand_step=0.2), 1, 10, 1, True, 1.0)

    def make_environment(self, render=False):
        return Line()

    def sample_tasks(self, count, seed, split):
        draws = np.random.default_rng([seed, len(split), len(self.name)]).uniform(-1, 1, (count, 2))
        names = [f"{self.name}/{split}/{i}" for i in range(count)]
        return tuple(Task(self.name, split, n, (float(a), float(b)), n) for n, (a, b) in zip(names, draws))

    def with_other_start(self, task, seed):
        return replace(task, name=task.name + "/other", parameters=(0.5, task.parameters[1]))

    def goal(self, environment):
        return np.array([environment.goal])

    def expert_action(self, environment):
        return np.clip([(environment.goal - environment.x) / 0.2], -1, 1)


def benchmark(*, seed, goals_per_family, validation_goals_per_family, test_goals_per_family, options, **_):
    families = {name: LineFamily(name) for name in options["names"]}

    def tasks(count, split):
        return tuple(t for family in families.values() for t in family.sample_tasks(count, seed, split))

    return TaskDistribution(
        families, tasks(goals_per_family, "train"), tasks(validation_goals_per_family, "validation"),
        tasks(test_goals_per_family, "test"),
    )


# A field of the context: which side the goal is on.

def side(task, context):
    return replace(context, extras={**context.extras, "side": float(np.sign(task.parameters[1]))})


# A trained method that reads it, the newest trial's best place, and windows of past steps.

@dataclass(frozen=True)
class MineConfig:
    width: int = 16
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=20, warmup_steps=1, validate_every_steps=10,
            checkpoint_every_steps=10, log_every_steps=5, validation_batches=1, batch=BatchConfig(8, 4)))


class Net(nn.Module):
    def __init__(self, width, size):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(size + 1, width), nn.GELU(), nn.Linear(width, 1), nn.Tanh())

    def forward(self, observations, side):
        return self.layers(torch.cat([observations, side], dim=-1))


@dataclass(frozen=True)
class MineLearner:
    network: Net
    compiles: bool = False

    def fit_features(self, observations_NO):
        pass

    def loss(self, batch):
        assert batch.windows.observations_BQWO.shape[2] == 3 and batch.context is not None
        known = torch.tensor([context.extras["side"] for context in batch.known])
        side = known[:, None, None].expand(*batch.observations_BQO.shape[:2], 1)
        error = (self.network(batch.observations_BQO, side) - batch.expert_actions_BQA).square().mean()
        return Losses(error, error)


@dataclass(frozen=True)
class Mine:
    network: Net
    source: str

    def adapt(self, contexts, seeds):
        sides = torch.tensor([context.extras["side"] for context in contexts])
        return MinePolicy(self.network, sides)


@dataclass(frozen=True)
class MinePolicy:
    network: Net
    sides: torch.Tensor

    @torch.inference_mode()
    def act(self, step):
        sides = self.sides[torch.from_numpy(step.rows)][:, None]
        return self.network(torch.tensor(step.observations, dtype=torch.float32), sides).double().numpy()


def phases(config, regime):
    needs = Needs(trials=(1, 1), frames=4, window_steps=3, sources=(side,))
    collection = Collection(0, retries=False, labelled=True, player=None)
    first = Phase("watch", "net", config.train, replace(needs, trials=(0, 0)), asdict(config))
    return (first, Phase("read", "net", config.train, needs, asdict(config), collection, start_from="net"))


SPEC = MethodSpec(
    "mine", "A method from outside.", MineConfig,
    player=lambda config, family, networks, source: FromContext(Mine(networks["net"], source)),
    reads=Reads(demonstrations="optional", trials=True),
    network=lambda config, family, part: Net(config.width, family.layout.size),
    learner=lambda config, family, part, network: MineLearner(network),
    phases=phases,
    sources=(side,),
)

# A control, which must keep the field that it has never heard of, and a policy of one's own.

CONTROL = Control(
    "half_trial", "Does it need the end of its trial?",
    lambda context, entry, other: context.with_trials(
        lambda t: replace(t, observations=t.observations[: len(t) // 2 + 1], actions=t.actions[: len(t) // 2],
                          rewards=t.rewards[: len(t) // 2], successes=t.successes[: len(t) // 2])),
)


class Still:
    def act(self, observations):
        return np.zeros((len(observations), 1))


STILL = wrap_policy("still", Still)
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder outside the package that can be imported from."""
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "newcomer.py").write_text(MINE)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("newcomer", None)


def test_everything_from_outside_runs_through_the_whole_pipeline(mine: Path, tmp_path: Path) -> None:
    config = load_config(
        "toy",
        [
            "method=newcomer:SPEC", "methods={mine: {width: 8}}", "tasks.benchmark=newcomer:benchmark",
            "tasks={goals_per_family: 6, validation_goals_per_family: 3, test_goals_per_family: 4}",
            "tasks.options={names: [line-a, line-b]}", "protocol.horizon_steps=10", "trials.horizons_steps=[10]",
            "evaluation={controls: [blind_retry, shuffled_trial, newcomer:CONTROL], methods: [newcomer:STILL, expert]}",
            "executor=serial", "video=sketch", f"directory={tmp_path / 'run'}",
        ],
    )  # fmt: skip
    run_everything(config)
    rows = read_results(tmp_path / "run" / "evaluation" / "episodes.csv")
    curves = {(row.method, row.control) for row in rows}
    assert curves == {
        ("mine", ""), ("mine", "blind_retry"), ("mine", "shuffled_trial"), ("mine", "half_trial"), ("still", ""),
        ("expert", ""),
    }  # fmt: skip
    assert {row.attempt for row in rows if row.method == "mine" and not row.control} == {0, 1, 2}
    assert {row.family for row in rows} == {"line-a", "line-b"}
    assert all(row.success for row in rows if row.method == "expert")
    assert Plan(config).main.config.width == 8
    for file in ("method.json", "weights.safetensors"):
        assert (tmp_path / "run" / "mine" / "read" / "checkpoint" / file).is_file()


def test_a_checkpoint_of_a_method_from_outside_is_evaluated_by_its_address(mine: Path, tmp_path: Path) -> None:
    from wtl.methods.checkpoint import save_checkpoint
    from wtl.methods.registry import find_method

    spec = find_method("newcomer:SPEC")
    sys.modules["newcomer"].LineFamily("line").spec  # noqa: B018 - the module can be imported
    family = sys.modules["newcomer"].LineFamily("line").spec
    network = {"net": spec.network(spec.config(), family, "net")}  # type: ignore[misc]
    save_checkpoint(tmp_path / "mine", spec, spec.config(width=16), family, network)
    config = load_config("toy", [f"checkpoint={tmp_path / 'mine'}", "method=newcomer:SPEC"])
    assert config.method == "newcomer:SPEC"
    with pytest.raises(ValueError, match="is of method 'mine', which is not installed; set method=MODULE:SPEC"):
        load_config("toy", [f"checkpoint={tmp_path / 'mine'}"])


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """All strings of a file that are not docstrings or explanations of fields."""
    tree = ast.parse(path.read_text())
    explained = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explained:
            yield node.lineno, node.value


def classes_of_methods() -> set[str]:
    """The names of the classes that methods define, but for those of parts that methods share."""
    shared = {ROOT / "wtl/methods" / f"{name}.py" for name in ("spec", "registry", "checkpoint", "learner", "wrapped")}
    files = [p for p in (ROOT / "wtl/methods").rglob("*.py") if p not in shared and p.parent.name != "nn"]
    return {n.name for p in files for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ClassDef)}


def test_no_file_outside_the_methods_names_one_or_its_classes() -> None:
    names, classes = {spec.name for spec in METHODS}, classes_of_methods()
    assert "ImitationConfig" in classes and "trajectory_transfer" in names
    found = []
    for path in [*ROOT.glob("wtl/**/*.py"), *ROOT.glob("tasks/**/*.py")]:
        if ROOT / "wtl/methods" in path.parents:
            continue
        where = path.relative_to(ROOT)
        found += [f"{where}:{line} {text!r}" for line, text in texts(path) if text in names]
        used = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        found += [f"{where} uses {name}" for name in used & classes]
    assert not found


def test_methods_do_not_name_one_another() -> None:
    """Only the registry may; methods that share parts share a room."""
    of_transfer = {"trajectory_transfer", "learned_transfer", "transfer_told_goal", "transfer_blind_search"}
    rooms = {"transfer": of_transfer}
    rooms |= {r.__name__.split(".")[-1]: {spec.name for spec in r.SPECS} for r in (drex, ladder, returns)}
    names = {spec.name for spec in METHODS}
    rooms |= {name: {name} for name in names.difference(*rooms.values())}
    for room, own in rooms.items():
        folder = ROOT / "wtl/methods" / room
        for path in folder.glob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]:
            assert not [text for _, text in texts(path) if text in names - own], path
