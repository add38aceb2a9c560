"""YAML and `key=value` as trees of text: what stands where, before anybody says what it means.

`wtl.app.reading` gives a tree its types. YAML decides nothing but where a text begins and ends: nothing is resolved,
looked up or executed. Traps: in files a ` #` begins a comment; aliases are refused, because with them a short file
can stand for an endless one. The only module that imports yaml and OmegaConf.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from omegaconf import OmegaConf

from wtl.core.bounds import shown


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Scalar:
    """One text of a configuration."""

    text: str
    plain: bool = False
    """Whether it stands without quotes, so that `3` may be a number."""
    place: str = ""
    """Where it stands in a file, for messages; empty on the command line, where it is seen."""

    @property
    def is_nothing(self) -> bool:
        """Whether it is empty or YAML's null."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")

    def __str__(self) -> str:
        return "nothing" if self.is_nothing else shown(self.text)


Tree: TypeAlias = "dict[str, Tree] | list[Tree] | Scalar"
NOTHING = Scalar("", plain=True)

WHOLE = re.compile(r"[-+]?[0-9]{1,1000}")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.?(inf|nan)", re.IGNORECASE)


DEEPEST = 50


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        mark = event.start_mark
        if getattr(event, "tag", None):
            raise yaml.composer.ComposerError(None, None, f"tags ({event.tag}) are not read; leave it out", mark)
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not read; write the value out", mark)
        if self.depth == DEEPEST:  # deeper, and yaml's time grows with the square
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {DEEPEST} deep", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse(content: str, name: str, is_file: bool = False) -> Tree:
    """Return what a YAML text holds.

    Args:
        name: what messages call it; of a file, they give the line of each value too.

    Raises:
        ConfigError: it is not YAML, or names a key twice.
    """
    try:
        node = _Loader(content).get_single_node()
        return NOTHING if node is None else _tree(node, name if is_file else "")
    except yaml.MarkedYAMLError as error:
        said = " ".join(filter(None, (error.context, error.problem))) or error
        line = f" (line {error.problem_mark.line + 1})" if is_file and error.problem_mark else ""
        raise ConfigError(f"{name} is not YAML{line}: {one_line(said)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {one_line(error)}") from error


def _tree(node: yaml.Node, file: str) -> Tree:
    if isinstance(node, yaml.ScalarNode):
        return Scalar(node.value, node.style is None, f" ({file}, line {node.start_mark.line + 1})" if file else "")
    if isinstance(node, yaml.SequenceNode):
        return [_tree(item, file) for item in node.value]
    keys: dict[str, Tree] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
        if key.value in keys:
            problem = f"the key {key.value!r} stands there twice"
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        keys[key.value] = _tree(value, file)
    return keys


def read_file(path: Path) -> dict[str, Tree]:
    """Return a YAML file merged into the one that its key `base` names, beside it.

    Raises:
        ConfigError: a file that cannot be read, is no YAML or no section, or is its own base.
    """
    return _read_file(path, ())


def _read_file(path: Path, above: tuple[Path, ...]) -> dict[str, Tree]:
    if path.resolve() in above:
        raise ConfigError(f"{path} is its own base; remove the key `base`")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"the configuration {path} cannot be read: {reason}") from error
    tree = parse(content, str(path), is_file=True)
    if not isinstance(tree, dict):
        if isinstance(tree, Scalar) and tree.is_nothing:
            return {}
        raise ConfigError(f"{path} must hold `key: value` lines, got {kind_of(tree)}")
    base = tree.pop("base", NOTHING)
    if not isinstance(base, Scalar):
        raise ConfigError(f"base must be the name of a file beside {path}, got {kind_of(base)}")
    if base.is_nothing:
        return tree
    return merged(_read_file(path.parent / expanded(base.text, "base"), (*above, path.resolve())), tree)


class _Leaf:
    """What OmegaConf hands on as it is: it would look into texts for interpolations, and into dataclasses."""

    def __init__(self, tree: Scalar | list[Tree]) -> None:
        self.tree = tree


def merged(below: Mapping[str, Tree], above: Mapping[str, Tree]) -> dict[str, Tree]:
    """Return the first tree with what the second one says, section by section, as OmegaConf merges them."""
    layers = [OmegaConf.create(_closed(tree), flags={"allow_objects": True}) for tree in (below, above)]
    whole: dict[str, Any] = OmegaConf.to_container(OmegaConf.merge(*layers))  # type: ignore[assignment]
    return _opened(whole)


def _closed(tree: Mapping[str, Tree]) -> dict[str, Any]:
    return {name: _closed(inner) if isinstance(inner, dict) else _Leaf(inner) for name, inner in tree.items()}


def _opened(tree: Mapping[str, Any]) -> dict[str, Tree]:
    return {name: _opened(inner) if isinstance(inner, dict) else inner.tree for name, inner in tree.items()}


def placed(path: Iterable[str], tree: Tree) -> dict[str, Tree]:
    """Return a tree that holds another one at this path of keys; at least one."""
    *outer, last = path
    whole = {last: tree}
    for name in reversed(outer):
        whole = {name: whole}
    return whole


def expanded(path: str, where: str) -> str:
    """Return a path with the home directory in the place of `~`. Raises ConfigError for a user who is not there."""
    whole = os.path.expanduser(path)
    if whole.startswith("~"):
        raise ConfigError(f"{where}: there is no home directory for {shown(path)}; write ./{path} for a folder here")
    return whole


def kind_of(tree: Tree) -> str:
    """Return what a message says it got."""
    return "a section of keys" if isinstance(tree, dict) else "a list" if isinstance(tree, list) else str(tree)


def place_of(tree: Tree) -> str:
    """Return where a value of a file stands, for the end of a message."""
    return tree.place if isinstance(tree, Scalar) else ""


def untyped(tree: Tree) -> Any:
    """Return what YAML 1.2 says a value is, where no type is declared."""
    if isinstance(tree, dict):
        return {name: untyped(inner) for name, inner in tree.items()}
    if isinstance(tree, list):
        return [untyped(item) for item in tree]
    if not tree.plain:
        return tree.text
    if tree.is_nothing:
        return None
    if tree.text in ("true", "false"):
        return tree.text == "true"
    if WHOLE.fullmatch(tree.text):
        return int(tree.text)
    is_number = NUMBER.fullmatch(tree.text) and (tree.text[-1].isdigit() or "." in tree.text)
    return to_float(tree.text) if is_number else tree.text


def to_float(text: str) -> float:
    """Return the number of a text that `NUMBER` matches."""
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def to_text(content: Mapping[str, Any]) -> str:
    """Return plain values as YAML that is read as the same values again."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6))


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes every text that stands for something else without quotes."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = isinstance(untyped(Scalar(text, plain=True)), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else "'")


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_list(list(value)))


def one_line(error: object) -> str:
    """Return a message on one line."""
    return " ".join(str(error).split())
