"""Examples of the documentation that stand in no command of it: they run, and they are as short as they promise."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_everything

from wtl.analysis.results import read_results
from wtl.app.config import load_config
from wtl.core.task import TaskDistribution
from wtl.data.store import EpisodeStore
from wtl.stages.demonstrations import DemonstrationsConfig, demonstrate

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
COUNTS = "tasks={goals_per_family: 3, validation_goals_per_family: 2, test_goals_per_family: 2}"


def lines(name: str) -> list[str]:
    """The lines of an example but for its docstring, empty lines and comments."""
    text = (EXAMPLES / name).read_text().split('"""', 2)[2]
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def car(**counts: int) -> TaskDistribution:
    import my_environment  # type: ignore[import-not-found]

    return my_environment.build(seed=1, options={}, **counts)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Examples are imported as a user's own modules are."""
    monkeypatch.syspath_prepend(EXAMPLES)
    yield
    sys.modules.pop("my_environment", None)


def test_they_are_short() -> None:
    assert len(lines("my_environment.py")) <= 40
    assert len(lines("my_minari.py")) <= 3


def run(directory: Path, *more: str) -> Path:
    config = load_config(
        "toy",
        [
            "tasks.benchmark=my_environment:build", COUNTS, "method=nearest_neighbour", "protocol.horizon_steps=300",
            "executor=serial", "video=sketch", f"directory={directory}", *more,
        ],
    )  # fmt: skip
    run_everything(config)
    return directory


def test_a_gymnasium_environment_runs_from_nothing_to_its_report(tmp_path: Path) -> None:
    root = run(tmp_path / "run", "evaluation={methods: [expert], entries_per_task: 1}")
    rows = read_results(root / "evaluation/episodes.csv")
    assert {(row.method, row.family) for row in rows} == {("nearest_neighbour", "car"), ("expert", "car")}
    assert all(row.success for row in rows if row.method == "expert")


def test_demonstrations_of_a_minari_data_set_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    import gymnasium
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    family = car(goals_per_family=2, validation_goals_per_family=2, test_goals_per_family=2).families["car"]
    made = demonstrate(family, family.sample_tasks(10, 9, "train"), DemonstrationsConfig(), 0)
    (tmp_path / "minari/mine/car-v0").mkdir(parents=True)
    box = gymnasium.spaces.Box
    storage = MinariStorage.new(tmp_path / "minari/mine/car-v0/data", box(-2, 2, (2,)), box(-1, 1, (1,)))
    storage.update_metadata({"dataset_id": "mine/car-v0", "minari_version": minari.__version__})
    for t in (episode.trajectory for episode in made):
        over = np.arange(len(t)) == len(t) - 1
        buffer = EpisodeBuffer(None, None, None, t.observations, t.actions, t.rewards, over, over & False)
        storage.update_episodes([buffer])
    runpy.run_path(str(EXAMPLES / "my_minari.py"))
    store = EpisodeStore(tmp_path / "runs/my-demonstrations")
    assert len(store) == 10 and all(record.success for record in store.records)
    root = run(tmp_path / "run", "demonstrations.own=runs/my-demonstrations", "evaluation={methods: [], controls: []}")
    rows = read_results(root / "evaluation/episodes.csv")
    assert {row.demonstration for row in rows} <= {f"car/own/{i}" for i in range(10)}
