"""Episodes on disk: what goes in comes out bit for bit, and what is broken is named."""

from __future__ import annotations

import json
import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import episodes, make_episode, make_task, same_episode

from wtl.core import files
from wtl.core.episode import Episode
from wtl.core.files import write_atomically
from wtl.data.store import EpisodeStore, StoreError, close_store, write_shard

THREE = [make_episode(make_task(f"alpha/{i}"), steps=3 + i, seed=i) for i in range(3)]


MANY = [[episode] for episode in THREE * 4]  # so many shards do not come out alike by chance


def stored(directory: Path, shards: list[list[Episode]] | None = None) -> EpisodeStore:
    for index, shard in enumerate(shards or [THREE[:2], THREE[2:]]):
        write_shard(directory, index, shard)
    close_store(directory, len(shards or [0, 0]))
    return EpisodeStore(directory)


def owner(array: Any) -> Any:
    """Whose memory an array is."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.lists(episodes(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, shards: list[list[Episode]]) -> None:
    store = stored(tmp_path_factory.mktemp("store"), shards)
    given_episodes = [episode for shard in shards for episode in shard]
    assert len(store) == len(given_episodes)
    for record, back, episode in zip(store.records, store, given_episodes, strict=True):
        assert same_episode(back, episode)
        assert (record.steps, record.success) == (len(episode.trajectory), episode.trajectory.success)
        assert record.total_reward == pytest.approx(float(episode.trajectory.rewards.sum(dtype=np.float64)))


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = stored(tmp_path / "a", MANY), stored(tmp_path / "b", MANY)
    assert [p.read_bytes() for p in sorted(one.directory.iterdir())] == [
        p.read_bytes() for p in sorted(other.directory.iterdir())
    ]
    assert one.digest == other.digest != stored(tmp_path / "c", [THREE]).digest


def test_arrays_are_views_of_the_file_and_cannot_be_written(tmp_path: Path) -> None:
    trajectory = stored(tmp_path).episode(1).trajectory
    for array in (trajectory.observations, trajectory.actions, trajectory.rewards):
        assert isinstance(owner(array), mmap.mmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_a_store_without_a_manifest_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is no finished episode store \(store.json is missing\); collect it first"):
        EpisodeStore(tmp_path / "nowhere")
    write_shard(tmp_path, 0, THREE)
    with pytest.raises(StoreError, match="no finished episode store"):
        EpisodeStore(tmp_path)


def test_a_store_with_a_hole_is_not_closed(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, THREE)
    with pytest.raises(StoreError, match="shard-00001.safetensors is missing; run the same command again"):
        close_store(tmp_path, 2)
    assert not (tmp_path / "store.json").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    path = stored(tmp_path).directory / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[-5] ^= 1
        path.write_bytes(content if damage == "flip" else content[:-9])
    with pytest.raises(StoreError, match=r"shard-00001.safetensors is missing or damaged; delete .* collect it again"):
        EpisodeStore(tmp_path)


def test_an_empty_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="shard 4 of .* would be empty"):
        write_shard(tmp_path, 4, [])


def test_a_file_is_the_old_one_or_the_whole_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"old")

    def die(_: int) -> None:
        raise KeyboardInterrupt  # with everything written and nothing on the disk yet

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.os, "fsync", die)
        write_atomically(path, b"new, but never whole")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]  # the partial file was written again and moved


def test_an_unfinished_shard_does_not_stand_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.os, "fsync", die)
        write_shard(tmp_path, 0, THREE)
    assert not (tmp_path / "shard-00000.safetensors").exists()
    assert len(stored(tmp_path)) == 3  # what is left over is in nobody's way


def test_the_index_tells_what_produced_an_episode(tmp_path: Path) -> None:
    record = stored(tmp_path).records[2]
    assert (record.task, record.role, record.attempt, record.seed, record.source) == (
        THREE[2].task, "demonstration", 0, 2, "test",
    )  # fmt: skip
    manifest = json.loads((tmp_path / "store.json").read_text())
    assert manifest["version"] == 2 and len(manifest["shards"]) == 2


# Further arrays.


def with_extras(seed: int, /, **extras: np.ndarray) -> Episode:
    episode = make_episode(make_task(f"alpha/{seed}"), steps=3, seed=seed)
    return replace(episode, trajectory=replace(episode.trajectory, extras=extras))


def test_further_arrays_of_every_kind_come_back_bit_for_bit(tmp_path: Path) -> None:
    """Each episode has others, of other shapes; the same name may even stand for another type."""
    generator = np.random.default_rng(0)
    kept = [
        with_extras(
            0, frames=generator.integers(0, 256, (4, 5, 5, 3)).astype(np.uint8), depth=generator.random((4, 2))
        ),
        with_extras(1),
        with_extras(2, depth=np.float32([np.nan, -0.0]), frames=generator.integers(0, 256, (2, 3)).astype(np.uint8)),
        with_extras(3, words=np.array([["pick", ""], ["it", "up é"]]), flags=np.array([True, False, True])),
        with_extras(4, depth=np.arange(3), nothing=np.zeros((0, 4), np.int16), number=np.array(7, np.int8)),
        with_extras(5, depth=generator.random((3, 2)).T, words=np.array("one sentence")),
    ]
    for back, episode in zip(stored(tmp_path, [kept[:5], kept[5:]]), kept, strict=True):
        assert same_episode(back, episode)


def test_pictures_are_views_of_the_file(tmp_path: Path) -> None:
    frames = stored(tmp_path, [[with_extras(0, frames=np.ones((4, 2, 2, 3), np.uint8))]]).episode(0).trajectory.extras
    assert isinstance(owner(frames["frames"]), mmap.mmap)


@pytest.mark.parametrize("array", [np.zeros(2, complex), np.array([{}]), np.array([b"bytes"])])
def test_a_type_that_cannot_be_stored_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(StoreError, match=r"^extra array 'odd' is of type .*, which a store cannot hold; use float16, "):
        write_shard(tmp_path, 0, [with_extras(0, odd=array)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", [1, 3, None])
def test_a_store_of_another_version_is_refused(tmp_path: Path, version: int | None) -> None:
    manifest = stored(tmp_path).directory / "store.json"
    content = json.loads(manifest.read_text())
    content = content | {"version": version} if version else {"shards": content["shards"]}
    manifest.write_text(json.dumps(content))
    sentence = f"is an episode store of version {version}, and this program reads version 2; collect it again"
    with pytest.raises(StoreError, match=sentence):
        EpisodeStore(tmp_path)


def test_a_shard_with_a_type_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path).directory / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"Q32"'))
    with pytest.raises(StoreError, match=r"shard-00000.safetensors holds \w+ of type Q32, which this program cannot"):
        EpisodeStore(tmp_path, verify=False)


def test_seeds_and_attempts_of_numpys_types_are_written(tmp_path: Path) -> None:
    episode = replace(make_episode(make_task("a")), seed=np.int64(7), attempt=np.int32(1))
    [back] = stored(tmp_path, [[episode]])
    assert (back.seed, back.attempt) == (7, 1) and type(episode.seed) is int
