"""Graded episodes: who plays what, what each episode says of itself, and how a phase comes by them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from players import make_directions
from strategies import TOY
from torch import nn
from typer.testing import CliRunner

from wtl.app.checks import check_plan
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.app.plan import Plan
from wtl.cli import app
from wtl.compute.executor import LocalExecutor, SerialExecutor
from wtl.core.task import FamilySpec, Regime
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.exchange import export_episodes
from wtl.data.grades import EXPERT, Best, Grade, everything, grade_of, is_graded, summarise
from wtl.data.meta_batches import Batch, BatchConfig, Needs
from wtl.data.store import EpisodeStore
from wtl.methods.learner import Losses, TrainConfig
from wtl.methods.spec import MethodSpec, Phase, Reads
from wtl.play.open_loop import Recorded
from wtl.play.policy import FromContext
from wtl.play.protocol import ProtocolConfig
from wtl.stages.demonstrations import DemonstrationsConfig, DemonstrationStage
from wtl.stages.graded import GradedConfig, GradedPlayer, GradedStage, episodes_per_task, graded_tasks
from wtl.tasks import make_distribution

SMALL = make_distribution("toy", seed=1, goals_per_family=5, validation_goals_per_family=2, test_goals_per_family=1)
CONFIG = GradedConfig(tasks_per_family=3, validation_tasks_per_family=2, noise=(0.0, 2.0), players=(), unit_tasks=2)
PROTOCOL = ProtocolConfig("redrawn", horizon_steps=10, after_success_steps=None)
DIRECTIONS = GradedPlayer("directions", make_directions, reads_trials=True)
EACH = 2 + 1 + 1 + 3
"""Two rungs, a wrong expert, a random one, and three attempts of the method that reads trials."""


def silent(*_: Any) -> None:
    """No progress bar."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> DemonstrationStore:
    directory = tmp_path_factory.mktemp("demonstrations")
    config = DemonstrationsConfig(splits=("train", "validation"), unit_episodes=50)
    DemonstrationStage(SMALL, config, "family", 0).collect(directory, SerialExecutor(), silent)
    return DemonstrationStore(directory, "family")


def graded(
    shown: DemonstrationStore, directory: Path, config: GradedConfig = CONFIG, executor: Any = None
) -> EpisodeStore:
    stage = GradedStage(SMALL, config, PROTOCOL, shown, 0)
    stage.collect((DIRECTIONS,), directory, executor or SerialExecutor(), silent)
    return EpisodeStore(directory)


def test_every_family_has_as_many_episodes_of_each_grade(shown: DemonstrationStore, tmp_path: Path) -> None:
    episodes = list(graded(shown, tmp_path))
    assert episodes_per_task(CONFIG, (DIRECTIONS,)) == EACH
    assert Counter(e.task.family for e in episodes) == dict.fromkeys(TOY, 5 * EACH)
    assert set(Counter(e.task.name for e in episodes).values()) == {EACH}
    assert {e.task.name for e in episodes} == {task.name for task in graded_tasks(SMALL, CONFIG, 0)}
    for family in TOY:
        grades = Counter((grade_of(e), e.attempt) for e in episodes if e.task.family == family)
        ladder = {(Grade(EXPERT, 0.0), 0), (Grade(EXPERT, 2.0), 0)}
        others = {(Grade("wrong_goal"), 0), (Grade("random"), 0), *((Grade("directions"), k) for k in range(3))}
        assert grades == dict.fromkeys(ladder | others, 5)
    assert {e.role for e in episodes} == {"trial"} and len({(e.seed, e.task.name) for e in episodes}) == len(episodes)
    assert {len(e.trajectory) for e in episodes} == {10}  # the whole horizon, as the protocol says
    assert all(np.isnan(e.expert_actions).all() for e in episodes)


def test_returns_fall_along_the_ladder(shown: DemonstrationStore, tmp_path: Path) -> None:
    config = replace(CONFIG, noise=(0.0, 0.5, 2.0))
    lines = {line.grade: line for line in summarise(graded(shown, tmp_path, config))}
    ladder = [lines[Grade(EXPERT, noise)].mean_return for noise in config.noise]
    assert ladder == sorted(ladder, reverse=True)
    assert ladder[0] - max(ladder[2], lines[Grade("random")].mean_return) > 0.3


def test_content_depends_neither_on_how_work_is_cut_nor_on_workers(shown: DemonstrationStore, tmp_path: Path) -> None:
    def content(store: EpisodeStore) -> dict[Any, Any]:
        keys = [(e.task.name, grade_of(e), e.attempt) for e in store]
        return dict(zip(keys, [e.trajectory.observations.tobytes() for e in store], strict=True))

    executor = LocalExecutor(2)
    try:
        first = content(graded(shown, tmp_path / "1", executor=executor))
    finally:
        executor.close()
    assert first == content(graded(shown, tmp_path / "2", replace(CONFIG, unit_tasks=50)))


def test_the_wrong_expert_does_what_was_done_for_another_goal(shown: DemonstrationStore, tmp_path: Path) -> None:
    demonstrations = list(shown.episodes)
    for episode in graded(shown, tmp_path):
        if grade_of(episode).player == "wrong_goal":
            done = episode.trajectory.actions
            same = [
                d.task for d in demonstrations if np.array_equal(d.trajectory.actions[: len(done)],
                                                                 done[: len(d.trajectory)])
            ]  # fmt: skip
            assert same and all(task.goal_name != episode.task.goal_name for task in same)
            assert {(task.family, task.split) for task in same} == {(episode.task.family, episode.task.split)}


