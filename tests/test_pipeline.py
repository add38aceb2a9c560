"""From nothing to a report on the toy: everything is skipped the second time, and what was learned is real."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PHASES, TINY, ToyRun, run_everything, tiny
from rich.console import Console

from wtl.analysis.results import EpisodeResult, read_results
from wtl.analysis.statistics import permutation_test
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.app.plan import Plan
from wtl.data.store import EpisodeStore
from wtl.stages.training import Training
from wtl.tasks import toy

STAGES = (
    "demonstrations", "imitation/trial", "imitation/trials-0", "imitation/retrial-0", "imitation/trials-1",
    "imitation/retrial-1", "cloning/train", "mil/train", "evaluation",
)  # fmt: skip
TRAINED = ("imitation/trial", "imitation/retrial-0", "imitation/retrial-1", "cloning/train", "mil/train")


def content(root: Path) -> dict[str, bytes]:
    """Every file but TensorBoard's curves, whose event files carry the time of day in their names."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and "curves" not in p.parts]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def test_every_stage_leaves_a_manifest_and_the_run_a_report(toy_run: ToyRun) -> None:
    for stage in STAGES:
        manifest = json.loads((toy_run.root / stage / "manifest.json").read_text())
        assert manifest["identity"] and manifest["packages"]["torch"]
    for name in ("config.yaml", "report.json", "improvement.png", "strip.gif", "strip.mp4", "tensorboard/curves"):
        assert (toy_run.root / name).exists(), name


def test_the_report_has_the_documented_shape(toy_run: ToyRun) -> None:
    report = json.loads((toy_run.root / "report.json").read_text())
    methods = {"imitation", "cloning", "mil", "nearest_neighbour", "expert"}
    assert set(report) == {*methods, "entries", "protocols", "differences"}
    assert {d["first"].split("@")[0] for d in report["differences"]} == {"imitation"}
    assert set(report["imitation"]) == {"", "blind_retry", "shuffled_trial", "masked_reward"}
    groups = {"all", "hidden_goal", *toy.COLOURS}
    assert set(report["imitation"][""]) == groups  # no visible goals on the toy, so no group of that name
    points = report["imitation"][""]["all"]
    assert [p["attempt"] for p in points] == [0, 1, 2]
    assert all(set(p) == {"attempt", "n", "successes", "low", "high"} for p in points)
    assert all(p["n"] == 16 and 0 <= p["low"] <= p["successes"] / p["n"] <= p["high"] <= 1 for p in points)


def test_a_second_run_skips_everything_and_changes_not_a_byte(toy_run: ToyRun) -> None:
    before = content(toy_run.root)
    run_everything(toy_run.config)
    assert content(toy_run.root) == before


def test_what_a_stage_makes_does_not_depend_on_what_ran_before_it(toy_run: ToyRun, tmp_path: Path) -> None:
    """A run that goes on in another process meets other random numbers there; only its own seed may matter."""
    shutil.copytree(toy_run.root, tmp_path / "run")
    for stage in STAGES[1:]:
        shutil.rmtree(tmp_path / "run" / stage)
    pipeline = Pipeline(replace(toy_run.config, directory=str(tmp_path / "run")), Console(quiet=True))
    for number, stage in enumerate(STAGES[:-1]):
        torch.manual_seed(number)  # as if each stage had a process of its own
        pipeline.run(only=stage)
    for stage in TRAINED:
        for name in ("losses.csv", "checkpoint/weights.safetensors"):
            again, before = (root / stage / name for root in (tmp_path / "run", toy_run.root))
            assert again.read_bytes() == before.read_bytes(), f"{stage}/{name}"


def test_one_network_for_all_attempts_and_evaluated_again_without_training(tmp_path: Path) -> None:
    shared = load_config("toy", tiny(tmp_path / "run", "methods.imitation.shared=true", "evaluation.methods=[expert]"))
    run_everything(shared)
    checkpoint = Plan(shared).checkpoint(Plan(shared).main)
    assert checkpoint == tmp_path / "run" / "imitation" / "retrial-1" / "checkpoint"
    again = tiny(tmp_path / "again", f"checkpoint={checkpoint}", "demonstrations.splits=[test]")
    run_everything(load_config("toy", again))
    assert not (tmp_path / "again" / "imitation").exists()
    one, other = (
        [r for r in read_results(tmp_path / name / "evaluation" / "episodes.csv") if r.method == "imitation"]
        for name in ("run", "again")
    )
    assert [replace(row, configuration="") for row in one] == [replace(row, configuration="") for row in other]
    assert len({row.configuration for row in (*one, *other)}) == 2  # what else a run was told to do is recorded


