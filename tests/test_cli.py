"""The command line: each mistake is one sentence and exit code 2, and nothing on disk is touched by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import ProbeRun, tiny
from strategies import PROBE

from tasks.metaworld import splits
from wtl import cli
from wtl.app.config import load_config
from wtl.app.plan import Plan


class Answer:
    """What a command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def wtl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`wtl("run", "toy")` as the shell would call it, in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr("sys.argv", ["wtl", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Answer(int(caught.value.code or 0), *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("run toy trial.train.stps=3", "Key 'stps' not in 'TrainConfig'. Did you mean: 'steps'?"),
        ("run toy trial.train.steps=many", "trial.train.steps: Value 'many' of type 'str' could not be converted"),
        ("run ml1 tasks.family=reach-v9", "unknown Meta-World family 'reach-v9'; `wtl tasks` lists all of them"),
        ("run toy tasks.benchmark=ML11", "unknown benchmark 'ML11', known are"),
        ("run ml1 tasks.benchmark=custom", "tasks.benchmark=custom needs families"),
        ("run ml1 tasks.test_goals_per_family=51", "the benchmark has 50 test goals a family, got 51"),
        ("run nowhere.yaml", "there is no configuration 'nowhere.yaml'; give a YAML file"),
        ("train-trial toy", "demos is not complete; run the stage that makes it first, or `wtl run`"),
        ("collect-trials toy", "trial is not complete; run the stage that makes it first"),
        ("train-retrial toy", "trials-0 is not complete"),
        ("train-baselines toy", "trials-0 is not complete"),
        ("evaluate toy", "trial is not complete"),
        ("video toy", "evaluation is not complete"),
        ("video toy --style painting", "--style must be auto, camera or sketch, got 'painting'"),
        ("collect-trials toy --round 2", "--round 2 does not exist: retrial.rounds is 2, so rounds are 0 .. 1"),
        ("train-retrial toy --round 9", "--round 9 does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_and_touches_nothing(wtl, tmp_path: Path, command: str, sentence: str) -> None:
    answer = wtl(*command.split(), f"directory={tmp_path / 'run'}")
    assert answer.code == 2
    assert sentence in answer.err and answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert not list(tmp_path.iterdir()) and answer.out == ""


def test_a_family_without_another_start_is_refused_before_anything_is_written(wtl, tmp_path: Path) -> None:
    small = ["tasks.goals_per_family=2", "tasks.validation_goals_per_family=2", "tasks.test_goals_per_family=2"]
    answer = wtl("run", "ml1", "tasks.family=plate-slide-v3", "regime=goal", *small, f"directory={tmp_path / 'run'}")
    assert (
        answer.code == 2 and "plate-slide-v3 has a single start, so regime `goal` does not exist for it" in answer.err
    )
    assert not list(tmp_path.iterdir())


def test_a_family_that_is_not_demonstrated_needs_no_other_start(tmp_path: Path) -> None:
    tasks = "tasks={benchmark: custom, train: [plate-slide-v3], test: [reach-v3], test_goals_per_family: 2}"
    assert len(Plan(load_config("pretrained", [tasks, "regime=goal", f"directory={tmp_path}"])).distribution.test) == 2


@pytest.mark.parametrize("arguments", [["run"], ["nonsense"], ["collect-trials", "toy", "--round", "-1"], ["report"]])
def test_a_command_that_is_none(wtl, arguments: list[str]) -> None:
    assert wtl(*arguments).code == 2


def test_other_settings_in_a_finished_run_are_refused(wtl, probe_run: ProbeRun) -> None:
    before = (probe_run.root / "config.yaml").read_bytes()
    answer = wtl("run", "toy", *probe_run.arguments, "retrial.train.steps=7")
    assert answer.code == 2
    assert (
        "retrial-0 was made with other settings (train.steps was 6 and is 7); choose another `directory=...`"
        in answer.err
    )
    assert (probe_run.root / "config.yaml").read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(wtl, probe_run: ProbeRun, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(probe_run.root, copy)
    shutil.rmtree(copy / "retrial-0/policy")
    shutil.copytree(copy / "trial/policy", copy / "retrial-0/policy")
    for stage in ("trials-1", "retrial-1", "evaluation"):
        shutil.rmtree(copy / stage)
    answer = wtl("train-retrial", "toy", *tiny(copy), "--round", "1")
    assert answer.code == 2 and "trials-1 is not complete" in answer.err
    shutil.copytree(probe_run.root / "trials-1", copy / "trials-1")
    answer = wtl("train-retrial", "toy", *tiny(copy), "--round", "1")
    assert answer.code == 2
    assert "retrial-0/policy is no retrial policy, so a retrial policy cannot start from it" in answer.err


def test_stages_one_by_one(wtl, probe_run: ProbeRun, tmp_path: Path) -> None:
    """Every stage command skips a finished stage; the copy stands elsewhere, which is no other setting."""
    copy = tmp_path / "moved"
    shutil.copytree(probe_run.root, copy)
    for command, stages in {
        "collect-demos": ["demos"],
        "train-trial": ["trial"],
        "collect-trials": ["trials-0"],
        "train-retrial": ["retrial-0", "retrial-1"],
        "train-baselines": ["cloning", "mil"],
    }.items():
        answer = wtl(command, "toy", *tiny(copy))
        assert answer.code == 0
        # The path may be wrapped, so only its end is looked for.
        said = "".join(answer.err.split())
        assert [stage for stage in stages if f"{stage}iscomplete,skipped" in said] == stages, answer.err


def test_the_report_as_json_is_that_of_the_run(wtl, probe_run: ProbeRun) -> None:
    answer = wtl("report", probe_run.root, "--json")
    assert answer.code == 0
    assert json.loads(answer.out) == json.loads((probe_run.root / "report.json").read_text())


def test_reports_compare_runs(wtl, probe_run: ProbeRun, tmp_path: Path) -> None:
    shutil.copytree(probe_run.root / "evaluation", tmp_path / "other" / "evaluation")
    answer = wtl("report", probe_run.root, tmp_path / "other", "--markdown", "--figure", tmp_path / "both.png")
    assert answer.code == 0 and "runs compared" in answer.out
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "missing, sentence", [("run", "there is no run directory"), ("evaluation", "is not evaluated")]
)
def test_a_report_of_nothing(wtl, tmp_path: Path, missing: str, sentence: str) -> None:
    run = tmp_path / "run"
    if missing != "run":
        run.mkdir()
    answer = wtl("report", run)
    assert answer.code == 2 and sentence in answer.err and answer.err.count("\n") == 1


def test_a_video_of_an_entry(wtl, probe_run: ProbeRun, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "strip.gif"
    answer = wtl("video", "toy", *probe_run.arguments, "--style", "sketch", "--entry", "3", "--out", out)
    assert answer.code == 0 and out.read_bytes().startswith(b"GIF8")
    answer = wtl("video", "toy", *probe_run.arguments, "--style", "sketch", "--entry", "16", "--out", out)
    assert answer.code == 2 and "entry 16 does not exist; the evaluation has entries 0 .. 15" in answer.err


def test_tasks_lists_every_family_and_what_is_hidden(wtl) -> None:
    answer = wtl("tasks")
    assert answer.code == 0
    lines = [line for line in answer.out.splitlines() if "-v3" in line]
    assert len(lines) == 50
    for family in splits.ALL_FAMILIES:
        [line] = [line for line in lines if family in line.split()]
        assert ("hidden" if family in splits.HIDDEN_GOAL else "visible") in line
    [basketball] = [line for line in lines if "basketball-v3" in line]
    assert "train test" in basketball
    assert all(name in answer.out for name in PROBE)


def test_ctrl_c_says_how_to_go_on(wtl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wtl.app.pipeline.Pipeline.all_stages", interrupt)
    answer = wtl("run", "toy", *tiny(tmp_path))
    assert answer.code == 130
    assert "interrupted; the same command goes on where this one stopped" in answer.err


def test_help_names_every_command(wtl) -> None:
    answer = wtl("--help")
    assert answer.code == 0
    stages = "collect-demos train-trial collect-trials train-retrial train-baselines evaluate"
    assert all(command in answer.out for command in f"run {stages} report video tasks".split())
