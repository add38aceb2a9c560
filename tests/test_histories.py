"""Attempt histories: an evaluation that keeps its episodes, and what comes out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from players import make_directions
from strategies import make_episode, make_task, same_trajectory

from tasks import make_distribution
from wtl.analysis.results import read_results
from wtl.compute.executor import SerialExecutor
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.exchange import export_histories
from wtl.data.histories import count_controls, read_histories
from wtl.data.store import EpisodeStore, StoreError, write_store
from wtl.play.protocol import ProtocolConfig
from wtl.stages.demonstrations import DemonstrationsConfig, DemonstrationStage
from wtl.stages.evaluate import Contestant, EvaluationConfig, EvaluationStage

TASKS = make_distribution("toy", seed=1, goals_per_family=2, validation_goals_per_family=2, test_goals_per_family=3)
PROTOCOL = ProtocolConfig("redrawn", horizon_steps=12)
CONTESTANTS = (
    Contestant("directions", "", make_directions, reads_trials=True),
    Contestant("other", "other", make_directions, reads_trials=False),
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> EvaluationStage:
    """An evaluation of six entries that keeps its episodes."""
    directory = tmp_path_factory.mktemp("demonstrations")
    settings = DemonstrationsConfig(splits=("test",))
    DemonstrationStage(TASKS, settings, "family", 0).collect(directory, SerialExecutor(), lambda *_: None)
    store = DemonstrationStore(directory, "family")
    config = EvaluationConfig(
        controls=("blind_retry",), control_attempt=2, entries_per_task=1, unit_entries=2, keep_episodes=True
    )
    return EvaluationStage(TASKS, config, PROTOCOL, store, "family", train_seed=0, seed=5)


@pytest.fixture(scope="module")
def run(stage: EvaluationStage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the evaluation in it."""
    root = tmp_path_factory.mktemp("run")
    stage.evaluate(CONTESTANTS, root / "evaluation", SerialExecutor(), lambda *_: None)
    return root


def test_keeping_episodes_changes_no_result(stage: EvaluationStage, run: Path, tmp_path: Path) -> None:
    other = replace(stage, config=replace(stage.config, keep_episodes=False))
    other.evaluate(CONTESTANTS, tmp_path, SerialExecutor(), lambda *_: None)
    assert not (tmp_path / "episodes").exists()
    for name in ("episodes.csv", "entries.json", "families.json"):
        assert (tmp_path / name).read_bytes() == (run / "evaluation" / name).read_bytes()


def test_every_row_has_its_episode(run: Path) -> None:
    rows = read_results(run / "evaluation/episodes.csv")
    kept = {}
    for episode in EpisodeStore(run / "evaluation/episodes"):
        part = {n: episode.trajectory.extras[n].item() for n in ("method", "control", "attempt", "entry_seed")}
        if episode.role == "trial":
            kept[(episode.task.name, *part.values())] = episode.trajectory
    assert len(rows) == len(kept) == 6 * (3 + 1 + 1)
    for row in rows:
        t = kept[(row.task, row.method, row.control, row.attempt, row.seed)]
        assert (row.success, row.steps, row.total_reward) == (t.success, len(t), float(t.rewards.sum(dtype=np.float64)))


def test_a_history_is_what_a_method_was_shown_and_then_tried(stage: EvaluationStage, run: Path) -> None:
    store = EpisodeStore(run / "evaluation/episodes")
    histories = list(read_histories(store))
    assert len(histories) == 12 and count_controls(store) == 6
    sessions = {(s.task.name, s.seed): s for s in stage.entries()}
    for history in histories:
        session = sessions[(history.task.name, history.seed)]
        [shown], [own] = session.demonstrations, history.demonstrations
        assert same_trajectory(replace(own.trajectory, extras={}), shown.trajectory) and own.task == shown.task
        assert [int(e.trajectory.extras["attempt"]) for e in history.attempts] == (
            [0, 1, 2] if history.method == "directions" else [0]
        )
        assert (history.protocol, history.policy) == (PROTOCOL.name, "directions")


def test_episodes_that_were_lost_are_played_again_and_the_same(stage: EvaluationStage, tmp_path: Path) -> None:
    def evaluated() -> dict[str, bytes]:
        stage.evaluate(CONTESTANTS, tmp_path, SerialExecutor(), lambda *_: None)
        return {str(p.relative_to(tmp_path)): p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}

    first = evaluated()
    (tmp_path / "episodes/shard-00001.safetensors").unlink()
    assert evaluated() == first


def test_histories_are_one_row_each_in_parquet(run: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    done = export_histories(run, tmp_path / "histories.parquet")
    assert (done.count, done.notes) == (12, ("6 episodes of controls stand in no history",))
    rows = pq.read_table(tmp_path / "histories.parquet").to_pylist()
    for row, history in zip(rows, read_histories(EpisodeStore(run / "evaluation/episodes")), strict=True):
        assert (row["task"], row["method"], row["policy"]) == (history.task.name, history.method, history.policy)
        assert (row["seed"], row["protocol"]) == (history.seed, PROTOCOL.name)
        for name, told in (("demonstrations", history.demonstrations), ("attempts", history.attempts)):
            assert len(row[name]) == len(told)
            for found, episode in zip(row[name], told, strict=True):
                assert (found["task"], found["success"]) == (episode.task.name, episode.trajectory.success)
                for field in ("observations", "actions", "rewards"):
                    array = getattr(episode.trajectory, field)
                    assert np.array(found[field], array.dtype).tobytes() == array.tobytes()


def test_a_run_that_kept_nothing_says_how_to_keep(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kept no episodes of its evaluation; evaluate with evaluation.keep_episodes"):
        export_histories(tmp_path, tmp_path / "histories.parquet")
    with pytest.raises(ValueError, match="attempt histories are written as parquet: name a file .parquet, got h.hdf5"):
        export_histories(tmp_path, tmp_path / "h.hdf5")
    write_store(tmp_path / "store", [make_episode(make_task("a"))])
    with pytest.raises(StoreError, match="holds episodes of no evaluation, so it has no attempt histories"):
        list(read_histories(EpisodeStore(tmp_path / "store")))
