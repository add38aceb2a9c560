"""Tables of text: printed to the terminal with rich, or as Markdown to be pasted.

They know nothing of evaluations; `wtl.analysis.report` fills them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import rich.box
import rich.table
from rich.console import Console
from rich.text import Text

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
    console = console or Console()
    for table in tables:
        if markdown:
            console.print(to_markdown(table), markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(_to_rich(table))


def to_markdown(table: Table) -> str:
    """Return the table with its title in bold above; the text ends with a newline."""
    rows = [row for section in table.sections for row in section]
    lines = [table.header, ("---",) * len(table.header), *rows]
    return f"**{table.title}**\n\n" + "".join("| " + " | ".join(map(_escaped, line)) + " |\n" for line in lines)


def _escaped(cell: str) -> str:
    """Return a cell in which nothing ends it early."""
    return cell.replace("\\", "\\\\").replace("|", "\\|")


def _to_rich(table: Table) -> rich.table.Table:
    made = rich.table.Table(title=table.title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(table.header):
        made.add_column(name, no_wrap=index < 2)
    for section in table.sections:
        for row in section:
            style = next((style for word, style in _STYLES.items() if row[-1].startswith(word)), "")
            made.add_row(*row[:-1], Text(row[-1], style))
        made.add_section()
    return made
