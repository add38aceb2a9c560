"""The bar in the terminal that shows how far a stage or a film is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console

from wtl.stages.units import Progress


@contextmanager
def progress_bar(console: Console, title: str) -> Iterator[Progress]:
    """Show a bar, and give what moves it."""
    columns = (
        rich.progress.TextColumn("{task.description:<22}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[note]}"),
    )
    with rich.progress.Progress(*columns, console=console) as bars:
        bar = bars.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bars.update(bar, completed=done, total=total, note=note)

        yield advance
