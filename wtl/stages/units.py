"""How a stage is cut into units of work: one family each, cut before they are handed out.

Each unit brings its own seeds and writes one file, so what a stage makes depends neither on the number of workers
nor on interruptions. A file that was damaged while the stage was unfinished is made again.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from wtl.compute.executor import Executor
from wtl.core.files import sha256_of, write_atomically

Item = TypeVar("Item")

RECORD_NAME = "units.sha256"
"""The file with the checksum that each unit's file had when it was written."""

_LINE = re.compile(r"^([0-9a-f]{64})  (\S+)$", re.ASCII | re.MULTILINE)


class Progress(Protocol):
    """A progress bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show how much is done."""
        ...


class Unit(Protocol):
    """A picklable piece of work."""

    @property
    def path(self) -> Path:
        """The file that it writes last."""
        ...


def cut_by_family(items: Iterable[Item], size: int, family_of: Callable[[Item], str]) -> Iterator[tuple[Item, ...]]:
    """Yield units of at most `size` items, each of one family, families behind one another."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(family_of(item), []).append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield tuple(group[start : start + size])


def run_units(function: Callable, units: Sequence[Unit], executor: Executor, progress: Progress) -> dict[str, str]:
    """Have every unit done whose file is not there yet as it was written; return the checksum of each file by name.

    The checksums stand in a file of their own beside the units, in the format of `sha256sum`.
    """
    recorded = {directory: _recorded(directory) for directory in {unit.path.parent for unit in units}}
    left = [unit for unit in units if not _is_whole(unit.path, recorded[unit.path.parent].get(unit.path.name))]
    done = len(units) - len(left)
    progress(done, len(units))
    for index, digest in executor.map(functools.partial(_do, function), left):
        path = left[index].path
        recorded[path.parent][path.name] = digest
        _record(path.parent, recorded[path.parent])
        done += 1
        progress(done, len(units))
    return {unit.path.name: recorded[unit.path.parent][unit.path.name] for unit in units}


def _do(function: Callable, unit: Unit) -> str:
    function(unit)
    return sha256_of(unit.path)


def _is_whole(path: Path, digest: str | None) -> bool:
    try:
        # Files without a record are not asked for: a network file system would remember that they were not there.
        return digest is not None and sha256_of(path) == digest
    except OSError:
        return False


def _recorded(directory: Path) -> dict[str, str]:
    """Return the checksums that were written down; a line that is damaged counts as none, and its unit is redone."""
    path = directory / RECORD_NAME
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    return {name: digest for digest, name in _LINE.findall(text)}


def _record(directory: Path, digests: Mapping[str, str]) -> None:
    # Sorted, so that what is left in the end does not depend on who was finished first.
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    write_atomically(directory / RECORD_NAME, text.encode())
