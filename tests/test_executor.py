"""Workers come and go; the outcome stays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wtl.compute.executor import Executor, LocalExecutor, SerialExecutor, WorkersDied


@dataclass(frozen=True)
class Unit:
    """A number, and a folder in which a unit remembers that it was here before."""

    number: int
    folder: Path = Path()
    way: str = ""


def square(unit: Unit) -> int:
    return unit.number**2


def die_once(unit: Unit) -> int:
    """Number 2 takes its worker with it the first time."""
    mark = unit.folder / f"{unit.number}"
    if unit.number == 2 and not mark.exists():
        mark.touch()
        if unit.way == "exit":
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return unit.number**2


def die_always(unit: Unit) -> int:
    with (unit.folder / "deaths").open("a") as file:
        file.write("x")
    os._exit(1)


def complain(unit: Unit) -> int:
    if unit.number == 1:
        raise KeyError("unit 1 has no key")
    return unit.number


def threads(_: Unit) -> str:
    return os.environ["OMP_NUM_THREADS"]


@pytest.fixture(scope="module")
def local() -> Iterator[LocalExecutor]:
    executor = LocalExecutor(2)
    yield executor
    executor.close()


UNITS = [Unit(i) for i in range(7)]


def test_results_do_not_depend_on_the_number_of_workers(local: Executor) -> None:
    expected = {i: i * i for i in range(7)}
    for executor in (SerialExecutor(), local):
        assert dict(executor.map(square, UNITS)) == expected
    assert list(SerialExecutor().map(square, UNITS)) == list(expected.items())  # in order
    assert list(local.map(square, [])) == []


def test_workers_have_one_thread_and_the_parent_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    executor = LocalExecutor(1)
    assert dict(executor.map(threads, UNITS[:1])) == {0: "1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    executor.close()


def test_a_worker_that_dies_is_replaced_and_its_unit_done_again(local: Executor, tmp_path: Path) -> None:
    units = [Unit(i, tmp_path, "kill") for i in range(5)]
    seen = list(local.map(die_once, units))
    assert sorted(seen) == [(i, i * i) for i in range(5)]  # each once


def test_a_worker_that_dies_while_units_are_still_handed_out_is_replaced(local: Executor, tmp_path: Path) -> None:
    units = [Unit(2, tmp_path, "exit"), *(Unit(i, tmp_path) for i in range(3, 1000))]
    assert len(dict(local.map(die_once, units))) == len(units)


def test_a_unit_that_kills_its_worker_again_and_again_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wtl.compute.executor.RETRIES", 1)  # three in earnest, which takes longer to say the same
    executor = LocalExecutor(1)
    with pytest.raises(WorkersDied, match="a worker died 2 times; 1 units are not done"):
        list(executor.map(die_always, [Unit(0, tmp_path)]))
    assert (tmp_path / "deaths").read_text() == "xx"
    executor.close()


def test_what_a_unit_raises_is_raised_here(local: Executor) -> None:
    for executor in (SerialExecutor(), local):
        with pytest.raises(KeyError, match="unit 1 has no key"):
            list(executor.map(complain, UNITS[:3]))
    assert dict(local.map(square, UNITS[:2])) == {0: 0, 1: 1}  # and work can go on


def sleep(unit: Unit) -> int:
    (unit.folder / f"{os.getpid()}").touch()
    if unit.number:
        time.sleep(600)
    return unit.number


def test_what_interrupts_the_work_stops_the_workers_at_once(tmp_path: Path) -> None:
    executor = LocalExecutor(2)
    for number, _ in executor.map(sleep, [Unit(0, tmp_path), Unit(1, tmp_path), Unit(2, tmp_path)]):
        assert number == 0
        break  # as good as an exception here: nobody waits for the rest
    gone = [int(path.name) for path in tmp_path.iterdir()]
    assert gone and not [pid for pid in gone if Path(f"/proc/{pid}").exists()]
    assert dict(executor.map(square, UNITS[:2])) == {0: 0, 1: 1}
    executor.close()


def blocked(_: Unit) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_is_left_to_the_parent(local: Executor) -> None:
    assert dict(local.map(blocked, UNITS[:1])) == {0: True}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_closing_twice_is_closing() -> None:
    executor = LocalExecutor(1)
    executor.close()
    executor.close()
    SerialExecutor().close()
