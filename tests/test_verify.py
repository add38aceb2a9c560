"""A table played again: it reproduces, it does not, or it is said why it cannot be played."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from conftest import TINY, ToyRun
from rich.console import Console

from wtl.app.verify import Verification, tables_of, verify

QUIET = Console(quiet=True)


def verified(path: Path, *overrides: str) -> Verification:
    [found] = verify(path, 1, list(overrides), QUIET)
    return found


def test_a_run_reproduces_and_nothing_in_it_is_touched(toy_run: ToyRun) -> None:
    before = {path: path.stat().st_mtime_ns for path in toy_run.root.rglob("*")}
    found = verified(toy_run.root)
    assert found.reproduces and not found.left_out and found.pairs["same_entry"].all()
    # One group of two entries of each of two families; three attempts, three controls, four methods of one attempt.
    assert len(found.pairs) == 2 * 2 * (3 + 3 + 4)
    assert "reproduces" in found.words and "NOT" not in found.words
    assert {path: path.stat().st_mtime_ns for path in toy_run.root.rglob("*")} == before


def committed(toy_run: ToyRun, folder: Path, turned: bool) -> Path:
    """A table with the configuration beside it, as in `experiments/`; with every success turned round, or not."""
    with (toy_run.root / "evaluation" / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["success"] = str(1 - int(row["success"])) if turned else row["success"]
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    checkpoint = toy_run.plan.checkpoint(toy_run.plan.main)
    (folder / "table.yaml").write_text(f"base: toy.yaml\ncheckpoint: {checkpoint}\n")
    shutil.copy(Path(__file__).parents[1] / "configs" / "toy.yaml", folder)
    return folder


@pytest.mark.parametrize("turned", [False, True])
def test_a_committed_table_is_played_from_the_configuration_beside_it(
    toy_run: ToyRun, tmp_path: Path, turned: bool
) -> None:
    found = verified(committed(toy_run, tmp_path, turned), *TINY)
    assert found.reproduces is not turned
    assert ("does NOT reproduce: 32 of 32 episodes" in found.words) == turned
    assert found.left_out == ("cloning", "mil")
    assert found.words in found.table().notes[0] and "cloning, mil" in found.table().notes[1]
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "table.yaml", "toy.yaml"}


def test_what_cannot_be_played_again_says_why(toy_run: ToyRun, tmp_path: Path) -> None:
    shutil.copy(toy_run.root / "evaluation" / "episodes.csv", tmp_path / "alone.csv")
    with pytest.raises(FileNotFoundError, match="alone.csv cannot be verified: expected a run directory"):
        tables_of(tmp_path / "alone.csv")
    with pytest.raises(FileNotFoundError, match="cannot be verified"):
        tables_of(tmp_path)
    folder = committed(toy_run, tmp_path, turned=False)
    with pytest.raises(ValueError, match="was not played under 'repeated starts, one walk"):
        verified(folder, *TINY, "protocol.walks=one")
    with pytest.raises(ValueError, match="holds no entry that its configuration would play"):
        verified(folder, *TINY, "evaluation_seed=7")
    (folder / "table.yaml").write_text("base: toy.yaml\n")
    with pytest.raises(ValueError, match="not trained here are imitation/trial, .*; name a checkpoint"):
        verified(folder, *TINY)
