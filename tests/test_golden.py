"""Golden files, made before the house was rebuilt (commit 39a6208): the same networks give the same numbers.

They cover a whole numeric path: collection, batches, trainings, acting and evaluation on the toy families, and the
shipped checkpoint on ML45's held-out families (slow). Floats are compared with a tolerance, for other processors.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ToyRun

from wtl.data.store import EpisodeStore

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = {
    "demos": "demonstrations", "trial": "imitation/trial", "trials-0": "imitation/trials-0",
    "retrial-0": "imitation/retrial-0", "trials-1": "imitation/trials-1", "retrial-1": "imitation/retrial-1",
    "cloning": "cloning/train", "mil": "mil/train",
}  # fmt: skip
"""The folders of stages then and now."""
DRAWN_ANEW = ("shuffled_trial",)
"""Its partner was drawn when work was cut, and is drawn when entries are made."""


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN / "toy.json").read_text())


@pytest.mark.parametrize("stage", ["trial", "retrial-0", "retrial-1", "cloning", "mil"])
def test_losses_are_those_of_before(stage: str, golden: dict[str, Any], toy_run: ToyRun) -> None:
    with (toy_run.root / FOLDERS[stage] / "losses.csv").open() as file:
        now = list(csv.DictReader(file))
    before = golden["losses"][stage]
    assert [float(line["step"]) for line in now] == [line["step"] for line in before]
    for name, then in (("total", "total"), ("action", "action"), ("goal", "belief")):
        for line, old in zip(now, before, strict=True):
            assert (line[name] == "") == (old[then] is None)
            if line[name]:
                assert float(line[name]) == pytest.approx(old[then], rel=1e-4, abs=1e-5), (stage, name, line["step"])


@pytest.mark.parametrize("stage", ["demos", "trials-0", "trials-1"])
def test_episodes_are_those_of_before(stage: str, golden: dict[str, Any], toy_run: ToyRun) -> None:
    episodes, before = list(EpisodeStore(toy_run.root / FOLDERS[stage])), golden["episodes"][stage]
    assert [e.task.name for e in episodes] == before["tasks"]
    assert [e.seed for e in episodes] == before["seeds"]
    assert [e.attempt for e in episodes] == before["attempts"]
    assert sum(len(e.trajectory) for e in episodes) == before["steps"]
    returns = [float(e.trajectory.rewards.sum(dtype=np.float64)) for e in episodes]
    np.testing.assert_allclose(returns, before["returns"], atol=2e-3)
    ends = np.array([e.trajectory.observations[-1][:2] for e in episodes])
    np.testing.assert_allclose(ends, before["last_observations"], atol=2e-3)


def test_evaluation_is_that_of_before(golden: dict[str, Any], toy_run: ToyRun) -> None:
    with (toy_run.root / "evaluation" / "episodes.csv").open() as file:
        rows = {_key(row): row for row in csv.DictReader(file)}
    before = {_key(row): row for row in golden["evaluation"]}
    assert rows.keys() == before.keys()
    for key, row in rows.items():
        if row["control"] not in DRAWN_ANEW:
            assert (row["success"], row["steps"]) == (before[key]["success"], before[key]["steps"]), key
            assert float(row["return"]) == pytest.approx(before[key]["return"], abs=2e-3), key


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    names = ("control", "task", "demonstration", "seed", "attempt")
    return ({"wtl": "imitation"}.get(row["method"], row["method"]), *(str(row[name]) for name in names))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_checkpoint_plays_as_before(tmp_path: Path) -> None:
    """Every row of `wtl evaluate pretrained`: the same success after the same number of steps."""
    command = [sys.executable, "-m", "wtl", "evaluate", "pretrained", f"directory={tmp_path / 'run'}"]
    command += ["protocol.starts=repeated", "video=sketch"]
    subprocess.run(command, check=True, capture_output=True, timeout=800)

    def read(path: Path) -> list[tuple[str, ...]]:
        names = ("method", "task", "attempt", "success", "steps")
        with path.open() as file:
            return sorted(tuple(row[name] for name in names) for row in csv.DictReader(file))

    assert read(tmp_path / "run" / "evaluation" / "episodes.csv") == read(GOLDEN / "pretrained.csv")