TRANSFER = [
    "method=trajectory_transfer", "evaluation.methods=[cloning, expert]",
    "methods.trajectory_transfer={frames: 6, rounds: 2, scorer: {width: 16, negatives: 8, proposals: 50}}",
    *(
        f"methods.trajectory_transfer.{name}={{steps: 6, validate_every_steps: 3, checkpoint_every_steps: 3, "
        "log_every_steps: 2, validation_batches: 1, warmup_steps: 1}"
        for name in ("train", "later_train")
    ),
]  # fmt: skip


def test_a_method_whose_first_trials_somebody_else_plays(tmp_path: Path) -> None:
    config = load_config("toy", tiny(tmp_path / "run", *TRANSFER))
    run_everything(config)
    first, own = (EpisodeStore(tmp_path / "run/trajectory_transfer" / f"trials-{n}").records for n in (0, 1))
    assert {r.source for r in first} == {"misled transfer"} and {r.attempt for r in first} == {0}
    assert {r.source.split()[0] for r in own} == {"trajectory_transfer"} and {r.attempt for r in own} == {0, 1, 2}
    results = read_results(tmp_path / "run" / "evaluation" / "episodes.csv")
    assert {r.method for r in results} == {"trajectory_transfer", "cloning", "expert"}
    solved: set[tuple[str, int]] = set()
    mine = [r for r in results if r.method == "trajectory_transfer" and not r.control]
    for row in sorted(mine, key=lambda r: r.attempt):
        assert row.success or (row.task, row.seed) not in solved  # what has succeeded is repeated
        if row.success:
            solved.add((row.task, row.seed))
    before = content(tmp_path / "run")
    run_everything(config)
    assert content(tmp_path / "run") == before


def test_a_method_with_two_networks_and_its_variants(tmp_path: Path) -> None:
    """The controller learns first, from the expert and from where it has led; each network reads its own trials."""
    short = "{steps: 6, validate_every_steps: 3, log_every_steps: 2, validation_batches: 1, warmup_steps: 1}"
    names = ("train", "control_train", "later_control_train", "last_control_train")
    config = load_config("toy", tiny(
        tmp_path / "run", "method=learned_transfer", "evaluation.methods=[transfer_told_goal]",
        "evaluation.variants=[told_goal, blind_search]",
        "methods.learned_transfer={frames: 6, control_rounds: 1, control_tasks: 4, misled_tasks: 6}",
        "methods.learned_transfer.scorer={width: 16, negatives: 8, proposals: 50}",
        "methods.learned_transfer.copier={frames: 6, width: 12, heads: 2, hidden: 16, ahead_frames: [1, 2]}",
        *(f"methods.learned_transfer.{name}={short}" for name in names),
    ))  # fmt: skip
    run_everything(config)
    stores = [EpisodeStore(tmp_path / "run/learned_transfer" / f"trials-{n}") for n in range(3)]
    players = [{record.source for record in store.records} for store in stores]
    assert players == [{"demonstrator"}, {"disturbed control"}, {"misled transfer"}]
    labelled = [all(np.isfinite(episode.expert_actions).all() for episode in store) for store in stores]
    assert labelled == [True, True, False]
    read = {p.name: [stage.directory.name for stage in Plan(config).stores(Plan(config).main, p)]
            for p in Plan(config).main.phases}  # fmt: skip
    assert read == {
        "control-0": ["demonstrations", "trials-0"],
        "control-1": ["demonstrations", "trials-0", "trials-1"],
        "scorer-0": ["demonstrations", "trials-2"],
    }
    results = read_results(tmp_path / "run" / "evaluation" / "episodes.csv")
    variants = {"learned_transfer.told_goal", "learned_transfer.blind_search"}
    assert {r.method for r in results} == {"learned_transfer", "transfer_told_goal", *variants}
    assert {r.attempt for r in results if r.method in variants} == {0}
    before = content(tmp_path / "run")
    run_everything(config)
    assert content(tmp_path / "run") == before


