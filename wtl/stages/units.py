"""How a stage is cut into units of work: one family each, cut before they are handed out.

Each unit brings its own seeds and writes one file, so what a stage makes depends neither on the number of workers
nor on interruptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from wtl.compute.executor import Executor

Item = TypeVar("Item")


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


def run_units(function: Callable, units: Sequence[Unit], executor: Executor, progress: Progress) -> None:
    """Have every unit done whose file is not there yet."""
    # Listed, not asked for one by one: a network file system would remember which were not there.
    there = {path for directory in {unit.path.parent for unit in units} for path in directory.glob("*")}
    left = [unit for unit in units if unit.path not in there]
    done = len(units) - len(left)
    progress(done, len(units))
    for _ in executor.map(function, left):
        done += 1
        progress(done, len(units))
