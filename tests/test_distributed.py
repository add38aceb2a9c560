"""Several processes train as one does: the same curve, the same weights, and what stops one stops all."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ToyRun, tiny
from test_training import CONFIG, Batches, silent, training, weights

from wtl import cli
from wtl.compute.distributed import SINGLE, ProcessGroup
from wtl.data.meta_batches import Batch
from wtl.data.segments import ContextBatch, Segments
from wtl.methods.learner import Losses, TrainConfig
from wtl.stages.training import choose_device, micro_batches_of

FOUR = replace(CONFIG, micro_batches=4)


def test_micro_batches_are_shared_out_and_none_is_left() -> None:
    for size in (1, 2, 4):
        shares = [list(micro_batches_of(FOUR, ProcessGroup(size, rank))) for rank in range(size)]
        assert sorted(part for share in shares for part in share) == [0, 1, 2, 3]
        assert {len(share) for share in shares} == {4 // size}
    for micro_batches, size in ((1, 2), (4, 3), (2, 4)):
        with pytest.raises(ValueError, match=f"train.micro_batches is {micro_batches}, which {size} processes cannot"):
            micro_batches_of(TrainConfig(micro_batches=micro_batches), ProcessGroup(size))
    with pytest.raises(ValueError, match="TrainConfig.micro_batches must be between 1 and 4096, got 0"):
        TrainConfig(micro_batches=0)


def test_a_process_group_is_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProcessGroup.from_environment() == SINGLE and SINGLE.is_main
    for name, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert ProcessGroup.from_environment() == ProcessGroup(8, 5, 1, 4) and not ProcessGroup.from_environment().is_main


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", ProcessGroup(4, 3, 1, 2)) == torch.device("cuda", 1)
    assert choose_device("cpu", ProcessGroup(4, 3, 1, 2)) == torch.device("cpu")
    assert choose_device("cuda") == torch.device("cuda")
    with pytest.raises(ValueError, match="4 processes train on this machine, which has 2 GPUs"):
        choose_device("auto", ProcessGroup(4, 3, 3, 4))


@pytest.mark.parametrize("command", ["run toy", "stages toy", "evaluate toy", "report nowhere", "tasks", "methods"])
def test_other_commands_are_for_one_process(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["wtl", *command.split()])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and not list(tmp_path.iterdir())
    assert f"`wtl {command.split()[0]}` is for one process, and 2 were started; torchrun is for `wtl stage`" in said


def joined(batches: list[Batch]) -> Batch:
    """One large batch."""

    def cat(parts: list[Any]) -> Any:
        return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else parts[0]

    shown = [batch.context.demonstrations for batch in batches if batch.context]
    whole = Segments(**{f.name: cat([getattr(s, f.name) for s in shown]) for f in fields(Segments)})
    names = [f.name for f in fields(Batch) if f.name != "context"]
    rest = {name: cat([getattr(batch, name) for batch in batches]) for name in names}
    return Batch(context=ContextBatch(whole, None), **rest)


def test_accumulated_gradients_are_those_of_the_large_batch(tmp_path: Path) -> None:
    parts = [Batches()(0, part) for part in range(4)]
    assert not torch.equal(parts[0].expert_actions_BQA, parts[1].expert_actions_BQA)
    accumulated, large = training(tmp_path, FOUR), training(tmp_path)
    kinds: list[Losses] = [accumulated.train_step(*parts), large.train_step(joined(parts))]
    for ours, theirs in zip(*(losses.named().values() for losses in kinds), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert kinds[0].goal is not None
    for ours, theirs in zip(accumulated.network.parameters(), large.network.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


# The rest starts processes, for `make test-slow`.


def torchrun(*arguments: str | Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Start processes on the CPU and wait for their end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    here = Path(__file__).parent
    environment = os.environ | {
        "PYTHONPATH": f"{here.parent}{os.pathsep}{here}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    command = [*launcher, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)


def at_work(root: Path) -> None:
    """What each process of a group does in the tests below: a whole training, one cut and resumed, one that fails."""
    torch.set_num_threads(1)
    group = ProcessGroup.from_environment()
    group.join()
    training(root / "whole", FOUR, group=group).fit(Batches(), Batches(9), silent)

    def cut(step: int, *_: Any) -> None:
        if step == 3:
            raise InterruptedError

    for name in ("parts", "left"):
        first = training(root / name, FOUR, group=group)
        try:
            first.fit(Batches(), Batches(9), cut)
        except InterruptedError:
            group.barrier()
    torch.manual_seed(group.rank)
    second = training(root / "parts", FOUR, seed=77, group=group)
    assert second.resume() and second.step == 2
    second.fit(Batches(), Batches(9), silent)
    try:
        training(root / "bad", FOUR, group=group).fit(Batches(poisoned=2, poisoned_part=3), None, silent)
    except FloatingPointError as error:
        (root / f"said-{group.rank}").write_text(str(error))
    group.leave()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes were `at_work`."""
    root = tmp_path_factory.mktemp("two")
    script = root / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom test_distributed import at_work\nat_work(Path(sys.argv[1]))"
    )
    done = torchrun(script, root)
    assert done.returncode == 0, done.stderr
    return root


