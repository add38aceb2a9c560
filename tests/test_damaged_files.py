"""Every kind of file that a run writes, damaged in every way: one sentence, or the same again; never other numbers.

The damage is drawn from fixed seeds. A case passes in one of two ways: reading everything raises an error of one line
that names the file or its folder, or what is read is what was there before. The slow part does that 600 times and
follows the advice of the sentences, which must lead back to the very same bytes.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ToyRun, tiny
from rich.console import Console
from test_pipeline import content

from wtl import cli
from wtl.analysis.results import EpisodeResult, read_results
from wtl.analysis.runs import load_run
from wtl.app.config import RunConfig
from wtl.app.pipeline import Pipeline
from wtl.core.files import explain, sealed, unsealed
from wtl.core.lock import locked
from wtl.data.store import EpisodeStore
from wtl.methods.checkpoint import load_networks, read_checkpoint
from wtl.methods.registry import find_method

Damage = Callable[[bytes, random.Random], bytes]


def flip(old: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(old))
    return old[:place] + bytes([old[place] ^ (1 << draw.randrange(8))]) + old[place + 1 :]


def another_version(old: bytes, draw: random.Random) -> bytes:
    """For JSON; other files get a byte more."""
    version = draw.choice([0, 99, -1, 1e300, None, "1", True, [1]])
    found = re.sub(rb'"version": \d+', b'"version": ' + json.dumps(version).encode(), old, count=1)
    return found if found != old else old + b"\0"


DAMAGE: dict[str, Damage] = {
    "flip": flip,
    "cut": lambda old, draw: old[: draw.randrange(len(old))],
    "empty": lambda old, draw: b"",
    "zeros": lambda old, draw: old[: draw.randrange(len(old))].ljust(len(old), b"\0"),
    "garbage": lambda old, draw: draw.randbytes(draw.randrange(1, 400)),
    "text": lambda old, draw: draw.choice(["{}", "[]", "null", "3", "[" * 5000, "é", "a,b\n1,2\n", '{"a":']).encode(),
    "version": another_version,
    "longer": lambda old, draw: old + draw.randbytes(draw.randrange(1, 50)),
    "twice": lambda old, draw: old + old,
    "half from elsewhere": lambda old, draw: old[: len(old) // 2] + draw.randbytes(len(old) - len(old) // 2),
}  # fmt: skip

KINDS = {
    "settings": "**/settings.json", "manifest": "**/manifest.json", "store": "**/store.json",
    "shard": "**/shard-*.safetensors", "weights": "**/weights.safetensors", "method": "**/method.json",
    "episodes": "evaluation/episodes.csv", "entries": "evaluation/entries.json", "families": "evaluation/families.json",
    "losses": "**/losses.csv",
}  # fmt: skip
"""What is read again after a stage is complete."""


def digest_of(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def read_everything(config: RunConfig) -> dict[str, object]:
    """Read whatever a later command could read of a finished run."""
    pipeline = Pipeline(config, Console(quiet=True))
    plan, found = pipeline.plan, dict[str, object]()
    for step in pipeline.steps():
        found[step.name] = step.stage.finished()
    for store in sorted(Path(config.directory).rglob("store.json")):
        for number, episode in enumerate(EpisodeStore(store.parent)):
            arrays = [episode.trajectory.observations, episode.trajectory.actions, episode.expert_actions]
            found[f"{store.parent.name}/{number}"] = digest_of(episode.task, *(a.tobytes() for a in arrays))
    for method in (plan.main, *plan.others):
        for number in range(len(method.phases)):
            folder, spec = plan.checkpoint(method, method.phases[: number + 1]), find_method(method.address)
            assert folder is not None
            for part, network in load_networks(read_checkpoint(folder, spec), spec).items():
                numbers = [value.numpy().tobytes() for value in network.state_dict().values()]
                found[f"{spec.name}/{number}/{part}"] = digest_of(read_checkpoint(folder, spec), *numbers)
    found["results"] = load_run(plan.root).rows.to_csv()
    return found


@pytest.fixture(scope="module")
def copied(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A copy of the finished run; tests damage it and put it right again."""
    root = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(toy_run.root, root)
    return replace(toy_run.config, directory=str(root))


@pytest.fixture(scope="module")
def sound(copied: RunConfig) -> dict[str, object]:
    return read_everything(copied)


