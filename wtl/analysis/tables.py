"""Tables of text: printed to the terminal with rich, or as Markdown to be pasted.

They know nothing of evaluations; `wtl.analysis.report` fills them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import rich.box
import rich.table
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from wtl.core.terminal import make_console

_STYLES = {"IMPROVED": "bold green", "REGRESSED": "bold red", "UNDERPOWERED": "yellow"}
"""Style of a last cell that starts with a verdict of `wtl.analysis.statistics`."""

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table before it is printed."""

    title: str
    header: Cells
    sections: tuple[tuple[Cells, ...], ...]
    """Rows, in groups that the terminal separates by a rule."""


def print_tables(tables: Iterable[Table], *, markdown: bool = False, console: Console | None = None) -> None:
    """Print to the terminal, or as Markdown to be pasted."""
    console = console or make_console()
    for table in tables:
        if markdown:
            console.print(to_markdown(table), soft_wrap=True)
        else:
            wide = _to_rich(table)
            needed = Measurement.get(console, console.options.update(width=10**6), wide).maximum
            fits = needed <= console.width
            console.print(wide if fits else _to_rich(table, stacked=True))


def to_markdown(table: Table) -> str:
    """Return the table with its title in bold above; the text ends with a newline."""
    rows = [row for section in table.sections for row in section]
    lines = [table.header, ("---",) * len(table.header), *rows]
    return f"**{table.title}**\n\n" + "".join("| " + " | ".join(map(_escaped, line)) + " |\n" for line in lines)


def _escaped(cell: str) -> str:
    """Return a cell in which nothing ends it early."""
    return cell.replace("\\", "\\\\").replace("|", "\\|")


def _to_rich(table: Table, stacked: bool = False) -> rich.table.Table:
    """Return the table; stacked, an interval stands below its number, and what is too wide is wrapped and never cut."""
    made = rich.table.Table(title=table.title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(table.header):
        made.add_column(name, no_wrap=index < 2 and not stacked, overflow="fold")
    for section in table.sections:
        for row in section:
            style = next((style for word, style in _STYLES.items() if row[-1].startswith(word)), "")
            *cells, last = (cell.replace(" [", "\n[") for cell in row) if stacked else row
            made.add_row(*cells, Text(last, style))
        made.add_section()
    return made
