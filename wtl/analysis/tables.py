"""Tables of text: printed to the terminal with rich, or as Markdown or LaTeX to be pasted.

They know nothing of evaluations; `wtl.analysis.report` fills them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import rich.box
import rich.table
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from wtl.core.terminal import make_console

_STYLES = {"IMPROVED": "bold green", "lower": "bold red", "undecided": "yellow"}
"""Style of a last cell that starts with a verdict of `wtl.analysis.statistics`."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "↳": r"$\hookrightarrow$",
}  # fmt: skip

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table before it is printed."""

    title: str
    header: Cells
    sections: tuple[tuple[Cells, ...], ...]
    """Rows, in groups that the terminal separates by a rule."""
    notes: tuple[str, ...] = ()
    """Sentences that stand below it."""


def print_tables(
    tables: Iterable[Table], *, as_text: Callable[[Table], str] | None = None, console: Console | None = None
) -> None:
    """Print to the terminal, or as the text that `to_markdown` or `to_latex` makes of each table."""
    console = console or make_console()
    for table in tables:
        if as_text:
            console.print(as_text(table), soft_wrap=True)
            continue
        wide = _to_rich(table)
        needed = Measurement.get(console, console.options.update(width=10**6), wide).maximum
        fits = needed <= console.width
        console.print(wide if fits else _to_rich(table, stacked=True))
        for note in table.notes:
            console.print(note, style="dim")
        console.print()


def to_markdown(table: Table) -> str:
    """Return the table with its title in bold above and its notes below; the text ends with a newline."""
    rows = [row for section in table.sections for row in section]
    lines = [table.header, ("---",) * len(table.header), *rows]
    text = f"**{table.title}**\n\n" + "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)
    return text + "".join(f"\n{note}\n" for note in table.notes)


def _cell(text: str) -> str:
    """Return a cell in which nothing ends it early."""
    return text.replace("\\", "\\\\").replace("|", "\\|")


def to_latex(table: Table) -> str:
    """Return a `table` environment, with rules of the package booktabs; the text ends with a newline."""
    columns = "l" * min(1, len(table.header)) + "r" * (len(table.header) - 1)
    lines = [
        r"\begin{table}", r"  \centering", rf"  \caption{{{_latex(' '.join((table.title + '.', *table.notes)))}}}",
        rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule", _latex_row(table.header), r"    \midrule",
    ]  # fmt: skip
    for number, section in enumerate(table.sections):
        lines += [r"    \midrule"] * (number > 0) + [_latex_row(row) for row in section]
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


def _latex_row(cells: Cells) -> str:
    return "    " + " & ".join(map(_latex, cells)) + r" \\"


def _latex(text: str) -> str:
    # An empty group first: LaTeX reads a bracket at the beginning of a row as an option of the row before.
    return ("{}" if text.startswith("[") else "") + "".join(_LATEX.get(letter, letter) for letter in text)


def _to_rich(table: Table, stacked: bool = False) -> rich.table.Table:
    """Return the table; stacked, an interval stands below its number, and what is too wide is wrapped and never cut."""
    made = rich.table.Table(
        title=Text(table.title, "italic"), title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for index, name in enumerate(table.header):
        last = index == len(table.header) - 1
        made.add_column(name, no_wrap=index < 2 and not stacked, overflow="fold", min_width=11 if last else None)
    for section in table.sections:
        for row in section:
            style = next((style for word, style in _STYLES.items() if row[-1].startswith(word)), "")
            *cells, final = (cell.replace(" [", "\n[") for cell in row) if stacked else row
            made.add_row(*map(Text, cells), Text(final, style))
        made.add_section()
    return made