def one_sentence(config: RunConfig) -> str | None:
    """Return the sentence with which reading everything ends; None if everything can be read."""
    try:
        read_everything(config)
    except (ValueError, OSError) as error:
        said = explain(error) if isinstance(error, OSError) else str(error)
        assert "\n" not in said and len(said) < 2000, said
        return said
    return None


def damaged(path: Path, damage: str, draw: random.Random) -> bytes:
    """Damage a file; return what it was."""
    old = path.read_bytes()
    path.write_bytes(DAMAGE[damage](old, draw))
    return old


def check(config: RunConfig, sound: dict[str, object], kind: str, damage: str, seed: int) -> None:
    draw = random.Random(f"{kind} {damage} {seed}")
    path = draw.choice(sorted(Path(config.directory).glob(KINDS[kind])))
    old = damaged(path, damage, draw)
    try:
        if path.read_bytes() != old:
            said = one_sentence(config)
            if said is None:
                assert read_everything(config) == sound, f"{path} is read as something else"
                # Only white space of JSON may differ without being noticed.
                assert json.loads(path.read_bytes()) == json.loads(old)
            else:
                folder = path.parent.parent if path.parent.name == "checkpoint" else path.parent
                assert str(folder) in said, said
    finally:
        path.write_bytes(old)


CASES = [(kind, damage, seed) for kind in KINDS for damage in DAMAGE for seed in range(6)]


@pytest.mark.parametrize(
    ("kind", "damage"), [*zip(KINDS, DAMAGE, strict=True), ("method", "flip"), ("manifest", "cut")]
)
def test_damage_is_noticed(copied: RunConfig, sound: dict[str, object], kind: str, damage: str) -> None:
    check(copied, sound, kind, damage, seed=99)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_noticed(copied: RunConfig, sound: dict[str, object], kind: str) -> None:
    assert len(CASES) == 600
    for case in CASES:
        if case[0] == kind:
            check(copied, sound, *case)
    assert one_sentence(copied) is None


@pytest.mark.parametrize("kind", ["settings", "manifest", "weights", "method", "shard", "episodes"])
def test_what_is_gone_or_no_file_is_noticed(copied: RunConfig, sound: dict[str, object], kind: str) -> None:
    path = sorted(Path(copied.directory).glob(KINDS[kind]))[0]
    old = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert one_sentence(copied)
    path.rmdir()
    if kind == "manifest":  # that is how a stage looks that was cut off
        assert read_everything(copied) == sound | {str(path.parent.relative_to(copied.directory)): False}
    else:
        assert one_sentence(copied)
    path.write_bytes(old)
    assert one_sentence(copied) is None


def test_weights_that_are_not_finite_are_refused_although_their_checksum_is_right(copied: RunConfig) -> None:
    """As a training that went wrong would have left them."""
    from safetensors.torch import load, save

    folder = Path(copied.directory) / "cloning/train/checkpoint"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    tensors = load(before[folder / "weights.safetensors"])
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    (folder / "weights.safetensors").write_bytes(save(tensors))
    described = json.loads(before[folder / "method.json"])
    del described["checksum"]
    described["sha256"] = hashlib.sha256(save(tensors)).hexdigest()
    (folder / "method.json").write_text(json.dumps(described))
    spec = find_method("cloning")
    with pytest.raises(
        ValueError, match=r"weights.safetensors cannot be read \(.* holds numbers that are not finite\)"
    ):
        load_networks(read_checkpoint(folder, spec), spec)
    for path, old in before.items():
        path.write_bytes(old)


# The command line, and what it advises.


class Answer:
    """What a command said; its last line without the bars above it."""

    def __init__(self, code: int, err: str) -> None:
        self.code, self.err = code, err
        self.last = err.splitlines()[-1] if err else ""


