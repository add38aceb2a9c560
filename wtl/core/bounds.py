"""What a field of a configuration may hold: declared with its type, checked in one place.

`steps: Annotated[int, Between(1, 10**9)] = 2000` says it; whoever makes the dataclass, from a YAML file, from a
checkpoint or in Python, gets one sentence for anything else. What two fields say together (`width` must be a
multiple of `heads`) stays in `__post_init__`. Numbers without a declaration have to be finite, and texts without one
hold no control characters, so configurations of methods from outside are checked as well.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Between:
    """The numbers from `low` to `high`; both ends belong to them unless they are open."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if math.isinf(self.low):
            return "a finite number"
        if not self.open_low and not self.open_high:
            return f"between {_plain(self.low)} and {_plain(self.high)}"
        low = f"more than {_plain(self.low)}" if self.open_low else f"at least {_plain(self.low)}"
        high = f"less than {_plain(self.high)}" if self.open_high else f"at most {_plain(self.high)}"
        return f"{low} and {high}"


@dataclass(frozen=True)
class Listed:
    """A list of so many entries, all of them different unless they may be repeated."""

    least: int = 0
    most: int = 1000
    repeated: bool = False

    def __contains__(self, value: tuple[Any, ...]) -> bool:
        return self.least <= len(value) <= self.most and (self.repeated or len(set(value)) == len(value))

    def __str__(self) -> str:
        number = f"a list of {self.least} to {self.most} entries"
        return number if self.repeated else f"{number}, none of them twice"


@dataclass(frozen=True)
class Text:
    """A text of one line; `what` says in words what `pattern` matches."""

    what: str
    pattern: str = r".*"
    is_path: bool = False
    """Whether it may be a path, in which `~` stands for the home directory."""

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.what


Rule = Between | Listed | Text
FINITE = Between(-math.inf, math.inf, open_low=True, open_high=True)
PRINTABLE = Text("text without control characters and line ends", r"[^\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]*")
"""The last are halves of characters, by which no file can be named."""

Count = Annotated[int, Between(1, 10**6)]
"""So many of something that is played, shown or stored."""
Steps = Annotated[int, Between(1, 10**9)]
"""Steps of a training."""
Attempts = Annotated[int, Between(0, 1000)]
"""Attempts after the first."""
Rounds = Annotated[int, Between(1, 100)]
Horizon = Annotated[int, Between(1, 100_000)]
"""Steps of an episode."""
Frames = Annotated[int, Between(2, 10_000)]
"""Frames that are read of an episode."""
Components = Annotated[int, Between(1, 1000)]
"""Components of a mixture."""
Layers = Annotated[int, Between(0, 64)]
Width = Annotated[int, Between(1, 8192)]
"""Units of a layer."""
Noise = Annotated[float, Between(0, 100)]
"""Standard deviation, in units of the action."""
Share = Annotated[float, Between(0, 1)]
Positive = Annotated[float, Between(0, 10**6, open_low=True)]
NotNegative = Annotated[float, Between(0, 10**6)]
Seed = Annotated[int, Between(0, 2**32 - 2)]
"""What numpy takes, and one more (Meta-World's ML1 uses the next seed for its test tasks)."""


class Bounded:
    """A dataclass whose fields are checked when it is made.

    Raises:
        ValueError: a field is outside its declared range.
    """

    def __post_init__(self) -> None:
        check(type(self), self, type(self).__name__)


@functools.cache
def hints_of(kind: Any) -> Mapping[str, Any]:
    """Return the annotation of each field of a dataclass, with what is declared beside its type."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def unwrapped(hint: Any) -> tuple[Any, tuple[Rule, ...]]:
    """Return the type that an annotation names, and the rules beside it."""
    if typing.get_origin(hint) is Annotated:
        kind, *rules = typing.get_args(hint)
        return kind, tuple(rule for rule in rules if isinstance(rule, Rule))
    return hint, ()


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union; of any other type, that type alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def item_hint(kind: Any) -> Any:
    """Return the annotation of the entries of a list, `Any` where none is given."""
    return next(iter(typing.get_args(kind)), Any)


def check(hint: Any, value: Any, where: str) -> None:
    """Check a value, and all that it holds, against its annotation.

    Args:
        where: what the message calls it.

    Raises:
        ValueError: it is outside its declared range.
    """
    kind, rules = unwrapped(hint)
    if kind in NOUNS and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind is not bool)):
        raise ValueError(f"{where} must be {NOUNS[kind]}, got {shown(value)}")
    if typing.get_origin(kind) is Literal and value not in typing.get_args(kind):
        raise ValueError(f"{where} must be {one_of(typing.get_args(kind))}, got {shown(value)}")
    for inner, part, place in _parts(kind, value, where):
        check(inner, part, place)
    for rule in (*rules, *_USUAL.get(type(value), ())):
        if value not in rule:
            raise ValueError(f"{where} must be {rule}, got {shown(value)}")


NOUNS: Mapping[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TYPES: Mapping[type, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
_USUAL: Mapping[type, tuple[Rule, ...]] = {float: (FINITE,), str: (PRINTABLE,)}
"""What holds without a declaration."""


def _parts(kind: Any, value: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """Yield the annotation, the value and the name of each thing that a value holds."""
    if dataclasses.is_dataclass(value):
        hints = hints_of(type(value))  # type: ignore[arg-type]
        yield from ((inner, getattr(value, name), f"{where}.{name}") for name, inner in hints.items())
    elif isinstance(value, Mapping):
        yield from ((Any, inner, f"{where}.{name}") for name, inner in value.items())
    elif isinstance(value, (tuple, list)):
        of_items = itertools.cycle([hint for hint in typing.get_args(kind) if hint is not Ellipsis] or [Any])
        yield from ((hint, inner, where) for hint, inner in zip(of_items, value, strict=False))
    else:
        members = [member for member in alternatives(kind) if member is not type(None)]
        if value is not None and len(members) == 1 and members[0] is not kind:  # X | None
            yield members[0], value, where


def range_of(hint: Any) -> str:
    """Return in words what a field may hold beyond its type; empty where its type says all."""
    kind, rules = unwrapped(hint)
    inner = [member for member in alternatives(kind) if member is not type(None)]
    said = [str(rule) for rule in rules]
    if typing.get_origin(kind) in (tuple, list):
        of_items = range_of(item_hint(kind))
        said += [f"each {of_items}"] if of_items else []
    elif inner != [kind]:
        said += [range_of(member) for member in inner if range_of(member)]
    return "; ".join(said)


def one_of(words: Iterable[object]) -> str:
    """Return alternatives as a sentence names them: `goal, family or none`."""
    *most, last = map(str, words)
    return f"{', '.join(most)} or {last}" if most else last


def shown(value: Any, most: int = 60) -> str:
    """Return a value as a message shows it: on one line, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
