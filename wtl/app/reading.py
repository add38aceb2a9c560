"""Trees of text in, dataclasses out: the declared type of a field decides what its text means.

A text is taken as it stands (`directory=007`, `off`, `12:30:00`, `run #2`, `${HOME}`), a number is digits, a truth is
a word. So nothing that a user writes turns into something else on its way.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

from wtl.app.trees import (
    NUMBER,
    WHOLE,
    ConfigError,
    Scalar,
    Tree,
    expanded,
    kind_of,
    merged,
    one_line,
    parse,
    place_of,
    placed,
    to_float,
    untyped,
)
from wtl.core.bounds import NOUNS, Text, alternatives, check, hints_of, one_of, unwrapped

_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def read_overrides(overrides: Iterable[str], kind: type) -> dict[str, Tree]:
    """Return `key=value` arguments as a tree; the value of a text field of `kind` is taken literally.

    Raises:
        ConfigError: an argument of another form.
    """
    whole: dict[str, Tree] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        path = key.split(".")
        if not equals or not all(path):
            raise ConfigError(f"expected key=value, got {override!r}; for example tasks.family=push-v3")
        whole = merged(whole, placed(path, Scalar(value) if _is_text(kind, path) else parse(value, key)))
    return whole


def _is_text(kind: Any, path: list[str]) -> bool:
    for name in path:
        hint = hints_of(kind).get(name) if dataclasses.is_dataclass(kind) else None  # type: ignore[arg-type]
        kind, _ = unwrapped(hint)
    return kind is str or typing.get_origin(kind) is Literal


def read(hint: Any, tree: Tree, default: Any, where: str) -> Any:
    """Return the value of a field.

    Args:
        hint: its annotation.
        default: of a dataclass, the one whose fields are replaced; None: its own defaults.
        where: its key, for messages.

    Raises:
        ConfigError: a key that does not exist, a value of another type or outside its declared range.
    """
    kind, rules = unwrapped(hint)
    if dataclasses.is_dataclass(kind):
        before = made(kind, where) if default is None else default  # type: ignore[arg-type]
        values = read_fields(kind, tree, before, where)  # type: ignore[arg-type]
        return made(lambda: dataclasses.replace(before, **values), where)
    value = _value(kind, tree, where)
    if isinstance(value, str) and any(isinstance(rule, Text) and rule.is_path for rule in rules):
        value = expanded(value, where)
    try:
        check(hint, value, where)
    except ValueError as error:
        raise ConfigError(f"{error}{place_of(tree)}") from error
    return value


def read_fields(kind: type, tree: Tree, default: Any, where: str) -> dict[str, Any]:
    """Return the fields of a dataclass that a section sets, by name. Raises ConfigError as `read` does."""
    hints = hints_of(kind)
    values = {}
    for name, inner in section(tree, where).items():
        key = f"{where}.{name}" if where else name
        if name not in hints:
            raise ConfigError(f"{key} does not exist{_meant(name, hints)}{place_of(inner)}")
        values[name] = read(hints[name], inner, getattr(default, name), key)
    return values


def section(tree: Tree, where: str) -> dict[str, Tree]:
    """Return the keys of a section, none where nothing is said. Raises ConfigError for anything else."""
    if isinstance(tree, Scalar) and tree.is_nothing:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} must be a section of keys, got {kind_of(tree)}{place_of(tree)}")
    return tree


def made(make: Callable[[], Any], where: str) -> Any:
    """Return what is made; where its fields do not go together, that is a ConfigError that names the section."""
    try:
        return make()
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {one_line(error)}" if where else one_line(error)) from error


def _value(kind: Any, tree: Tree, where: str) -> Any:
    members = [member for member in alternatives(kind) if member is not type(None)]
    if len(members) < len(alternatives(kind)) and isinstance(tree, Scalar) and tree.is_nothing:
        return None
    for member in members[:-1]:
        try:
            return read(member, tree, None, where)
        except ConfigError:
            continue
    last = members[-1]
    if last is not kind:
        return read(last, tree, None, where)
    origin = typing.get_origin(kind) or kind
    if kind in NOUNS:
        return _scalar(kind, tree, where)
    if origin is Literal:
        return _choice(typing.get_args(kind), tree, where)
    if origin in (tuple, list):
        return origin(_items(kind, tree, where))
    if origin is dict:
        inner = (*typing.get_args(kind), Any, Any)[1]
        return {name: read(inner, below, None, f"{where}.{name}") for name, below in section(tree, where).items()}
    if kind is Any:
        return untyped(tree)
    raise ConfigError(f"{where} is of type {kind}, which a configuration cannot hold")


def _items(kind: Any, tree: Tree, where: str) -> list[Any]:
    if not isinstance(tree, list):
        raise ConfigError(f"{where} must be a list such as [a, b], got {kind_of(tree)}{place_of(tree)}")
    hints = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and hints and hints[-1] is not Ellipsis and len(hints) != len(tree):
        raise ConfigError(f"{where} must be a list of {len(hints)}, got {len(tree)}")
    of_items = itertools.cycle([hint for hint in hints if hint is not Ellipsis] or [Any])
    return [read(hint, item, None, where) for hint, item in zip(of_items, tree, strict=False)]


def _scalar(kind: type, tree: Tree, where: str) -> Any:
    if isinstance(tree, Scalar) and not tree.is_nothing:
        text = tree.text
        if kind is str:
            return text
        if kind is bool and tree.plain and text.lower() in _TRUTHS:
            return _TRUTHS[text.lower()]
        if kind is int and tree.plain and WHOLE.fullmatch(text):
            return int(text)
        if kind is float and tree.plain and NUMBER.fullmatch(text):
            return to_float(text)
    raise ConfigError(f"{where} must be {NOUNS[kind]}, got {kind_of(tree)}{place_of(tree)}")


def _choice(words: tuple[Any, ...], tree: Tree, where: str) -> Any:
    for word in words:
        if isinstance(tree, Scalar) and tree.text == str(word):
            return word
    raise ConfigError(f"{where} must be {one_of(words)}, got {kind_of(tree)}{place_of(tree)}")


def _meant(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else f"; the keys are {', '.join(names)}"
