"""Files that are either the old ones or whole new ones, whatever happens meanwhile, and what went wrong with one.

What is not whole yet has a random name and is created by whoever writes it, so a link that somebody planted is never
followed; it is removed on an error, and after a kill by the next command that holds the folder (`wtl.core.lock`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

LOCK_NAME = ".lock"
"""The file by which a folder is held, see `wtl.core.lock`."""

_PARTIAL = re.compile(r"\.(.+\.\d+|[0-9a-f]{16})\.partial")
"""What is not whole yet; the first form is that of earlier versions."""

_DIGEST_LENGTH = 64


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file such that it is either the old one or the whole new one, whatever happens meanwhile.

    Raises:
        OSError: it could not be written; the old one is still there and nothing else is left behind.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial_beside(path)
        file = partial.open("xb")
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def scratch_folder(directory: Path) -> Iterator[Path]:
    """Give an empty folder inside another one, for files that others write; it is removed in the end.

    So are the folders above it that were made for it, if nothing was moved into them.
    """
    made = missing_folders(directory)
    try:
        with naming(directory):
            directory.mkdir(parents=True, exist_ok=True)
            folder = _partial_beside(directory / "any")
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        remove_empty(made)


def missing_folders(directory: Path) -> list[Path]:
    """Return a folder and those above it that are not there, the deepest first."""
    return [folder for folder in (directory, *directory.parents) if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders, the deepest first, into which nothing was written."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _partial_beside(path: Path) -> Path:
    # The name does not grow with that of the file, which may be as long as the file system allows.
    return path.parent / f".{secrets.token_hex(8)}.partial"


def sweep(directory: Path) -> None:
    """Remove what commands that were killed left unfinished in a folder that this process holds."""
    for parent, folders, files in os.walk(directory):
        if Path(parent) != directory and LOCK_NAME in files:  # somebody else may be at work there
            folders.clear()
            continue
        for name in [name for name in (*folders, *files) if _PARTIAL.fullmatch(name)]:
            path = Path(parent, name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
                folders.remove(name)
            else:
                path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: bytes) -> bytes:
    """Return the content behind its checksum, for files whose own format has none."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unsealed(content: bytes) -> bytes:
    """Return what `sealed` was given. Raises ValueError if a byte of it is another one or missing."""
    head, content = content[: _DIGEST_LENGTH + 1], content[_DIGEST_LENGTH + 1 :]
    if hashlib.sha256(content).hexdigest().encode() + b"\n" != head:
        raise ValueError("its checksum is another one")
    return content


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of the operating system name this path, which those of a full disk do not do by themselves."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


_BAD_LUCK = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or set workers lower",
    errno.ENFILE: "close other programs, or set workers lower",
    errno.ENOMEM: "close other programs, or set workers lower",
    errno.EAGAIN: "close other programs, or set workers lower",
    errno.EIO: "look after that disk",
}
_MISTAKES = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name another place, for instance with directory=...",
    errno.EISDIR: "a file belongs there: move that folder away, or name another place",
    errno.ENOTDIR: "a folder belongs where a file stands: move that file away, or name another place",
    errno.EEXIST: "a folder belongs where a file stands: move that file away, or name another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a link stands there: remove it, or name another place",
    errno.ENOENT: "look whether the name is right",
}


def explain(error: OSError) -> str:
    """Return one sentence about an error of the operating system: which file, why, and how to go on."""
    if error.errno is None:
        return str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    advice = {**_BAD_LUCK, **_MISTAKES}.get(error.errno, "mend that")
    return f"{where}{error.strerror}; {advice}. The same command goes on where this one stopped"


def is_bad_luck(error: OSError) -> bool:
    """Return whether the machine is to blame (a full disk), not what was asked of it (a name that is too long)."""
    return error.errno in _BAD_LUCK