def curve(directory: Path) -> list[dict[str, float]]:
    with (directory / "losses.csv").open() as file:
        return [{name: float(value) for name, value in line.items() if value} for line in csv.DictReader(file)]


def assert_same_curve(ours: Path, theirs: Path) -> None:
    for a, b in zip(curve(ours), curve(theirs), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_two_processes_train_as_one(two: Path, tmp_path: Path) -> None:
    alone = training(tmp_path, FOUR)
    alone.fit(Batches(), Batches(9), silent)
    assert len(curve(tmp_path)) == 6
    assert_same_curve(two / "whole", tmp_path)
    together = training(two / "whole", FOUR)
    assert together.resume() and together.step == 4
    start = training(tmp_path / "fresh", FOUR)
    before, ours, theirs = (torch.cat([w.flatten() for w in weights(t).values()]) for t in (start, together, alone))
    # On the whole: where the true gradient is zero, Adam makes whole steps of rounding errors.
    assert (ours - theirs).abs().mean() < 1e-3 * (theirs - before).abs().mean()
    assert len(list((two / "whole/log").iterdir())) == 1  # one of them wrote


@pytest.mark.slow
def test_a_group_resumes_exactly_and_one_process_can_go_on_for_it(two: Path) -> None:
    assert (two / "parts/losses.csv").read_bytes() == (two / "whole/losses.csv").read_bytes()
    one = training(two / "left", FOUR)
    assert one.resume() and one.step == 2
    one.fit(Batches(), Batches(9), silent)
    assert_same_curve(two / "left", two / "whole")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_process_stops_all_with_one_sentence(two: Path) -> None:
    said = {(two / f"said-{rank}").read_text() for rank in range(2)}
    path = two / "bad" / "bad-batch-2.pt"
    assert said == {f"loss is nan at step 2; the batch is in {path}"}
    saved = torch.load(path, weights_only=True)["tensors"]["observations_BQO"]
    torch.testing.assert_close(saved, Batches(poisoned=2, poisoned_part=3)(2, 3).observations_BQO, equal_nan=True)


TRAININGS = ("imitation/trial", "imitation/retrial-0", "cloning/train", "mil/train")


@pytest.mark.slow
@pytest.mark.timeout(900)  # eight starts of torch
def test_torchrun_trains_every_method_as_one_process_does(toy_run: ToyRun, tmp_path: Path) -> None:
    """With the commands of the README, from the same episodes."""
    from wtl.app.config import load_config
    from wtl.app.pipeline import Pipeline

    for name in ("one", "two"):
        shutil.copytree(toy_run.root / "demonstrations", tmp_path / name / "demonstrations")
    parts = ("imitation.trial", "imitation.retrial", "cloning", "mil")
    more = [f"methods.{part}.train.micro_batches=2" for part in parts]
    more += ["methods.imitation.retrial.train.batch.no_demonstration=0.5"]
    arguments = {name: tiny(tmp_path / name, *more) for name in ("one", "two")}
    alone = Pipeline(load_config("toy", arguments["one"]))
    alone.run(only="imitation/trial")
    alone.run(only="imitation/trials-0")
    for stage in TRAININGS:
        if stage == "imitation/retrial-0":  # both from the same trials
            for before in ("imitation/trial", "imitation/trials-0"):
                shutil.copytree(tmp_path / "one" / before, tmp_path / "two" / before, dirs_exist_ok=True)
        alone.run(only=stage)
        done = torchrun("-m", "wtl", "stage", "toy", stage, *arguments["two"])
        assert done.returncode == 0, done.stderr
        assert_same_curve(tmp_path / "two" / stage, tmp_path / "one" / stage)
        assert done.stderr.count(f"{stage}: steps 6") == 1  # one of them speaks
    alone.close()


@pytest.mark.slow
def test_a_mistake_of_a_group_is_said_once(toy_run: ToyRun, tmp_path: Path) -> None:
    shutil.copytree(toy_run.root / "demonstrations", tmp_path / "demonstrations")
    done = torchrun("-m", "wtl", "stage", "toy", "imitation/trial", *tiny(tmp_path))
    assert done.returncode != 0
    assert done.stderr.count("train.micro_batches is 1, which 2 processes cannot share evenly") == 1
    assert "Traceback" not in done.stderr.split("ChildFailedError")[0].split("torch/distributed")[0]
    assert not (tmp_path / "imitation").exists()
    done = torchrun("-m", "wtl", "stage", "toy", "demonstrations", *tiny(tmp_path))
    assert done.returncode != 0 and done.stderr.count("torchrun is for trainings, got 'demonstrations'") == 1
