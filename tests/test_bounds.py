"""Ranges are declared with the fields, and hold for every way in: files, overrides, Python."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wtl.app.config import ConfigError, RunConfig, load_config, to_yaml
from wtl.core.bounds import (
    Between,
    Bounded,
    Listed,
    Text,
    alternatives,
    check,
    hints_of,
    item_hint,
    range_of,
    unwrapped,
)
from wtl.methods.registry import METHODS

EMPTY = str(Path(tempfile.mkdtemp()) / "empty.yaml")
"""A file that says nothing, so that all is as the dataclasses have it."""
Path(EMPTY).touch()

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=20)
"""What a user can type in one argument."""


def fields(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key and the annotation of every field below a dataclass."""
    for name, hint in hints_of(kind).items():
        inner, _ = unwrapped(hint)
        if dataclasses.is_dataclass(inner):
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


FIELDS = dict(fields(RunConfig)) | {k: h for spec in METHODS for k, h in fields(spec.config, f"methods.{spec.name}.")}


def number_of(hint: Any) -> tuple[type, Between] | None:
    """Return the type and the range of a number, of the entries where it is a list of numbers."""
    kind, rules = unwrapped(hint)
    members = [member for member in alternatives(kind) if member is not type(None)]
    if members != [kind]:
        return number_of(members[0])
    if typing.get_origin(kind) is tuple:
        return number_of(item_hint(kind))
    return (kind, *[rule for rule in rules if isinstance(rule, Between)][:1]) if kind in (int, float) else None  # type: ignore[return-value]


NUMBERS = {key: number_of(hint) for key, hint in FIELDS.items() if number_of(hint)}
LISTS = [key for key, hint in FIELDS.items() if typing.get_origin(unwrapped(hint)[0]) is tuple]


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(EMPTY, list(overrides))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    return str(caught.value)


def override(key: str, value: object) -> str:
    return f"{key}=[{value}]" if key in LISTS else f"{key}={value}"


def test_every_number_and_every_list_has_a_range() -> None:
    assert len(NUMBERS) > 100
    assert not [key for key, found in NUMBERS.items() if len(found or ()) != 2]
    assert not [key for key in LISTS if not any(isinstance(rule, Listed) for rule in unwrapped(FIELDS[key])[1])]
    assert all(range_of(FIELDS[key]) for key in [*NUMBERS, *LISTS])


@given(st.data())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_no_number_outside_its_range_is_accepted(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(NUMBERS)))
    kind, between = NUMBERS[key]  # type: ignore[misc]
    usual = [-1, 0, -(10**12), 10**12, "nan", ".inf", "-inf", "1e400", 10**400, "1.5.2", "many", "[1]", "{a: 1}", '"7"']
    wild = st.sampled_from(usual) | st.integers() | st.floats(allow_nan=False).map(repr)
    value = data.draw(wild)
    try:
        inside = float(value) in between and (kind is float or float(value).is_integer())
    except (TypeError, ValueError, OverflowError):
        inside = False
    if inside or (value == "[1]" and key in LISTS):
        return
    assert key in refusal(override(key, value)) or key in LISTS


@given(st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_number_inside_its_range_arrives_or_does_not_go_with_another(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(NUMBERS)))
    kind, between = NUMBERS[key]  # type: ignore[misc]
    strategy = st.integers(int(between.low), int(between.high)) if kind is int else st.floats(between.low, between.high)
    value = data.draw(strategy.filter(lambda number: number in between))
    try:
        config = load_config(EMPTY, [override(key, value)])
    except ConfigError as error:
        assert str(between) not in str(error) and "\n" not in str(error)
        return
    found: Any = config
    for name in key.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == ((value,) if key in LISTS else value) and type(value) is kind


@pytest.mark.parametrize("key", LISTS)
def test_lists_are_not_repeated_and_some_not_empty(key: str) -> None:
    [rule] = [rule for rule in unwrapped(FIELDS[key])[1] if isinstance(rule, Listed)]
    entry = {"demonstrations.splits": "test", "trials.horizons_steps": "9"}.get(key, "reach-v3")
    entry = "3" if key.endswith(("ahead_frames", ".noise", ".asked")) else entry
    if not rule.repeated:
        assert "none of them twice" in refusal(f"{key}=[{entry}, {entry}]")
    if rule.least:
        assert f"{key} must be a list of {rule.least} to {rule.most}" in refusal(f"{key}=[]")
    assert f"{key} must be a list such as [a, b], got 'x'" in refusal(f"{key}=x")


@given(TEXT)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_text_is_taken_as_it_stands_and_comes_back_from_the_saved_configuration(text: str) -> None:
    if text.startswith("~"):
        return
    config = load_config(EMPTY, [f"directory={text}", f"tasks.family={text}"])
    assert config.directory == config.tasks.family == text
    with pytest.MonkeyPatch.context() as patch:
        saved = to_yaml(config)
        patch.setattr(Path, "read_text", lambda *_, **__: saved)
        assert load_config("toy", []) == config


