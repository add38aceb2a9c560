"""Units of work on a Ray cluster: the same units, the same seeds, the same outcome as on one machine.

A unit runs where the cluster has a core free. It writes its result into the run directory, so that must
be on a file system that all nodes share, at the same path; a node that does not see it says so before it
plays anything. Code and packages must be installed on every node. Ray is an extra (`make ray`) and
imported on first use. Source: https://docs.ray.io/en/latest/ray-core/fault-tolerance.html
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wtl.compute.executor import RETRIES, Result, Unit, WorkersDied


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

    def _start(self) -> Any:
        if self._ray is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # spares a page of advice
            one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # a unit has one core
            address = os.environ.get("RAY_ADDRESS", "")
            try:
                _knock(address)
                import ray

                ray.init(
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": one_thread},
                )
            except OSError as error:
                where = address or "this machine"
                raise ValueError(
                    f"no Ray cluster answers at {where} ({error}); start it, or unset RAY_ADDRESS "
                    "(a cluster with a token needs RAY_AUTH_MODE=token here too)"
                ) from error
            self._directory.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
            self._ray = ray
        return self._ray

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
