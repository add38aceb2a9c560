"""Makes `docs/configuration.md`: every key of a configuration, with its type, its default and its docstring.

python -m docs.make_configuration           # write the page
python -m docs.make_configuration --check   # exit code 1 if the page is not what the code says
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import typing
from pathlib import Path
from typing import Any

from wtl.app.config import RunConfig
from wtl.core.bounds import alternatives, hints_of, item_hint, range_of, unwrapped
from wtl.methods.registry import METHODS

PAGE = Path(__file__).parent / "configuration.md"
HEAD = """# Configuration

<!-- Made by docs/make_configuration.py from the docstrings of the dataclasses. -->

A configuration is a preset of `configs/`, a YAML file, or a run directory; a file may name another one beside it as its
`base`. On the command line `key=value` changes any key, for instance `tasks.family=push-v3` or
`methods.imitation.retrial.train.steps=1000`. A key that does not exist, or a value of another type or outside its
range, is refused in one sentence before anything is written. Each section below is one dataclass; where a key holds
another dataclass, its section is named.

The type of a key decides what its text means, so texts need no quotes: `directory=007`, `directory=off` and
`directory=runs/run #2` are folders of these names. Nothing is looked up or resolved (`${...}` stays as it is), `~` at
the beginning of a path is the home directory. In a file, a ` #` begins a comment; aliases (`*name`) and a key that
stands there twice are refused.

"""


def explained(kind: type) -> dict[str, str]:
    """Return the docstring of each field, as it stands in the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    last = ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            found[last] = ""
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[last] = " ".join(str(node.value.value).split())
            last = ""
        else:
            last = ""
    return found


def type_of(hint: Any) -> str:
    """Return a type as a reader of the page would say it."""
    kind, _ = unwrapped(hint)
    members = alternatives(kind)
    if len(members) > 1:
        return " or ".join("null" if member is type(None) else type_of(member) for member in members)
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{word}`" for word in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"list of {type_of(item_hint(kind))}"
    if typing.get_origin(kind) is dict:
        return "section"
    names = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def differences(value: Any, usual: Any, prefix: str = "") -> list[str]:
    """Return `key=value` of what differs from the dataclass's own defaults."""
    found = []
    for field in dataclasses.fields(value):
        mine, other = getattr(value, field.name), getattr(usual, field.name)
        if dataclasses.is_dataclass(mine):
            found += differences(mine, other, f"{prefix}{field.name}.")
        elif mine != other:
            found.append(f"{prefix}{field.name}={shown(mine)}")
    return found


def shown(value: Any) -> str:
    """Return a value as a configuration writes it."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(shown(one) for one in value)}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value)) if value != "" else '""'


def section(title: str, kind: type, todo: list[type]) -> str:
    """Return the table of one dataclass; the dataclasses that its fields hold are added to `todo`."""
    about: dict[str, str] = {}
    for one in reversed(kind.__mro__):  # a configuration may have its first fields from another
        about |= explained(one) if dataclasses.is_dataclass(one) else {}
    usual = kind()
    lines = [f"## {title}", "", (inspect.getdoc(kind) or "").split("\n")[0], ""]
    lines += ["| key | type | range | default | |", "| --- | --- | --- | --- | --- |"]
    for field in dataclasses.fields(kind):
        value = getattr(usual, field.name)
        hint = hints_of(kind)[field.name]
        default = f"`{shown(value)}`"
        if dataclasses.is_dataclass(value):
            if type(value) not in todo:
                todo.append(type(value))
            changed = differences(value, type(value)())
            default = f"as in {type(value).__name__}" + (f", with `{' '.join(changed)}`" if changed else "")
        cells = (f"`{field.name}`", type_of(hint), range_of(hint), default, about[field.name])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def page() -> str:
    """Return the whole page."""
    todo: list[type] = []
    sections = [section("The run (RunConfig)", RunConfig, todo)]
    sections += [section(f"`methods.{spec.name}` ({spec.config.__name__})", spec.config, todo) for spec in METHODS]
    done = 0
    while done < len(todo):  # sections add to the list
        sections.append(section(todo[done].__name__, todo[done], todo))
        done += 1
    return HEAD + "\n".join(sections)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.is_file() and PAGE.read_text() == page() else f"{PAGE.name} is stale; run {sys.argv[0]}")
    PAGE.write_text(page())