@pytest.mark.parametrize(
    "text",
    [
        "007",
        "1e3",
        "12:30:00",
        "off",
        "null",
        "runs/run #2",
        "${oc.env:HOME}",
        "\\${x}",
        "[/x]",
        "[red]",
        "{a}",
        "a: b",
    ],
)
def test_no_text_turns_into_something_else(text: str, tmp_path: Path) -> None:
    assert load_config("toy", [f"directory={text}"]).directory == text
    (tmp_path / "mine.yaml").write_text(f"directory: '{text}'\ntasks: {{options: {{a: '{text}'}}}}\n")
    config = load_config(str(tmp_path / "mine.yaml"), [])
    assert config.directory == config.tasks.options["a"] == text
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(str(tmp_path / "again.yaml"), []) == config


@pytest.mark.parametrize("text", ["007", "1e3", "12:30:00", "off", "${oc.env:HOME}", "2024-01-01"])
def test_a_text_needs_no_quotes_in_a_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"directory: {text}\ntasks:\n  train:\n    - {text}\n")
    config = load_config(str(tmp_path / "mine.yaml"), [])
    assert config.directory == text and config.tasks.train == (text,)


def test_the_home_directory_is_a_tilde_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text("seed: 3\n")
    (tmp_path / "mine.yaml").write_text("base: ~/base.yaml\ndirectory: ~/runs\ndemonstrations: {own: ~/mine}\n")
    config = load_config("~/mine.yaml", [])
    assert (config.seed, config.directory) == (
        3,
        f"{tmp_path}/runs",
    ) and config.demonstrations.own == f"{tmp_path}/mine"
    assert "there is no home directory for '~nobody-here/x'" in refusal("directory=~nobody-here/x")


@given(
    st.lists(TEXT | st.sampled_from(sorted(FIELDS)).flatmap(lambda key: TEXT.map(lambda v: f"{key}={v}")), max_size=2)
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_is_typed_is_read_or_one_sentence(overrides: list[str]) -> None:
    try:
        load_config(EMPTY, overrides)
    except ConfigError as error:
        assert "\n" not in str(error)


YAML = st.recursive(
    TEXT | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(FIELDS)) | TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(TEXT | YAML.map(str) | st.text(st.sampled_from("abc:-[]{}&*#!|>'\"%@`,?~ \n\t0"), max_size=40))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_is_in_a_file_is_read_or_one_sentence(content: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: content)
        try:
            load_config("toy", [])
        except ConfigError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("a: &x {b: *x}\n", "aliases (*) are not read; write the value out"),
        ("seed: 1\nseed: 2\n", "(line 2): the key 'seed' stands there twice"),
        ("? [a]\n: 3\n", "a key must be text"),
        (
            "seed: !!python/object/apply:os.system [ls]\n",
            "(line 1): tags (tag:yaml.org,2002:python/object/",
        ),
        ("seed: 1\n---\nseed: 2\n", "expected a single document"),
        ("[" * 100_000, "it is nested more than 50 deep"),
        ("base: mine.yaml\n", "is its own base; remove the key `base`"),
        ("base: nowhere.yaml\n", "nowhere.yaml cannot be read: No such file or directory"),
        ("base: [a]\n", "base must be the name of a file beside"),
        ("seed:\n  - 1\n", "seed must be a whole number, got a list"),
        ("\n\nseed: -3\n", "seed must be between 0 and 4294967294, got -3 ("),
        ("methods: 3\n", "methods must be a section of keys, got '3' ("),
        ("directory:\n", "directory must be text, got nothing ("),
        ("seed: \0\n", "is not YAML: "),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), [])
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="mine.yaml cannot be read: it is not UTF-8 text"):
        load_config(str(tmp_path / "mine.yaml"), [])


@dataclasses.dataclass(frozen=True)
class Inner(Bounded):
    """A share."""

    share: Annotated[float, Between(0, 1)] = 0.5


@dataclasses.dataclass(frozen=True)
class Outer(Bounded):
    """One field of each kind."""

    count: Annotated[int, Between(1, 9)] | None = None
    sizes: Annotated[tuple[Annotated[int, Between(1, 9)], ...], Listed(1, 3)] = (1, 2)
    pair: tuple[float, float] = (1.0, 2.0)
    kind: Literal["a", "b"] = "a"
    name: Annotated[str, Text("a letter", "[a-z]")] = "x"
    free: float = 1.0
    inner: Inner = dataclasses.field(default_factory=lambda: Inner(0.25))


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"count": 10}, "Outer.count must be between 1 and 9, got 10"),
        ({"count": True}, "Outer.count must be a whole number, got True"),
        ({"count": 2.5}, "Outer.count must be a whole number, got 2.5"),
        ({"sizes": ()}, "Outer.sizes must be a list of 1 to 3 entries, none of them twice, got ()"),
        ({"sizes": (3, 3)}, "none of them twice"),
        ({"sizes": (0,)}, "Outer.sizes must be between 1 and 9, got 0"),
        ({"kind": "c"}, "Outer.kind must be a or b, got 'c'"),
        ({"name": "xy"}, "Outer.name must be a letter, got 'xy'"),
        ({"name": "\n"}, "Outer.name must be a letter"),
        ({"free": math.nan}, "Outer.free must be a finite number, got nan"),
    ],
)
def test_what_is_made_in_python_is_checked_too(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        Outer(**arguments)
    assert sentence in str(caught.value)
    assert Outer(count=9, free=2) == Outer(9, free=2.0)


def test_a_control_character_is_no_text() -> None:
    with pytest.raises(ValueError, match="must be text without control characters and line ends"):
        check(str, "a\x1b[31m", "x")
