"""Independent units of work on the cores of this machine; `wtl.compute.ray` does them on many machines.

A unit is a picklable function call that writes its own result to disk. The outcome does not depend
on the number of workers, because units are cut before they are handed out and each brings its own
seeds. A worker that dies is replaced and its units are done again. Free of torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")

RETRIES = 3
"""How often a unit is done again whose worker died under it."""


_PR_SET_PDEATHSIG = 1


class WorkersDied(RuntimeError):
    """Workers died again and again, so that units are left undone; the message is one sentence for the user."""


class Executor(Protocol):
    """Where units of work are done."""

    def map(self, function: Callable[[Unit], Result], units: Sequence[Unit]) -> Iterator[tuple[int, Result]]:
        """Yield (index of the unit, result) as the units finish, in any order."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


class SerialExecutor:
    """Everything in this process: for tests, debugging and tiny jobs."""

    def map(self, function: Callable[[Unit], Result], units: Sequence[Unit]) -> Iterator[tuple[int, Result]]:
        """See `Executor.map`; units run in order."""
        for index, unit in enumerate(units):
            yield index, function(unit)

    def close(self) -> None:
        """Nothing to do."""


class LocalExecutor:
    """Worker processes on this machine, one thread each; started on first use, kept between stages."""

    def __init__(self, workers: int = 0) -> None:
        self._workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[multiprocessing.process.BaseProcess] = set()

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Spawned, not forked: neither torch's threads nor EGL contexts survive a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, _be_a_worker, (os.getpid(),))
            self._others = set(multiprocessing.active_children())
            # Each worker has one core; a second thread of torch or BLAS would only steal from its neighbour.
            with _environment(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1"), _without_interrupts():
                started = [self._pool.submit(os.getpid) for _ in range(self._workers)]
            for future in started:
                future.result()
        return self._pool

    def map(self, function: Callable[[Unit], Result], units: Sequence[Unit]) -> Iterator[tuple[int, Result]]:
        """See `Executor.map`. Raises what a unit raised; WorkersDied if a unit kills its worker again and again."""
        left = dict(enumerate(units))
        deaths = 0
        while left:
            try:
                pool = self._start()
                futures = {pool.submit(function, unit): index for index, unit in left.items()}
                for future in as_completed(futures):
                    result = future.result()
                    index = futures[future]
                    del left[index]
                    yield index, result
            except BrokenProcessPool as error:
                self._pool = None
                deaths += 1
                if deaths > RETRIES:
                    raise WorkersDied(f"a worker died {deaths} times; {len(left)} units are not done") from error
            except BaseException:
                self.stop()
                raise

    def close(self) -> None:
        """Let the workers go when they have done what they are at, without waiting for queued units."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def stop(self) -> None:
        """Stop the workers at once. A unit's file is whole or not there, so nothing is lost but time."""
        if self._pool is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self.close()


def _be_a_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it, however it ended: an orphan would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        # Linux ends it at once, before another command can take the directory; elsewhere a thread looks every second.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to this process: what is started meanwhile never hears of it, not even while it imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
