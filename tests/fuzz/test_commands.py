"""Malformed commands, configurations and overrides: exit code 2, one sentence, no traceback, nothing written.

Over 500 cases: every field with values that it cannot hold, files that are no configurations, and commands that are
none. Each goes through the command line in this process, in an empty working directory.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_bounds import FIELDS, LISTS, NUMBERS

from wtl import cli
from wtl.app.stage import Stage

pytestmark = pytest.mark.slow

WILD = (
    "-1",
    "nan",
    ".inf",
    "-.inf",
    str(10**12),
    "1" + "0" * 5000,
    "1.5.2",
    "lots",
    "",
    "[1, [2]]",
    "{a: 1}",
    "'7'",
    "!!python/none 3",
)
FILES = (
    "a: &x {b: *x}", "seed: 1\nseed: 2", "? [a]\n: 3", "seed: !!python/object/apply:os.system [ls]",
    "seed: 1\n---\nseed: 2", "[" * 9999, "- 1", "seed", "3", "base: nowhere.yaml", "base: bad.yaml", "base: [a]",
    "base: {a: 1}", "seed: -3", "methods: 3", "methods: {mil: 3}", "methods: {nothing: {}}",
    "methods: {mil: {train: {steps: 0}}}", "directory:", "directory: [a]", "directory: ''", "directory: \"a\\0b\"",
    "directory: \"a\\nb\"", "directory: \"\\e[31m\"", "seed: \0", "\t- x", "a: [", "a: b: c", "%YAML 9.9\n---\n",
    "{}}", "'", "\"", "!<", "&", "*", "tasks: null\nseed: null", "tasks: {seed: 1e400}", "executor: Local",
    "directory: ~nobody-here/x", "checkpoint: ~nobody-here/x", "checkpoint: /", "checkpoint: .", "method: ''",
    "method: ':'", "method: 'a:'", "method: '.:SPEC'", "method: 'os:path'", "evaluation: {methods: ['os:path']}",
    "evaluation: {controls: [':', 'os:path']}", "tasks: {benchmark: 'os:getcwd', options: {a: .nan}}",
    "protocol: {starts: [redrawn]}", "video: Camera", "regime: ${oc.env:HOME}", "seed: ${oc.env:HOME}",
    "workers: ${..}", "methods: {imitation: {trial: {network: {width: 10, heads: 4}}}}",
    "evaluation: {control_attempt: 9}", "trials: {horizons_steps: []}", "demonstrations: {splits: [test, test]}",
    "tasks: 7", "\ufeff[a]",
)  # fmt: skip
COMMANDS = (
    ["run"], ["nonsense"], ["stage", "toy"], ["report"], ["run", "nowhere"], ["run", ""], ["run", "."], ["run", "/"],
    ["run", "\udcff"], ["run", "[/x]"], ["run", "[red]"], ["run", "x" * 5000], ["run", "~nobody-here/x"],
    ["run", "toy", "--bogus"], ["run", "toy", "seed"], ["run", "toy", "=3"], ["run", "toy", "=", "="],
    ["run", "toy", "a=[1,"], ["run", "toy", "..=3"], ["run", "toy", "seed.=3"], ["run", "toy", "seed.x=3"],
    ["run", "toy", "tasks=3"], ["run", "toy", "methods=3"], ["run", "toy", "methods.mil=3"],
    ["run", "toy", "tasks.benchmark=[red]x[/red]"], ["run", "toy", "tasks.benchmark=ML11"],
    ["run", "toy", "tasks.benchmark=os:getcwd"], ["run", "toy", "tasks.options={a: 1}"],
    ["run", "toy", "tasks.options={a: .nan}"], ["run", "toy", "directory=\udcff"], ["run", "toy", "directory="],
    ["run", "toy", "method=[/x]:[red]"], ["run", "toy", "method=trajectory_transfer", "regime=none"],
    ["run", "toy", "demonstrations.splits=[test]"],
    ["run", "toy", "methods.imitation.retrial.first_trials_in_context=2"], ["run", "toy", "checkpoint=ml45"],
    ["run", "toy", "checkpoint=nowhere"], ["run", "toy", "methods.cloning.train.device=gpu"],
    ["stage", "toy", "nothing"], ["stage", "toy", "[/x]"], ["stage", "toy", "evaluation"],
    ["stage", "toy", "imitation/trial", "seed=x"], ["evaluate", "toy"], ["evaluate", "toy", "seed=1.5"],
    ["stages", "nowhere"], ["stages", "toy", "seed=-1"], ["video", "toy"], ["video", "toy", "--entry=-1"],
    ["video", "toy", "--entry=x"], ["video", "toy", "--style", "painting"], ["video", "toy", "--out", "x.png"],
    ["video", "pretrained", "--out", "[/x]"], ["report", "nowhere"], ["report", "[/x]", "[red]"], ["report", "."],
    ["report", "", "--json"], ["methods", "x"], ["tasks", "x"], ["--nothing"], ["run", "toy", "protocol.walks=two"],
    ["run", "toy", "executor=[red]"],
)  # fmt: skip


def overrides() -> Iterator[str]:
    """Yield what no field can hold: wild values for each, and keys that are none."""
    generator = random.Random(13)
    for key, hint in FIELDS.items():
        is_text = key not in NUMBERS and key not in LISTS and "bool" not in str(hint) and "dict" not in str(hint)
        if "Literal" in str(hint) and key not in LISTS:
            yield from (f"{key}={value}" for value in generator.sample(WILD, 2))
        elif key in LISTS:
            yield from (f"{key}={value}" for value in ("lots", "3", "{a: 1}", "[[a]]"))
        elif key in NUMBERS:
            _, between = NUMBERS[key] or (int, None)
            allowed = {value for value in ("-1", str(10**12)) if between and float(value) in between}
            optional = {""} if "Optional" in str(hint) else set()
            yield from (f"{key}={value}" for value in generator.sample(sorted(set(WILD) - allowed - optional), 2))
        elif not is_text and "bool" in str(hint):
            yield from (f"{key}={value}" for value in ("2", "maybe", "[true]", ""))
        yield f"{key}x=3" if generator.random() < 0.3 else f"{key}.x=3"


CASES = [
    *(["run", "toy", override] for override in overrides()),
    *(["run", "bad.yaml", str(number)] for number in range(len(FILES))),
    *COMMANDS,
]


def test_there_are_enough() -> None:
    assert len(CASES) >= 500


def begin(stage: Stage) -> None:
    pytest.fail(f"{stage.directory} began, so the command was accepted")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_it_is_one_sentence_and_nothing_is_written(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = list(CASES[number])
    monkeypatch.chdir(tmp_path)
    if arguments[:2] == ["run", "bad.yaml"]:
        (tmp_path / "bad.yaml").write_text(FILES[int(arguments.pop())], encoding="utf-8")
    monkeypatch.setattr(Stage, "begin", begin)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("sys.argv", ["wtl", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capfd.readouterr()
    assert caught.value.code == 2, (arguments, err)
    assert err.startswith("error: ") and err.count("\n") == 1 and len(err) < 2000 and "Traceback" not in err, (
        arguments,
        err,
    )
    assert out == "" and sorted(tmp_path.rglob("*")) == before, arguments
