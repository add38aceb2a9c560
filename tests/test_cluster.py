"""A Ray cluster of two nodes on this machine: the same episodes, and nodes that go take nothing with them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ToyRun, tiny
from rich.console import Console
from test_executor import UNITS, Unit, complain, die_always, die_once, square, threads

from wtl import cli
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.compute.executor import WorkersDied
from wtl.compute.ray import RayExecutor

STORES = ("demonstrations", "imitation/trials-0", "imitation/trials-1")


def test_without_ray_it_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "ray" else find(name))
    monkeypatch.setattr("sys.argv", ["wtl", "stage", "toy", "demonstrations", *tiny(tmp_path / "run", "executor=ray")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and not list(tmp_path.iterdir())
    assert "executor=ray needs Ray, which is not installed; run `make ray`, or set executor=local" in said


def test_workers_that_die_again_and_again_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def die(*_: Any) -> Iterator[Any]:
        raise WorkersDied("a worker died 4 times; 2 units are not done")

    monkeypatch.setattr("wtl.compute.executor.SerialExecutor.map", die)
    monkeypatch.setattr("sys.argv", ["wtl", "stage", "toy", "demonstrations", *tiny(tmp_path / "run")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr().err
    assert caught.value.code == 1 and said.count("error: a worker died 4 times; 2 units are not done") == 1
    assert "Traceback" not in said


def test_a_cluster_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: True)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match="no Ray cluster answers at 127.0.0.1:1 .*; start it, or unset RAY_ADDRESS"):
        list(RayExecutor(tmp_path).map(square, UNITS))
    assert not list(tmp_path.iterdir())


# The rest starts a cluster, for `make test-slow`.


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one core each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # A token of its own, whatever this machine's user has; to be set before Ray is imported.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
        pytest.importorskip("ray", reason="the extra `ray` is not installed; `make test-slow` installs it")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the units of these tests
        patch.setenv("OMP_NUM_THREADS", "7")  # as somebody may have set it on a node
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "object_store_memory": 80_000_000}
        made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        made.add_node(**small)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@pytest.fixture
def executor(cluster: Any, tmp_path: Path) -> Iterator[RayExecutor]:
    made = RayExecutor(tmp_path)
    yield made
    made.close()


def node(_: Unit) -> tuple[str, int]:
    """Where a unit is done, and in which process."""
    import ray

    time.sleep(0.5)
    return ray.get_runtime_context().get_node_id(), os.getpid()


def wait_for_the_end(unit: Unit) -> int:
    """Say where it began, then wait until a node is gone, on that node for ever; unit 0 does not wait."""
    where, gone = node(unit)[0], unit.folder / "gone"
    (unit.folder / f"{unit.number} {where}").touch()
    while unit.number and (not gone.exists() or gone.read_text() == where):
        time.sleep(0.1)
    return unit.number**2


@pytest.mark.slow
def test_units_are_done_on_both_nodes_with_one_thread_in_lasting_processes(executor: RayExecutor) -> None:
    seen = dict(executor.map(node, UNITS))
    assert len(seen) == len(UNITS)
    assert len({where for where, _ in seen.values()}) == len(set(seen.values())) == 2
    assert dict(executor.map(threads, UNITS[:2])) == {0: "1", 1: "1"}
    assert list(executor.map(square, [])) == []


@pytest.mark.slow
def test_workers_limits_how_many_units_are_at_work(cluster: Any, tmp_path: Path) -> None:
    executor = RayExecutor(tmp_path, workers=1)
    assert list(executor.map(square, UNITS)) == [(i, i * i) for i in range(7)]  # one after another, so in order
    executor.close()


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_unit_done_again(executor: RayExecutor, tmp_path: Path) -> None:
    seen = list(executor.map(die_once, [Unit(i, tmp_path, "kill") for i in range(5)]))
    assert sorted(seen) == [(i, i * i) for i in range(5)]


@pytest.mark.slow
def test_a_unit_that_kills_its_worker_again_and_again_ends_the_work(executor: RayExecutor, tmp_path: Path) -> None:
    with pytest.raises(WorkersDied, match="a worker died 4 times; 1 units are not done"):
        list(executor.map(die_always, [Unit(0, tmp_path)]))
    assert (tmp_path / "deaths").read_text() == "xxxx"
    with pytest.raises(KeyError, match="unit 1 has no key"):
        list(executor.map(complain, UNITS[:3]))
    assert dict(executor.map(square, UNITS[:2])) == {0: 0, 1: 1}  # and work can go on


@pytest.mark.slow
def test_units_of_a_node_that_goes_away_are_done_on_another(
    cluster: Any, executor: RayExecutor, tmp_path: Path
) -> None:
    assert dict(executor.map(square, UNITS[:1])) == {0: 0}
    third = cluster.add_node(num_cpus=2, object_store_memory=80_000_000)
    work = executor.map(wait_for_the_end, [Unit(i, tmp_path) for i in range(8)])
    seen = [next(work)]
    while not list(tmp_path.glob(f"* {third.node_id}")):
        time.sleep(0.1)
    cluster.remove_node(third, allow_graceful=False)
    (tmp_path / "partial").write_text(third.node_id)
    (tmp_path / "partial").rename(tmp_path / "gone")
    seen += work
    assert sorted(seen) == [(i, i * i) for i in range(8)]
    begun = [path.name.split()[0] for path in tmp_path.glob("* *")]
    assert len(begun) > len(set(begun)) == 8


@pytest.mark.slow
def test_a_node_that_does_not_see_the_run_directory_says_so(cluster: Any, tmp_path: Path) -> None:
    executor = RayExecutor(tmp_path / "run")
    assert dict(executor.map(square, UNITS[:1])) == {0: 0}
    shutil.rmtree(tmp_path / "run")  # as on a machine that does not share it
    with pytest.raises(ValueError, match=f"node {socket.gethostname()} does not see .*run; with executor=ray the run"):
        list(executor.map(square, UNITS[:1]))
    executor.close()


def collected(root: Path) -> dict[str, bytes]:
    """All episodes, and all rows of the evaluation."""
    files = [path for store in STORES for path in sorted((root / store).glob("*shard*"))]
    files += [root / store / "store.json" for store in STORES]
    files += [root / "evaluation" / name for name in ("entries.json", "episodes.csv")]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_collection_and_evaluation_on_two_nodes_give_the_same_bytes(
    cluster: Any, toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a relative directory, which is where the command was given and not where the nodes were started."""
    shutil.copytree(toy_run.root, tmp_path / "run")
    for stage in (*STORES, "evaluation"):
        shutil.rmtree(tmp_path / "run" / stage)
    monkeypatch.chdir(tmp_path)
    pipeline = Pipeline(replace(toy_run.config, directory="run", executor="ray"), Console(quiet=True))
    for stage in (*STORES, "evaluation"):
        pipeline.run(only=stage)
    pipeline.close()
    assert collected(tmp_path / "run") == collected(toy_run.root)
    assert len(collected(toy_run.root)) > 10
    assert not list((tmp_path / "run").glob(".seen*"))


@pytest.mark.slow
def test_metaworld_demonstrations_are_the_same_bytes(cluster: Any, tmp_path: Path) -> None:
    few = "tasks={goals_per_family: 4, validation_goals_per_family: 2, test_goals_per_family: 2}"
    made = {}
    for executor in ("local", "ray"):
        arguments = [few, "demonstrations.unit_episodes=2", f"directory={tmp_path / executor}", f"executor={executor}"]
        pipeline = Pipeline(load_config("ml1", [*arguments, "workers=1"]), Console(quiet=True))
        pipeline.run(only="demonstrations")
        pipeline.close()
        files = sorted((tmp_path / executor / "demonstrations").glob("*shard*"))
        made[executor] = {path.name: path.read_bytes() for path in files}
    assert len(made["local"]) == 4 and made["ray"] == made["local"]
