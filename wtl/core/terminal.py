"""Where words go: a terminal, a file, a pipe; what users call their things is printed as it is.

Every console is made here. Nothing is read as markup, so `[red]` and `[/x]` in a path are four and four characters.
Where nobody looks on, a line is as long as it has to be: a table in a file is never cut. Where the encoding is ASCII,
what it lacks is replaced and kills nothing.
"""

from __future__ import annotations

import codecs
import sys

from rich.console import Console

_ENDLESS = 100_000
_PLAIN = {"↳": ">", "…": ".", "–": "-", "→": ">"}


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console that prints texts as they are."""
    console = Console(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    return console


def accept_every_encoding() -> None:
    """Let standard output and error replace what their encoding lacks, in place of an exception."""
    codecs.register_error("wtl.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not the stand-in of a test or a notebook
            stream.reconfigure(errors="wtl.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end
