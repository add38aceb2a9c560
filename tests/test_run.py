"""Stages of a run: skipped when complete, continued when cut, refused when the settings are others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from wtl.app.stage import Stage, fingerprint, provenance


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    files = [p for p in sorted(directory.rglob("*")) if p.is_file()]
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def chain(root: Path, first: Any = 1, second: Any = 2) -> tuple[Stage, Stage]:
    demos = Stage(root / "demos", {"tasks": {"goals": first, "names": ["a"]}})
    return demos, Stage(root / "trial", {"steps": second}, [demos])


def complete(*stages: Stage) -> None:
    for stage in stages:
        stage.begin()
        stage.finish({"loss": 0.5})


def test_a_stage_is_new_then_begun_then_finished(tmp_path: Path) -> None:
    demos, _ = chain(tmp_path)
    assert not demos.finished() and not tmp_path.joinpath("demos").exists()
    demos.begin()
    assert not demos.finished()
    with pytest.raises(ValueError, match="demos is not complete; run the stage that makes it first, or `wtl run`"):
        demos.require()
    demos.finish({"episodes": 3})
    assert demos.finished()
    demos.require()
    assert chain(tmp_path)[0].finished()  # in another process


def test_the_manifest_tells_what_made_it(tmp_path: Path) -> None:
    demos, trial = chain(tmp_path)
    complete(demos, trial)
    manifest = json.loads((tmp_path / "trial/manifest.json").read_text())
    assert manifest["identity"] == trial.identity
    assert manifest["inputs"] == {"demos": demos.identity}
    assert manifest["results"] == {"loss": 0.5} and manifest["wall_s"] >= 0
    assert manifest["packages"].keys() >= {"torch", "numpy", "metaworld", "learn2learn"}
    assert {"version", "commit", "uncommitted_changes", "python", "machine"} <= manifest.keys()


def test_identity_follows_the_settings_and_what_came_before(tmp_path: Path) -> None:
    _, trial = chain(tmp_path)
    assert trial.identity == chain(tmp_path / "elsewhere")[1].identity  # the folder is not part of it
    assert trial.identity != chain(tmp_path, second=3)[1].identity
    assert trial.identity != chain(tmp_path, first=3)[1].identity
    assert Stage(tmp_path, {"a": (1, 2)}).identity == Stage(tmp_path, {"a": [1, 2]}).identity  # as JSON says it
    assert Stage(tmp_path, {"a": 1, "b": 2}).identity == Stage(tmp_path, {"b": 2, "a": 1}).identity


def test_other_settings_are_refused_with_the_key_and_nothing_is_touched(tmp_path: Path) -> None:
    complete(*chain(tmp_path))
    before = content(tmp_path)
    _, other = chain(tmp_path, second=30)
    with pytest.raises(
        ValueError, match=r"was made with other settings \(steps was 2 and is 30\); choose another `directory"
    ):
        other.finished()
    deep, below = chain(tmp_path, first=9)
    with pytest.raises(ValueError, match=r"\(tasks.goals was 1 and is 9\)"):
        deep.finished()
    with pytest.raises(ValueError, match=r"trial was made with other settings \(a stage before it changed\)"):
        below.require()
    assert content(tmp_path) == before


def test_a_stage_that_was_cut_is_refused_with_other_settings_once_it_made_something(tmp_path: Path) -> None:
    chain(tmp_path)[0].begin()
    (tmp_path / "demos" / ".shard.partial").touch()
    assert not chain(tmp_path, first=5)[0].finished()  # nothing came of it, so the corrected settings may begin
    (tmp_path / "demos" / "shard").touch()
    with pytest.raises(ValueError, match="tasks.goals was 1 and is 5"):
        chain(tmp_path, first=5)[0].finished()


def test_at_most_three_keys_are_named(tmp_path: Path) -> None:
    complete(Stage(tmp_path, {k: 0 for k in "abcde"}))
    with pytest.raises(ValueError, match=r"\(a was 0 and is 1, b was 0 and is 1, c was 0 and is 1\)"):
        Stage(tmp_path, {k: 1 for k in "abcde"}).finished()


def test_a_fingerprint_is_short_and_depends_on_everything() -> None:
    assert len(fingerprint({"a": 1})) == 16
    assert fingerprint({"a": 1}) != fingerprint({"a": 2}) != fingerprint({"b": 2})


def test_provenance_survives_a_machine_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance()["commit"] == "unknown"


def test_an_installed_copy_names_the_commit_of_its_wheel_and_never_that_of_a_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    package = tmp_path / "site-packages" / "wtl"
    monkeypatch.setattr("wtl.app.stage.__file__", str(package / "app" / "stage.py"))
    monkeypatch.setattr("wtl.app.stage._COMMIT", package / "commit.txt")
    assert provenance()["commit"] == "unknown"
    package.mkdir(parents=True)
    for text, changed in (("abc\n", False), ("abc+\n", True)):
        (package / "commit.txt").write_text(text)
        assert (provenance()["commit"], provenance()["uncommitted_changes"]) == ("abc", changed)
