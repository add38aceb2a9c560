"""Runs shown in TensorBoard, which is started as a program of its own, at the address where nothing is smoothed.

TensorBoard smooths curves unless it is told not to, and a smoothed curve of three points is false. It also has seven
colours, which training curves would use up, so the address gives colours to the improvement curves alone. Each run is
shown under its own name. Source: TensorBoard 2.21, whose address holds what its page is set to.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

_PAGE = (
    "?smoothing=0&tagFilter=improvement%2Fsuccess&runFilter=curves&runColorGroup=regex%3A%28.*curves.*%29#timeseries"
)
_PORTS_TRIED = 20


def address(port: int) -> str:
    """Return where TensorBoard shows the improvement curves as they were measured."""
    return f"http://localhost:{port}/{_PAGE}"


def find_port(first: int) -> int:
    """Return the first of twenty ports that is free on this machine. Raises ValueError if none is."""
    for port in range(first, min(first + _PORTS_TRIED, 2**16)):
        with contextlib.closing(socket.socket()) as probe:
            try:
                probe.bind(("localhost", port))
            except (OSError, OverflowError):
                continue
            return port
    raise ValueError(f"no port from {first} on is free for TensorBoard; choose another one with --port")


def link_runs(runs: Sequence[Path], directory: Path) -> None:
    """Put a link to the curves of each run into a directory, by the run's name, or by its path if names are alike.

    Raises:
        FileNotFoundError: a run has no curves.
    """
    for run in runs:
        if not (run / "tensorboard").is_dir():
            raise FileNotFoundError(
                f"{run} has no TensorBoard curves (no {run / 'tensorboard'}); `wtl run` and `wtl evaluate` write them"
            )
    paths = list(dict.fromkeys(run.resolve() for run in runs))
    names = [path.name for path in paths]
    clash = len(set(names)) < len(names)
    for path, name in zip(paths, names, strict=True):
        link = str(path).strip("/").replace("/", "_") if clash else name
        (directory / link).symlink_to(path / "tensorboard", target_is_directory=True)


@contextlib.contextmanager
def tensorboard(runs: Sequence[Path], first_port: int = 6006, patience_s: float = 120.0) -> Iterator[tuple[str, int]]:
    """Start TensorBoard on these runs, give its address and its process id once it answers, and stop it at the end.

    Raises:
        FileNotFoundError: a run has no curves.
        ValueError: no port is free, or TensorBoard does not start.
    """
    with tempfile.TemporaryDirectory(prefix="wtl-tensorboard-") as name:
        logs, said = Path(name) / "runs", Path(name) / "tensorboard.log"
        logs.mkdir()
        link_runs(runs, logs)
        port = find_port(first_port)
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", str(port)]
        with said.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                _wait_until_it_answers(process, port, said, patience_s)
                yield address(port), process.pid
            finally:
                process.terminate()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, said: Path, patience_s: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    end = time.monotonic() + patience_s
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            opener.open(f"http://localhost:{port}/", timeout=5).close()
            return
        time.sleep(0.2)
    lines = said.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    raise ValueError(f"TensorBoard did not start: {lines[-1]}")
