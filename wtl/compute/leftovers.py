"""Ends what a process has started and left running when it was killed; a program of its own, of the library alone.

It reads its input, which ends with the process that started it, however that ended; until then it looks every second
which processes descend from that one, because afterwards nobody can tell. Linux only: elsewhere it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_GRACE_S = 3.0
"""How long those that notice by themselves have for an orderly end."""


def start_watching() -> subprocess.Popen[bytes]:
    """Start the watcher of this process. Closing its input by `stop_watching` sends it away."""
    command = [sys.executable, "-I", __file__, str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def stop_watching(watcher: subprocess.Popen[bytes]) -> None:
    """End the watcher, at a good end, when there is nothing left to look after."""
    watcher.kill()
    watcher.communicate()


def _descendants(parent: int) -> dict[int, str]:
    """Return the processes that descend from one, each with the time of its start, by which it is known again."""
    found: dict[int, str] = {}
    for child in _children(parent):
        with contextlib.suppress(OSError):
            found |= {child: _start_of(child)} | _descendants(child)
    return found


def _children(parent: int) -> list[int]:
    lists = Path(f"/proc/{parent}/task").glob("*/children")
    with contextlib.suppress(OSError):
        return [int(child) for path in lists for child in path.read_text().split()]
    return []


def _start_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def _watch(parent: int) -> None:
    known: dict[int, str] = {}
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        known |= _descendants(parent)
    time.sleep(_GRACE_S)
    for process, start in known.items():
        with contextlib.suppress(OSError):
            if process != os.getpid() and _start_of(process) == start:
                os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
