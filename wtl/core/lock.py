"""A folder that one command at a time may write into.

The lock is the kernel's (`flock`), so it goes with its process, however that ended. Its file is removed when it is let
go, so a command that was refused leaves nothing behind. Trap: the file may be removed between being opened and being
locked, so a lock counts only if its file still stands in the folder.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import fcntl
import itertools
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from wtl.core.files import LOCK_NAME, missing_folders, naming, remove_empty, sweep

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that knows no locks, as some of clusters do; there nobody can be kept out."""

_TRIES = 1000

_held: contextvars.ContextVar[frozenset[Path]] = contextvars.ContextVar("held", default=frozenset())


class InUseError(ValueError):
    """Another command writes into a folder; the message is one sentence for the user."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there; what a killed command left unfinished in it is removed.

    Who holds a folder already may ask again.

    Raises:
        InUseError: another process, or another thread, holds it.
        OSError: the folder cannot be made or written into.
    """
    real = directory.resolve()
    if real in _held.get():
        yield
        return
    with naming(directory):
        made = missing_folders(real)
        try:
            descriptor = _take(real / LOCK_NAME, directory)
        except BaseException:
            remove_empty(made)
            raise
    token = _held.set(_held.get() | {real})
    try:
        sweep(real)
        _sign(descriptor)
        yield
    finally:
        _held.reset(token)
        with contextlib.suppress(OSError):
            (real / LOCK_NAME).unlink(missing_ok=True)
        os.close(descriptor)
        remove_empty(made)


def _take(path: Path, directory: Path) -> int:
    tries = itertools.count(1)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # somebody has just left, and taken the empty folder along
            if next(tries) == _TRIES:  # or no folder can be made there at all, as in /proc
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _signature(descriptor)
            os.close(descriptor)
            raise InUseError(
                f"another command{who} is writing into {directory}; wait until it has ended, or choose another "
                "`directory=...`"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                return descriptor
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # on a full disk the lock is as good without a signature
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _signature(descriptor: int) -> str:
    found = re.fullmatch(rb"(process \d+ on [\w.-]+)\n", os.pread(descriptor, 300, 0))
    return f" ({found[1].decode(errors='replace')})" if found else ""
