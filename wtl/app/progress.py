"""How far a stage is: a bar in a terminal, a line now and then in a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console

from wtl.stages.units import Progress

EVERY_S = 30.0
"""Seconds between two lines."""


@contextmanager
def progress_of(title: str, console: Console) -> Iterator[Progress]:
    """Show how far a stage is while it runs."""
    if not console.is_terminal:
        yield _Lines(title, console)
        return
    columns = (
        rich.progress.TextColumn("{task.description:<22}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[note]}", markup=False),
    )
    with rich.progress.Progress(*columns, console=console) as bars:
        bar = bars.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bars.update(bar, completed=done, total=total, note=note)

        yield advance


class _Lines:
    """The beginning, the end, and a line every half minute, so that a log file shows what goes on."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._said = time.monotonic()
        console.print(f"{title}: begins")

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """See `Progress`."""
        now = time.monotonic()
        if now - self._said >= EVERY_S or done == total:
            self._said = now
            self._console.print(f"{self._title}: {done} of {total}" + (f", {note}" if note else ""))