@pytest.fixture
def wtl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Answer]]:
    """`wtl("run", "toy")` in this process."""

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr("sys.argv", ["wtl", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Answer(int(caught.value.code or 0), capsys.readouterr().err)

    yield call


def own_files(root: Path) -> dict[str, bytes]:
    """What the run consists of, without what says when and how long."""
    found = content(root)
    return {name: data for name, data in found.items() if not name.endswith(("manifest.json", "checkpoint.pt"))}


def follow(said: str) -> None:
    """Do what a sentence advises."""
    found = re.search(r"delete (\S+) and run", said)
    assert found, said
    named = re.search(r"error: (\S+) ", said) if found[1] == "it" else found
    assert named, said
    path = Path(named[1])
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_the_advice_leads_back_to_the_same_bytes(wtl, toy_run: ToyRun, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "run"
    shutil.copytree(toy_run.root, root)
    before = own_files(root)
    path = sorted(root.glob(KINDS[kind]))[-1]
    path.write_bytes(path.read_bytes()[:-7])
    broken = content(root)
    answer = wtl("run" if kind != "shard" else "stages", "toy", *tiny(root))
    if kind == "shard":  # of a stage that nobody needs any more
        assert answer.code == 0
        (root / path.parent / "manifest.json").unlink()
    else:
        assert answer.code == 2 and answer.last.startswith("error: ") and str(path) in answer.last
        assert content(root) == broken  # nothing was touched
        follow(answer.last)
    answer = wtl("run", "toy", *tiny(root))
    assert answer.code == 0, answer.err
    after = own_files(root)
    assert {name for name in before if before[name] != after.get(name)} <= {"config.yaml", "strip.gif", "strip.mp4"}


# A stage that was cut off is not believed.


def cut(toy_run: ToyRun, root: Path, stage: str) -> Path:
    """Return the folder of a stage that has done all its work and was killed before it could say so."""
    shutil.copytree(toy_run.root, root)
    folder = root / stage
    (folder / "manifest.json").unlink()
    return folder


UNITS = [("demonstrations", "shard-*"), ("evaluation", "units/*.csv"), ("evaluation", "units/*.sha256")]


def slow(*values: str) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("damage", ["flip", slow("cut"), slow("garbage")])
@pytest.mark.parametrize(("stage", "pattern"), [UNITS[0], slow(*UNITS[1]), slow(*UNITS[2])])
def test_a_damaged_unit_is_done_again(
    wtl, toy_run: ToyRun, tmp_path: Path, stage: str, pattern: str, damage: str
) -> None:
    folder = cut(toy_run, tmp_path / "run", stage)
    before = own_files(folder)
    path = sorted(folder.glob(pattern))[1 if "sha256" not in pattern else 0]
    damaged(path, damage, random.Random(stage))
    assert wtl("stage", "toy", stage, *tiny(tmp_path / "run")).code == 0
    assert own_files(folder) == before


def test_a_unit_that_nobody_vouches_for_is_done_again(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    folder = cut(toy_run, tmp_path / "run", "evaluation")
    before = own_files(folder)
    (folder / "units" / "units.sha256").unlink()
    shorter = folder / "units" / "00001.csv"
    shorter.write_text("".join(shorter.read_text().splitlines(keepends=True)[:-10]))
    assert wtl("stage", "toy", "evaluation", *tiny(tmp_path / "run")).code == 0
    assert own_files(folder) == before


@pytest.mark.parametrize("damage", ["flip", *(slow(damage) for damage in DAMAGE if damage != "flip")])
def test_a_damaged_state_of_a_training_is_one_sentence_and_its_advice_works(
    wtl, toy_run: ToyRun, tmp_path: Path, damage: str
) -> None:
    folder = cut(toy_run, tmp_path / "run", "cloning/train")
    before, path = own_files(folder), folder / "checkpoint.pt"
    damaged(path, damage, random.Random(damage))
    answer = wtl("stage", "toy", "cloning/train", *tiny(tmp_path / "run"))
    assert answer.code == 2 and answer.last.startswith(f"error: {path} cannot be read (")
    if damage == "flip":
        follow(answer.err)
        assert wtl("stage", "toy", "cloning/train", *tiny(tmp_path / "run")).code == 0
        assert own_files(folder) == before


@pytest.mark.parametrize("state", ["one with NaN", slow("another network's"), slow("nothing"), slow("no dictionary")])
def test_a_state_that_is_whole_and_wrong(wtl, toy_run: ToyRun, tmp_path: Path, state: str) -> None:
    import io

    folder = cut(toy_run, tmp_path / "run", "cloning/train")
    path = folder / "checkpoint.pt"
    found = torch.load(io.BytesIO(unsealed(path.read_bytes())), weights_only=True)
    buffer = io.BytesIO()
    if state == "another network's":
        path.write_bytes((tmp_path / "run/imitation/trial/checkpoint.pt").read_bytes())
    else:
        next(iter(found["network"].values())).fill_(float("nan"))
        torch.save({"one with NaN": found, "nothing": {}, "no dictionary": [1]}[state], buffer)
        path.write_bytes(sealed(buffer.getvalue()))
    answer = wtl("stage", "toy", "cloning/train", *tiny(tmp_path / "run"))
    assert answer.code == 2 and answer.last.startswith(f"error: {path} cannot be read (")


def test_a_stage_without_settings_is_not_gone_on_with(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    """Whose shards these are nobody knows; with another seed they would be mixed."""
    folder = cut(toy_run, tmp_path / "run", "demonstrations")
    (folder / "settings.json").unlink()
    before = content(tmp_path / "run")
    answer = wtl("stage", "toy", "demonstrations", *tiny(tmp_path / "run", "seed=7"))
    assert answer.code == 2 and "demonstrations holds shard-00000.safetensors and no settings.json" in answer.err
    assert content(tmp_path / "run") == before


# The system says no.


@pytest.mark.parametrize(
    ("directory", "sentence"),
    [("x" * 300, "give a shorter name"), ("file/run", "move that file away"), ("file", "move that file away")],
)
def test_a_place_that_cannot_be_is_one_sentence(wtl, tmp_path: Path, directory: str, sentence: str) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    answer = wtl("run", "toy", *tiny(tmp_path / directory))
    assert answer.code == 2 and sentence in answer.err and answer.err.count("\n") == 1, answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"kept"


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_afterwards(
    wtl, toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from wtl.core import files

    synchronise, left = os.fsync, [5]

    def fill(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        synchronise(descriptor)

    root = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fill)
        answer = wtl("stage", "toy", "demonstrations", *tiny(root))
    assert answer.code == 1 and answer.err.splitlines()[-1].startswith(f"error: {root}/demonstrations/")
    assert "No space left on device; free some space there. The same command goes on" in answer.err
    assert not list(root.rglob(".*"))
    assert wtl("stage", "toy", "demonstrations", *tiny(root)).code == 0
    assert own_files(root / "demonstrations") == own_files(toy_run.root / "demonstrations")


def test_a_run_that_is_at_work_keeps_others_out(wtl, toy_run: ToyRun, tmp_path: Path) -> None:
    shutil.copytree(toy_run.root, tmp_path / "run")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "run"):
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    before = content(tmp_path / "run")
    for asked in (["run", "toy"], ["stage", "toy", "demonstrations"]):
        answer = wtl(*asked, *tiny(tmp_path / "run"))
        assert answer.code == 2 and "is writing into" in answer.err and answer.err.count("\n") == 1
    assert content(tmp_path / "run") == before
    assert wtl("stages", "toy", *tiny(tmp_path / "run")).code == 0  # whoever only reads is let in
    assert wtl("report", str(tmp_path / "run")).code == 0
    done.set()
    holder.join()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_starts_in_one_directory_never_mix(tmp_path: Path) -> None:
    """With real processes, started in the same moment with different seeds."""
    made = {}
    for seed in ("1", "2"):
        root = tmp_path / seed
        subprocess.run(command(root, f"seed={seed}"), check=True, capture_output=True, timeout=300)
        made[seed] = own_files(root / "demonstrations")
    assert made["1"] != made["2"]
    for number in range(3):
        root = tmp_path / f"both-{number}"
        pair = {s: subprocess.Popen(command(root, f"seed={s}"), stderr=subprocess.PIPE, text=True) for s in made}
        said = {seed: one.communicate(timeout=300)[1] for seed, one in pair.items()}
        codes = {seed: one.returncode for seed, one in pair.items()}
        assert sorted(codes.values()) == [0, 2], said
        winner, loser = (next(seed for seed, code in codes.items() if code == wanted) for wanted in (0, 2))
        assert own_files(root / "demonstrations") == made[winner]
        last = said[loser].strip().splitlines()[-1]
        assert last.startswith("error: ") and ("is writing into" in last or "was made with other settings" in last)
        assert "Traceback" not in said[loser] and not list(root.rglob(".*"))


def command(root: Path, *more: str) -> list[str]:
    wtl = [sys.executable, "-c", "from wtl.cli import main; main()"]
    return [*wtl, "stage", "toy", "demonstrations", *tiny(root, "executor=local", "workers=1", *more)]


# Results of other people.


def test_a_results_file_is_read_or_refused_in_one_sentence(toy_run: ToyRun, tmp_path: Path) -> None:
    path, sound = tmp_path / "episodes.csv", (toy_run.root / "evaluation" / "episodes.csv").read_bytes()
    for seed in range(60):
        path.write_bytes(sound)
        damaged(path, sorted(DAMAGE)[seed % len(DAMAGE)], random.Random(seed))
        try:
            assert all(isinstance(row, EpisodeResult) for row in read_results(path))
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error), error
