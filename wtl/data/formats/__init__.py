"""Other people's formats of episodes, each behind one module; `wtl.data.exchange` brings episodes in and out.

A format is a module with a `FORMAT` (`wtl.data.formats.spec`) and one line here; its library is imported when it is
used and not before.
"""

from __future__ import annotations

import importlib
from typing import cast

from wtl.data.formats.spec import Format, FormatError

FORMATS = {"hdf5": "hdf5", "minari": "minari", "parquet": "parquet"}
"""The modules of this package that read and write a format, by its name; each is also the name of an extra."""


def find_format(name: str) -> Format:
    """Return the format of this name. Raises FormatError if there is none, or if its library is not installed."""
    if name not in FORMATS:
        raise FormatError(f"unknown format {name!r}; known are {', '.join(FORMATS)}")
    try:
        module = importlib.import_module(f"{__name__}.{FORMATS[name]}")
    except ImportError as error:
        hint = f"pip install 'wtl[{name}]'"
        raise FormatError(f"format {name} needs a library that is missing ({error}): {hint}") from error
    return cast(Format, module.FORMAT)