def test_a_variant_that_a_method_does_not_have_is_one_sentence(tmp_path: Path) -> None:
    config = load_config("toy", tiny(tmp_path, "evaluation.variants=[told_goal]"))
    with pytest.raises(ValueError, match="imitation has no variant 'told_goal'; it has none"):
        Plan(config)
    other = load_config("toy", tiny(tmp_path, "method=learned_transfer", "evaluation.variants=[told]"))
    with pytest.raises(ValueError, match="has no variant 'told'; it has told_goal, blind_search"):
        Plan(other)


def test_another_seed_begins_with_other_weights(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[torch.Tensor] = []

    def fit(training: Training, *_: object) -> None:
        first.append(next(p.detach().clone() for p in training.network.parameters() if p.dim() > 1))
        raise InterruptedError

    monkeypatch.setattr(Training, "fit", fit)
    for seed in (0, 1):
        torch.manual_seed(0)  # as in a fresh process
        config = replace(toy_run.config, directory=str(tmp_path / str(seed)), seed=seed)
        pipeline = Pipeline(config, Console(quiet=True))
        pipeline.run(only="demonstrations")
        with pytest.raises(InterruptedError):
            pipeline.run(only="imitation/trial")
    assert first[0].shape == first[1].shape and (first[0] != first[1]).any()


# The rest is for `make test-slow`.


def wtl(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from wtl.cli import main; main()", *arguments]


def outcome(rows: tuple[EpisodeResult, ...], method: str, control: str, attempt: int) -> dict:
    chosen = [r for r in rows if (r.method, r.control, r.attempt) == (method, control, attempt)]
    assert chosen
    return {r.entry: float(r.success) for r in chosen}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[EpisodeResult, ...]:
    """configs/toy.yaml as it is, and what its evaluation found."""
    root = tmp_path_factory.mktemp("learned") / "run"
    subprocess.run(wtl("run", "toy", f"directory={root}"), check=True, timeout=1500)
    return read_results(root / "evaluation" / "episodes.csv")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "better, worse",
    [
        (("imitation", "", 1), ("imitation", "", 0)),
        (("imitation", "", 0), ("cloning", "", 0)),
        (("imitation", "", 1), ("imitation", "blind_retry", 1)),
        (("imitation", "", 1), ("imitation", "shuffled_trial", 1)),
        (("imitation", "", 1), ("imitation", "masked_reward", 1)),
    ],
    ids=lambda key: ".".join(map(str, key)),
)
def test_retrial_beats_trial_beats_cloning_and_the_controls(
    learned: tuple[EpisodeResult, ...], better: tuple[str, str, int], worse: tuple[str, str, int]
) -> None:
    high, low = outcome(learned, *better), outcome(learned, *worse)
    assert high.keys() == low.keys()
    change = np.array([high[entry] - low[entry] for entry in high])
    # One value a task: the entries of a task are not independent of one another.
    by_task: dict[str, list[float]] = {}
    for entry, value in zip(high, change, strict=True):
        by_task.setdefault(entry.task, []).append(float(value))
    means = [float(np.mean(values)) for values in by_task.values()]
    assert permutation_test([0.0] * len(means), means, alternative="greater") < 0.01


KILLER = """
import os, signal, sys
from wtl.app import stage as run
from wtl.compute import executor
from wtl.stages import training as train

stage, at_work = sys.argv.pop(1), []
begin, checkpoint, work = run.Stage.begin, train.Training.checkpoint, executor.LocalExecutor.map


def begin_and_note(self):
    at_work.append(self.directory)
    begin(self)


def die():
    if str(at_work[-1]).endswith(stage):
        os.killpg(0, signal.SIGKILL)


def checkpoint_and_die(self):
    checkpoint(self)
    die()


def work_and_die(self, function, units):
    for result in work(self, function, units):
        die()
        yield result


run.Stage.begin, train.Training.checkpoint = begin_and_note, checkpoint_and_die
executor.LocalExecutor.map = work_and_die
from wtl.cli import main
main()
"""
"""`wtl`, but it and its workers are killed in a stage: after its first checkpoint or its first unit."""


def killed_in(stage: str, root: Path) -> bool:
    """Start the run, or go on with it, in a process group of its own that is killed in this stage."""
    command = [sys.executable, "-c", KILLER, stage, "run", "toy", *RESUMABLE, f"directory={root}"]
    done = subprocess.run(command, start_new_session=True, capture_output=True, timeout=600)
    begun, finished = ((root / stage / name).is_file() for name in ("settings.json", "manifest.json"))
    return done.returncode == -signal.SIGKILL and begun and not finished


RESUMABLE = [
    *TINY,
    "executor=local",
    "workers=2",
    "demonstrations.unit_episodes=2",
    "trials.unit_episodes=2",
    *(f"methods.{phase}.train.steps=40" for phase in PHASES),
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_nine_in_each_stage_changes_nothing_in_the_end(tmp_path: Path) -> None:
    # Both have the same name, because the report says it.
    whole, broken = tmp_path / "whole" / "run", tmp_path / "broken" / "run"
    subprocess.run(wtl("run", "toy", *RESUMABLE, f"directory={whole}"), check=True, capture_output=True, timeout=600)
    for stage in STAGES:
        assert killed_in(stage, broken), stage
    subprocess.run(wtl("run", "toy", *RESUMABLE, f"directory={broken}"), check=True, capture_output=True, timeout=600)
    assert_the_same(broken, whole)


PRIVATE_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]
"""Runs a program that may mount what nobody else sees."""
GROWING_DISK = """
folder=$1 out=$2; shift 2
mount -t tmpfs -o size=8k disk "$folder" || exit 99
for size in 40k 150k 600k 900k 1500k 2000k 2100k 2200k 2300k 64000k; do
    mount -o remount,size=$size disk "$folder" || exit 99
    "$@" 2> "$out/$size"; echo $? >> "$out/$size"
done
cp -R "$folder/run" "$out/run"
"""
"""Gives the same command a disk that is too small, then a larger one, and so on, until all of the run fits on it."""


def may_mount() -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run([*PRIVATE_MOUNTS, "mount", "-t", "tmpfs", "disk", "/tmp"], check=False).returncode == 0
    return False


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not may_mount(), reason="a disk of a few kilobytes needs Linux with namespaces of users")
def test_a_disk_that_is_full_again_and_again_changes_nothing_in_the_end(tmp_path: Path) -> None:
    """The disk is one in memory, so the system itself says that it is full, to workers and TensorBoard too."""
    whole, disk, out = tmp_path / "whole" / "run", tmp_path / "disk", tmp_path / "out"
    subprocess.run(wtl("run", "toy", *RESUMABLE, f"directory={whole}"), check=True, capture_output=True, timeout=600)
    disk.mkdir()
    out.mkdir()
    command = wtl("run", "toy", *RESUMABLE, f"directory={disk / 'run'}")
    subprocess.run([*PRIVATE_MOUNTS, "sh", "-c", GROWING_DISK, "sh", str(disk), str(out), *command], check=True)
    said = [path.read_text() for path in sorted(out.glob("*k"), key=lambda path: int(path.name[:-1]))]
    full = [text for text in said if text.splitlines()[-1] == "1"]
    assert len(full) >= 6 and all(text.splitlines()[-1] == "0" for text in said[len(full) :]) and full != said
    places = set()
    for text in full:
        last = text.splitlines()[-2]
        assert last.startswith(f"error: {disk / 'run'}/") and "Traceback" not in text, text
        assert "No space left on device; free some space there. The same command goes on" in last
        places.add(last.removeprefix("error: ").partition(":")[0])
    assert len(places) >= 5
    assert_the_same(out / "run", whole)
    assert not list((out / "run").rglob(".*"))


def assert_the_same(run: Path, whole: Path) -> None:
    """All episodes, what was learned, and all numbers."""
    for path in (*whole.rglob("*.safetensors"), *whole.rglob("store.json"), *whole.glob("evaluation/[ef]*")):
        assert (run / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert (run / "report.json").read_bytes() == (whole / "report.json").read_bytes()
    for stage in TRAINED:
        assert losses(run / stage) == losses(whole / stage), stage


def losses(stage: Path) -> list[dict[str, str]]:
    with (stage / "losses.csv").open() as file:
        return list(csv.DictReader(file))
