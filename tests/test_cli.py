"""The command line: each mistake is one sentence and exit code 2, and nothing on disk is touched by it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ToyRun, tiny

from wtl import cli
from wtl.analysis.results import read_results, write_results
from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.tasks import toy
from wtl.tasks.metaworld import splits


class Answer:
    """What a command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def wtl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """`wtl("run", "toy")` as the shell would call it, in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr("sys.argv", ["wtl", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Answer(int(caught.value.code or 0), *capfd.readouterr())

    return call


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("run toy methods.imitation.trial.train.stps=3", "train.stps does not exist; did you mean steps?"),
        ("run ml1 tasks.family=reach-v9", "unknown Meta-World family 'reach-v9'; `wtl tasks` lists all of them"),
        ("run toy tasks.benchmark=ML11", "unknown benchmark 'ML11'"),
        ("run ml1 tasks.benchmark=custom", "tasks.benchmark=custom needs families"),
        ("run ml1 tasks.test_goals_per_family=51", "the benchmark has 50 test goals a family, got 51"),
        ("run nowhere.yaml", "there is no configuration 'nowhere.yaml'; give a YAML file"),
        (
            "stage toy imitation/trial",
            "demonstrations is not complete; run the stage that makes it first, or `wtl run`",
        ),
        ("stage toy imitation/trials-0", "imitation/trial is not complete; run the stage that makes it first"),
        ("stage toy imitation/retrial-0", "imitation/trials-0 is not complete"),
        ("stage toy cloning/train", "demonstrations is not complete"),
        ("stage toy training", "there is no stage 'training'; the stages are demonstrations, imitation/trial, "),
        ("evaluate toy", "imitation/retrial-1 is not complete"),
        ("video toy", "evaluation is not complete"),
        ("video toy --entry=-1", "Invalid value for '--entry'"),
        ("run toy --bogus", "No such option: --bogus"),
        ("run [/x]", "there is no configuration '[/x]'; give"),
        ("run toy tasks.benchmark=[red]x[/red]", "unknown benchmark '[red]x[/red]'"),
        ("video toy --style painting", "--style must be auto, camera or sketch, got 'painting'"),
        ("run toy seed=\x1b[31m3", "seed is not YAML: unacceptable character #x001b"),
        ("report \x7f", "an argument must be text without control characters"),
        ("stages toy \udcff", "an argument must be text without control characters"),
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


@pytest.mark.parametrize("arguments", [["run"], ["nonsense"], ["stage", "toy"], ["report"]])
def test_a_command_that_is_none(wtl, arguments: list[str]) -> None:
    answer = wtl(*arguments)
    assert answer.code == 2 and answer.err.startswith("error: ") and answer.err.count("\n") == 1


def test_nothing_at_all_is_asked_for_help(wtl) -> None:
    answer = wtl()
    assert answer.code == 2 and "evaluate" in answer.out + answer.err


def test_other_settings_in_a_finished_run_are_refused(wtl, toy_run: ToyRun) -> None:
    before = (toy_run.root / "config.yaml").read_bytes()
    answer = wtl("run", "toy", *toy_run.arguments, "methods.imitation.retrial.train.steps=7")
    assert answer.code == 2
    assert "retrial-0 was made with other settings (retrial.train.steps was 6 and is 7)" in answer.err
    assert "choose another `directory=...`" in answer.err
    assert (toy_run.root / "config.yaml").read_bytes() == before


def test_a_checkpoint_of_another_model_is_refused(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(toy_run.root, copy)
    shutil.rmtree(copy / "imitation/retrial-0/checkpoint")
    shutil.copytree(copy / "cloning/train/checkpoint", copy / "imitation/retrial-0/checkpoint")
    shutil.rmtree(copy / "imitation/retrial-1")
    answer = wtl("stage", "toy", "imitation/retrial-1", *tiny(copy))
    assert answer.code == 2
    assert "retrial-0/checkpoint holds a checkpoint of cloning, expected imitation" in answer.err


def test_stages_one_by_one(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    """A finished stage is skipped; the copy stands elsewhere, which is no other setting."""
    copy = tmp_path / "moved"
    shutil.copytree(toy_run.root, copy)
    listed = [line.split() for line in wtl("stages", "toy", *tiny(copy)).out.splitlines()]
    assert [name for _, name in listed] == [
        "demonstrations", "imitation/trial", "imitation/trials-0", "imitation/retrial-0", "imitation/trials-1",
        "imitation/retrial-1", "cloning/train", "mil/train", "evaluation",
    ]  # fmt: skip
    assert {state for state, _ in listed} == {"complete"}
    for _, name in listed:
        answer = wtl("stage", "toy", name, *tiny(copy))
        assert answer.code == 0
        # The path may be wrapped, so only its end is looked for.
        assert f"{name}iscomplete,skipped" in "".join(answer.err.split())


def test_an_evaluation_with_another_protocol_or_regime_is_not_skipped(wtl, tmp_path: Path) -> None:
    """Defect (a): with a checkpoint, what the evaluation depends on is all among its settings."""
    small = [
        "tasks={benchmark: toy, goals_per_family: 2, validation_goals_per_family: 2, test_goals_per_family: 2}",
        "method=nearest_neighbour", "evaluation.methods=[expert]", "evaluation.controls=[]", "executor=serial",
        f"directory={tmp_path}", "video=sketch",
    ]  # fmt: skip
    assert wtl("run", "toy", *small).code == 0
    answer = wtl("evaluate", "toy", *small, "protocol.feedback=step")
    assert answer.code == 2 and "protocol.feedback was 'end' and is 'step'" in answer.err
    answer = wtl("evaluate", "toy", *small, "regime=goal")
    assert answer.code == 2 and "was made with other settings" in answer.err


def test_the_report_as_json_is_that_of_the_run(wtl, toy_run: ToyRun) -> None:
    answer = wtl("report", toy_run.root, "--json")
    assert answer.code == 0
    assert json.loads(answer.out) == json.loads((toy_run.root / "report.json").read_text())


def test_reports_are_pasted_and_priced(wtl, toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    latex = wtl("report", toy_run.root, "--latex")
    assert latex.code == 0 and latex.out.count("\\begin{tabular}") == 3 and "16 entries, digest " in latex.out
    rows = list(csv.DictReader(io.StringIO(wtl("report", toy_run.root / "evaluation" / "episodes.csv", "--csv").out)))
    assert {row["group"] for row in rows} == {"all", "hidden_goal", *toy.COLOURS}
    assert {row["method"] for row in rows if row["main"] == "1"} == {"imitation"}
    cost = wtl("report", toy_run.root, "--cost")
    assert cost.code == 0 and "steps until 50% solved" in cost.out and "wrote cost.png and cost.csv" in cost.err
    assert {path.name for path in tmp_path.iterdir()} == {"cost.png", "cost.csv"}
    both = wtl("report", toy_run.root, "--latex", "--csv")
    assert both.code == 2 and "give one of --json, --markdown, --latex, --csv, --cost" in both.err


def test_verify_plays_where_the_table_lies(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    answer = wtl("verify", toy_run.root, f"directory={tmp_path / 'run'}")
    assert answer.code == 2 and "leave `directory` out" in answer.err and not list(tmp_path.iterdir())


def test_verify_says_with_its_exit_code_whether_a_table_reproduces(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(toy_run.root, copy)
    assert wtl("verify", copy, "executor=serial").code == 0
    results = copy / "evaluation" / "episodes.csv"
    write_results(results, [replace(row, success=not row.success) for row in read_results(results)])
    answer = wtl("verify", copy, "executor=serial")
    assert answer.code == 1 and "does NOT reproduce: 40 of 40 episodes ended otherwise" in answer.out
    answer = wtl("verify", tmp_path / "nowhere")
    assert answer.code == 2 and "there is no run directory or results file" in answer.err


def test_reports_compare_runs(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    shutil.copytree(toy_run.root / "evaluation", tmp_path / "other" / "evaluation")
    answer = wtl("report", toy_run.root, tmp_path / "other", "--markdown", "--figure", tmp_path / "both.png")
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


@pytest.mark.parametrize("figure", ["", "curve.pdf", "folder", "."])
@pytest.mark.parametrize("cost", [[], ["--cost"]])
def test_a_figure_that_is_no_png_is_refused_before_anything_is_printed(
    wtl, toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: str, cost: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = wtl("report", toy_run.root, "--figure", figure, *cost)
    assert answer.code == 2 and answer.out == "" and not list(tmp_path.iterdir())
    assert answer.err.startswith("error: the figure is written as .png, got ") and answer.err.count("\n") == 1


def test_a_run_does_not_begin_inside_a_stage_of_another(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(toy_run.root, root)
    before = sorted(root.rglob("*"))
    for inside in ("demonstrations", "evaluation/units", "imitation/trial/deep/run"):
        answer = wtl("run", "toy", *tiny(root / inside))
        assert answer.code == 2 and "a stage of another run; choose another `directory=...`" in answer.err, answer.err
    assert sorted(root.rglob("*")) == before
    (tmp_path / "settings.json").write_text('{"editor.fontSize": 14}')  # of another program
    assert wtl("stage", "toy", "demonstrations", *tiny(tmp_path / "mine")).code == 0


def test_a_video_of_an_entry(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "strip.gif"
    answer = wtl("video", "toy", *toy_run.arguments, "--style", "sketch", "--entry", "3", "--out", out)
    assert answer.code == 0 and out.read_bytes().startswith(b"GIF8")
    answer = wtl("video", "toy", *toy_run.arguments, "--style", "sketch", "--entry", "16", "--out", out)
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
    assert all(name in answer.out for name in toy.COLOURS)


@pytest.mark.parametrize("number, word", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_is_heard_at_once(
    wtl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int, word: str
) -> None:
    heard = []

    def interrupt(*_: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            heard.append(capfd.readouterr().err)  # before anything is tidied up

    monkeypatch.setattr("wtl.app.pipeline.Pipeline.run", interrupt)
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # who runs the tests in the background may have it ignored
    try:
        assert wtl("run", "toy", *tiny(tmp_path)).code == 128 + number
        assert heard == [f"\n{word}; the same command goes on where this one stopped\n"]
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)


def test_help_names_every_command(wtl) -> None:
    answer = wtl("--help")
    assert answer.code == 0
    commands = "run stages stage evaluate report verify import export video tensorboard methods tasks"
    assert all(command in answer.out for command in commands.split())


def test_methods_are_listed(wtl) -> None:
    answer = wtl("methods")
    assert answer.code == 0 and all(name in answer.out for name in ("imitation", "trajectory_transfer", "expert"))
