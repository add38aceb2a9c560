"""Units of work on a Ray cluster: the same units, the same seeds, the same outcome as on one machine.

A unit runs where the cluster has a core free. It writes its result into the run directory, so that must
be on a file system that all nodes share, at the same path; a node that does not see it says so before it
plays anything. Code and packages must be installed on every node. Ray is an extra (`make ray`) and
imported on first use. Source: https://docs.ray.io/en/latest/ray-core/fault-tolerance.html
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import secrets
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from wtl.compute.executor import RETRIES, Result, Unit, WorkersDied
from wtl.compute.leftovers import start_watching, stop_watching

OLDEST = Version("2.52")
"""The first Ray that refuses a client without its token."""


class RayExecutor:
    """Joins the cluster of RAY_ADDRESS or of this machine, or starts Ray here if there is none; see `Executor`."""

    def __init__(self, directory: Path, workers: int = 0) -> None:
        """`directory` is where units write; `workers` limits how many are at work, 0 means all cores.

        Raises:
            ValueError: Ray is not installed.
        """
        if importlib.util.find_spec("ray") is None:
            raise ValueError("executor=ray needs Ray, which is not installed; run `make ray`, or set executor=local")
        self._directory, self._workers = directory, workers
        self._mark = directory / f".seen-by-all-nodes-{uuid.uuid4().hex}"
        self._ray: Any = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def _start(self) -> Any:
        if self._ray is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # spares a page of advice
            address = os.environ.get("RAY_ADDRESS", "")
            alone = not address and "RAY_AUTH_MODE" not in os.environ
            # Whoever reaches a Ray without a token can run any code on it; to be set before Ray is imported.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            if alone:
                os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            try:
                _knock(address)
                ray = self._init(alone)
            except (OSError, RuntimeError) as error:  # the watcher stays, for what has started all the same
                where = address or "this machine"
                raise ValueError(
                    f"no Ray cluster answers at {where} ({str(error).splitlines()[0]}); start it, or unset RAY_ADDRESS "
                    "(a cluster with a token needs it here too; RAY_AUTH_MODE=disabled joins one without)"
                ) from error
            self._directory.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
            self._ray = ray
        return self._ray

    def _init(self, alone: bool) -> Any:
        """Import Ray and join a cluster, or with `alone` start one that nobody else can join; return the module."""
        _check_version()
        if not os.environ.get("RAY_ADDRESS"):
            self._watcher = start_watching()  # Ray's agents outlive a driver that was killed
        import ray

        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # a unit has one core
        try:
            ray.init(
                address="local" if alone else None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": one_thread},
            )
        except Exception as error:  # which one it is depends on what is missing; a node that is slow raises just this
            raise ConnectionError(str(error) or type(error).__name__) from error
        return ray

    def map(self, function: Callable[[Unit], Result], units: Sequence[Unit]) -> Iterator[tuple[int, Result]]:
        """See `Executor.map`.

        Raises:
            ValueError: a node does not see the run directory.
            WorkersDied: a unit's worker or node died again and again.
            Exception: whatever a unit raised.
        """
        if not units:
            return
        ray = self._start()
        work = ray.remote(num_cpus=1, max_retries=RETRIES)(_do)
        waiting, at_work = list(enumerate(units))[::-1], dict[Any, int]()
        most = self._workers or len(units)
        try:
            while waiting or at_work:
                while waiting and len(at_work) < most:
                    index, unit = waiting.pop()
                    at_work[work.remote(function, unit, Path.cwd(), self._mark)] = index
                [done], _ = ray.wait(list(at_work), num_returns=1)
                result = ray.get(done)
                yield at_work.pop(done), result
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            left = len(waiting) + len(at_work)
            raise WorkersDied(f"a worker died {RETRIES + 1} times; {left} units are not done") from error
        finally:
            for left_over in at_work:
                ray.cancel(left_over, force=True)

    def close(self) -> None:
        """Leave the cluster, or stop the Ray that was started here."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None
            self._mark.unlink(missing_ok=True)
        self._end_watching()

    def _end_watching(self) -> None:
        if self._watcher is not None:
            stop_watching(self._watcher)
            self._watcher = None


def _check_version() -> None:
    """Raises ValueError for a Ray that knows no tokens: whoever reaches it could run any code."""
    found = importlib.metadata.version("ray")
    if Version(found) < OLDEST:
        raise ValueError(
            f"executor=ray needs Ray {OLDEST} or newer, got {found}; run `make ray`, or set executor=local"
        )


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def _do(function: Callable[[Unit], Result], unit: Unit, folder: Path, mark: Path) -> Result:
    """One unit, in the folder where the command was given, because its paths may be relative to it."""
    with contextlib.suppress(FileNotFoundError):
        os.chdir(folder)
    if not mark.is_file():
        raise ValueError(
            f"node {socket.gethostname()} does not see {mark.parent}; with executor=ray the run directory must be on "
            "a file system that all nodes share, at the same path"
        )
    return function(unit)