def test_the_best_are_chosen_family_by_family(shown: DemonstrationStore, tmp_path: Path) -> None:
    episodes = list(graded(shown, tmp_path))
    assert all(is_graded(e) for e in episodes) and not any(is_graded(e) for e in shown.episodes)
    best = Best(0.2)(episodes)
    assert [episode for episode in episodes if episode in best] == best
    for family in TOY:
        own = [e.trajectory.rewards.sum() for e in episodes if e.task.family == family]
        kept = [e.trajectory.rewards.sum() for e in best if e.task.family == family]
        assert len(own) == 35 and sorted(kept) == sorted(own)[-7:]


def test_grades_go_along_with_an_export(shown: DemonstrationStore, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    store = graded(shown, tmp_path / "store")
    export_episodes(store.directory, tmp_path / "graded.parquet")
    table = parquet.read_table(tmp_path / "graded.parquet")
    sources = Counter(table.column("source").to_pylist())
    assert sources == {
        **dict.fromkeys(["expert, noise 0", "expert, noise 2", "wrong_goal", "random"], 10),
        "directions": 30,
    }
    assert len(set(table.column("seed").to_pylist())) == len(store)


def test_mistakes_are_one_sentence(shown: DemonstrationStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody is to play"):
        GradedConfig(noise=(), wrong_goal=0, random=0, players=())
    with pytest.raises(ValueError, match="not graded"):
        grade_of(shown.episodes.episode(0))
    with pytest.raises(ValueError, match="1 recordings for 0 episodes"):
        Recorded([np.zeros((1, 2))], "me").policy(type("Attempt", (), {"sessions": ()})())
    plan = Plan(load_config("toy", tiny(tmp_path, "graded.players=[cloning]")))
    with pytest.raises(ValueError, match="cloning would have to be trained"):
        plan.graded_players()
    plan = Plan(load_config("toy", tiny(tmp_path, "regime=none", "graded.players=[nearest_neighbour]")))
    with pytest.raises(ValueError, match="needs a demonstration, and regime `none` shows none"):
        plan.graded_players()
    plan = Plan(load_config("toy", tiny(tmp_path, "graded.players=[nobody]")))
    with pytest.raises(ValueError, match="no trained method in 'nobody'"):
        plan.graded_players()


# A method that reads them: it says so in its phase, and nothing else anywhere knows.


@dataclass(frozen=True)
class ReaderConfig:
    """Nothing but a training."""

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=3, warmup_steps=1, validation_batches=1, batch=BatchConfig(contexts=4, queries=4, trial_queries=1.0)
        )
    )
    """Three steps."""


class Reader(nn.Module):
    """One number; it remembers the returns that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    @property
    def network(self) -> nn.Module:
        return self

    compiles = False

    def fit_features(self, observations_NO: Any) -> None:
        """There are none."""

    def loss(self, batch: Batch) -> Losses:
        assert batch.context is not None and batch.context.trials is not None
        return Losses((self.weight - batch.returns_to_go_BQ).square().mean())


class Standing:
    """A method that stands still."""

    source = "reader"

    def adapt(self, contexts: Any, seeds: Any) -> Any:
        return self

    def act(self, step: Any) -> np.ndarray:
        return np.zeros((len(step.rows), 2))


def phases(config: ReaderConfig, regime: Regime) -> tuple[Phase, ...]:
    return (Phase("train", "policy", config.train, Needs(trials=(2, 2), frames=4), {}, graded=everything),)


def player(config: ReaderConfig, spec: FamilySpec, networks: Any, source: str) -> Any:
    return FromContext(Standing())  # type: ignore[arg-type]


READER = MethodSpec(
    name="reader",
    summary="Reads graded episodes.",
    config=ReaderConfig,
    player=player,
    reads=Reads("optional"),
    network=lambda config, spec, part: Reader(),
    learner=lambda config, spec, part, network: network,  # type: ignore[arg-type, return-value]
    phases=phases,
)

FEW = ("graded={tasks_per_family: 3, validation_tasks_per_family: 2, noise: [0, 1], players: [nearest_neighbour]}",)


def test_a_phase_reads_graded_episodes_by_saying_so(tmp_path: Path) -> None:
    config = load_config("toy", tiny(tmp_path, *FEW, "method=test_graded:READER", "evaluation.methods=[]"))
    pipeline = Pipeline(config)
    assert [step.name for step in pipeline.steps()] == ["demonstrations", "graded", "reader/train", "evaluation"]
    pipeline.run()
    assert all(step.stage.finished() for step in pipeline.steps())
    assert len(EpisodeStore(tmp_path / "graded")) == 2 * 5 * 5
    other = Plan(load_config("toy", tiny(tmp_path, *FEW, "method=test_graded:READER", "graded.random=2")))
    with pytest.raises(ValueError, match=r"graded\.random was 1 and is 2"):
        other.graded.finished()


def test_a_run_without_such_a_phase_has_no_graded_episodes(tmp_path: Path) -> None:
    plain = Plan(load_config("toy", tiny(tmp_path)))
    assert not plain.reads_graded
    assert plain.configuration == Plan(load_config("toy", tiny(tmp_path, "graded.random=7"))).configuration


def test_too_few_graded_episodes_for_the_contexts_show_before_the_first_stage(tmp_path: Path) -> None:
    overrides = ("method=test_graded:READER", "graded={noise: [0], wrong_goal: 0, random: 0, players: []}")
    with pytest.raises(ValueError, match="reads up to 2 trials of a task, and of no train task are more than 1 played"):
        check_plan(Plan(load_config("toy", tiny(tmp_path, "evaluation.methods=[]", *overrides))))


def test_one_command_makes_them_alone(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["graded", "toy", *tiny(tmp_path, *FEW)])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["demonstrations", "graded"]
    for word in ("expert, noise 1", "wrong_goal", "random", "nearest_neighbour"):
        assert word in done.output
