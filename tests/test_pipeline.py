"""From nothing to a report on the probe: everything is skipped the second time, and what was learned is real."""

from __future__ import annotations

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
from conftest import PHASES, TINY, ProbeRun, run_everything, tiny
from rich.console import Console
from strategies import PROBE

from wtl.analysis.results import EpisodeResult, read_results
from wtl.analysis.statistics import permutation_test
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.app.plan import Plan
from wtl.data.store import EpisodeStore
from wtl.stages.train import Training

STAGES = ("demos", "trial", "trials-0", "retrial-0", "trials-1", "retrial-1", "cloning", "mil", "evaluation")


def content(root: Path) -> dict[str, bytes]:
    """Every file but TensorBoard's curves, whose event files carry the time of day in their names."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and "curves" not in p.parts]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def test_every_stage_leaves_a_manifest_and_the_run_a_report(probe_run: ProbeRun) -> None:
    for stage in STAGES:
        manifest = json.loads((probe_run.root / stage / "manifest.json").read_text())
        assert manifest["identity"] and manifest["packages"]["torch"]
    for name in ("config.yaml", "report.json", "improvement.png", "strip.gif", "strip.mp4", "tensorboard/curves"):
        assert (probe_run.root / name).exists(), name


def test_the_report_has_the_documented_shape(probe_run: ProbeRun) -> None:
    report = json.loads((probe_run.root / "report.json").read_text())
    assert set(report) == {"wtl", "cloning", "mil", "nearest_neighbour", "expert"}
    assert set(report["wtl"]) == {"", "blind_retry", "shuffled_trial", "masked_reward"}
    groups = {"all", "hidden_goal", *PROBE}
    assert set(report["wtl"][""]) == groups  # no visible goals on the probe, so no group of that name
    points = report["wtl"][""]["all"]
    assert [p["attempt"] for p in points] == [0, 1, 2]
    assert all(set(p) == {"attempt", "n", "successes", "low", "high"} for p in points)
    assert all(p["n"] == 16 and 0 <= p["low"] <= p["successes"] / p["n"] <= p["high"] <= 1 for p in points)


def test_a_second_run_skips_everything_and_changes_not_a_byte(probe_run: ProbeRun) -> None:
    before = content(probe_run.root)
    run_everything(probe_run.config)
    assert content(probe_run.root) == before


def test_what_a_stage_makes_does_not_depend_on_what_ran_before_it(probe_run: ProbeRun, tmp_path: Path) -> None:
    """A run that goes on in another process meets other random numbers there; only its own seed may matter."""
    shutil.copytree(probe_run.root, tmp_path / "run")
    for stage in STAGES[1:]:
        shutil.rmtree(tmp_path / "run" / stage)
    pipeline = Pipeline(replace(probe_run.config, directory=str(tmp_path / "run")), Console(quiet=True))
    stages = (pipeline.train_trial, pipeline.collect_trials, pipeline.train_retrial, pipeline.train_baselines)
    for number, make in enumerate(stages):
        torch.manual_seed(number)  # as if each stage had a process of its own
        make()
    for stage in ("trial", "retrial-0", "cloning", "mil"):
        for name in ("losses.csv", "policy/weights.safetensors"):
            again, before = (root / stage / name for root in (tmp_path / "run", probe_run.root))
            assert again.read_bytes() == before.read_bytes(), f"{stage}/{name}"


def test_one_network_for_all_attempts_and_evaluated_again_without_training(tmp_path: Path) -> None:
    shared = load_config("toy", tiny(tmp_path / "run", "retrial.shared=true"))
    run_everything(shared)
    operator = Plan(shared).operator(2)
    assert operator.trial == operator.retrial == tmp_path / "run" / "retrial-1" / "policy"
    sources = {attempt: set() for attempt in range(3)}
    for record in EpisodeStore(tmp_path / "run" / "trials-1").records:
        sources[record.attempt].add(record.source.split()[0])
    assert sources == {attempt: {"shared"} for attempt in range(3)}

    again = tiny(tmp_path / "again", f"trained={operator.trial}", "demonstrations.splits=[test]")
    run_everything(load_config("toy", again))
    assert not (tmp_path / "again" / "trial").exists()
    one, other = (
        [r for r in read_results(tmp_path / name / "evaluation" / "episodes.csv") if r.method == "wtl"]
        for name in ("run", "again")
    )
    assert one == other


FOLLOWING = [
    "operator=following", "following.shift={width: 16, decoys: 8, proposals: 50}",
    "retrial.train.batch.trial_queries=0", "retrial.train.batch.no_demonstration=0",
    "retrial.later_train.batch.trial_queries=0", "retrial.later_train.batch.no_demonstration=0",
]  # fmt: skip


def test_an_operator_that_follows_has_no_trial_policy_and_is_one_for_all_attempts(tmp_path: Path) -> None:
    config = load_config("toy", tiny(tmp_path / "run", *FOLLOWING))
    run_everything(config)
    plan = Plan(config)
    assert not plan.trial.directory.exists() and plan.operator(2).trial == plan.operator(2).retrial
    astray, own = (EpisodeStore(tmp_path / "run" / f"trials-{number}").records for number in (0, 1))
    assert {r.source for r in astray} == {"follower led astray"} and {r.attempt for r in astray} == {0}
    assert {r.source.split()[0] for r in own} == {"following"} and {r.attempt for r in own} == {0, 1, 2}
    results = read_results(tmp_path / "run" / "evaluation" / "episodes.csv")
    assert {r.method for r in results} == {"wtl", "cloning", "mil", "nearest_neighbour", "expert"}
    solved: set[tuple[str, int]] = set()
    for row in sorted((r for r in results if r.method == "wtl" and not r.control), key=lambda r: r.attempt):
        assert row.success or (row.task, row.seed) not in solved  # what has succeeded is repeated
        if row.success:
            solved.add((row.task, row.seed))
    before = content(tmp_path / "run")
    run_everything(config)
    assert content(tmp_path / "run") == before


def test_another_seed_begins_with_other_weights(
    probe_run: ProbeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[torch.Tensor] = []

    def fit(training: Training, *_: object) -> None:
        first.append(next(p.detach().clone() for p in training.network.parameters() if p.dim() > 1))
        raise InterruptedError

    monkeypatch.setattr(Training, "fit", fit)
    for seed in (0, 1):
        torch.manual_seed(0)  # as in a fresh process
        config = replace(probe_run.config, directory=str(tmp_path / str(seed)), seed=seed)
        pipeline = Pipeline(config, Console(quiet=True))
        pipeline.collect_demos()
        with pytest.raises(InterruptedError):
            pipeline.train_trial()
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
        (("wtl", "", 1), ("wtl", "", 0)),
        (("wtl", "", 0), ("cloning", "", 0)),
        (("wtl", "", 1), ("wtl", "blind_retry", 1)),
        (("wtl", "", 1), ("wtl", "shuffled_trial", 1)),
        (("wtl", "", 1), ("wtl", "masked_reward", 1)),
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
from wtl.stages import train

stage, at_work = sys.argv.pop(1), []
begin, checkpoint, work = run.Stage.begin, train.Training.checkpoint, executor.LocalExecutor.map


def begin_and_note(self):
    at_work.append(self.directory.name)
    begin(self)


def die():
    if at_work[-1] == stage:
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
    *(f"{phase}.steps=40" for phase in PHASES),
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_nine_in_each_stage_changes_nothing_in_the_end(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(wtl("run", "toy", *RESUMABLE, f"directory={whole}"), check=True, capture_output=True, timeout=600)
    for stage in STAGES:
        assert killed_in(stage, broken), stage
    subprocess.run(wtl("run", "toy", *RESUMABLE, f"directory={broken}"), check=True, capture_output=True, timeout=600)
    for name in ("evaluation/episodes.csv", "evaluation/entries.json", "report.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    for stage in STAGES[1:-1]:
        if stage.startswith("trials"):
            continue
        assert losses(broken / stage) == losses(whole / stage), stage


def losses(stage: Path) -> list[dict[str, str]]:
    with (stage / "losses.csv").open() as file:
        return list(csv.DictReader(file))
