"""Episodes on disk: append-only shards, memory-mapped, checksummed, the manifest written last.

A shard is one safetensors file (no pickles) that holds the episodes of one unit of collection and appears under its
name only when it is whole, so a collection that was killed continues by making the shards that are missing. The
manifest closes the store. Trap: within a shard the steps of all episodes stand behind one another;
`EpisodeStore.episode` cuts them apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors.numpy import save

from wtl.core.episode import Episode, Role, Trajectory
from wtl.core.files import sha256_of, write_atomically
from wtl.core.records import RecordFormat, remedy
from wtl.core.task import Split, Task

VERSION = 2
"""The layout of a store's files; 1 had simulation states and no extras."""

_DTYPES = {
    "F16": np.float16, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8,
    "U16": np.uint16, "I16": np.int16, "U32": np.uint32, "I32": np.int32, "U64": np.uint64, "I64": np.int64,
}  # fmt: skip


class StoreError(ValueError):
    """A store that is missing, unfinished, damaged or of another version."""


MANIFEST = RecordFormat(VERSION, {"shards": list}, error=StoreError)
"""`store.json`: the name and the checksum of every shard."""

_SHARD_NAME = re.compile(r"shard-\d{5,}\.safetensors", re.ASCII)


@dataclass(frozen=True)
class EpisodeRecord:
    """The line of the index that describes one episode."""

    task: Task
    role: Role
    attempt: int
    seed: int
    source: str
    goal: tuple[float, ...]
    steps: int
    success: bool
    total_reward: float
    extras: dict[str, dict[str, Any]]
    """The shape and the type of each further array; the values themselves where they are strings."""


def shard_path(directory: Path, index: int) -> Path:
    """Return the file of a unit of collection."""
    return directory / f"shard-{index:05d}.safetensors"


def write_shard(directory: Path, index: int, episodes: Sequence[Episode]) -> Path:
    """Write the episodes of one unit of collection and return the file; the same episodes give the same bytes.

    Raises:
        StoreError: there are no episodes, or a further array has a type that cannot be stored.
    """
    if not episodes:
        raise StoreError(f"shard {index} of {directory} would be empty")
    arrays = {
        "observations": np.concatenate([e.trajectory.observations for e in episodes]),
        "actions": np.concatenate([e.trajectory.actions for e in episodes]),
        "expert_actions": np.concatenate([e.expert_actions for e in episodes]),
        "rewards": np.concatenate([e.trajectory.rewards for e in episodes]),
        "successes": np.concatenate([e.trajectory.successes for e in episodes]),
    }
    pieces: dict[str, list[np.ndarray]] = {}
    records = []
    for episode in episodes:
        extras = {}
        for name, array in sorted(episode.trajectory.extras.items()):
            extras[name] = _describe_extra(name, np.asarray(array))
            if "values" not in extras[name]:
                pieces.setdefault(_extra_key(name, extras[name]["type"]), []).append(np.asarray(array).ravel())
        records.append(asdict(_record(episode, extras)))
    arrays |= {key: np.concatenate(parts) for key, parts in pieces.items()}
    path = shard_path(directory, index)
    # One entry and no more: safetensors writes several in an order of its own, another one each time.
    write_atomically(path, save(arrays, metadata={"episodes": json.dumps(records)}))
    return path


def _record(episode: Episode, extras: dict[str, dict[str, Any]]) -> EpisodeRecord:
    trajectory = episode.trajectory
    return EpisodeRecord(
        task=episode.task,
        role=episode.role,
        attempt=episode.attempt,
        seed=episode.seed,
        source=episode.source,
        goal=tuple(episode.goal.tolist()),
        steps=len(trajectory),
        success=trajectory.success,
        total_reward=trajectory.total_reward(),
        extras=extras,
    )


def _describe_extra(name: str, array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind == "U":
        return {"type": "string", "shape": list(array.shape), "values": array.ravel().tolist()}
    if array.dtype.type not in _DTYPES.values():
        known = ", ".join(np.dtype(kind).name for kind in _DTYPES.values())
        raise StoreError(
            f"extra array {name!r} is of type {array.dtype}, which a store cannot hold; use {known} or str"
        )
    return {"type": array.dtype.name, "shape": list(array.shape)}


def _extra_key(name: str, kind: str) -> str:
    return f"extra/{name}/{kind}"


def close_store(directory: Path, shard_count: int, digests: Mapping[str, str] | None = None) -> None:
    """Write the manifest of a store whose shards 0 .. shard_count - 1 are all there.

    Args:
        directory: the store.
        shard_count: how many shards it has.
        digests: the checksums of the shards by name, where they were taken when the shards were written.

    Raises:
        StoreError: a shard is missing.
    """
    shards = []
    for index in range(shard_count):
        path = shard_path(directory, index)
        if not path.is_file():
            raise StoreError(f"cannot close {directory}: {path.name} is missing; run the same command again")
        shards.append({"file": path.name, "sha256": digests[path.name] if digests else sha256_of(path)})
    MANIFEST.write(directory / "store.json", {"shards": shards})


def _named_shards(directory: Path) -> list[tuple[Path, str]]:
    """Return each shard of a store with its checksum, as the manifest names them. Raises StoreError."""
    manifest = directory / "store.json"
    if not manifest.is_file():
        raise StoreError(f"{directory} is no finished episode store (store.json is missing); collect it first")
    shards = MANIFEST.read(manifest)["shards"]
    for shard in shards:
        named = isinstance(shard, dict) and isinstance(shard.get("file"), str) and isinstance(shard.get("sha256"), str)
        if not named or not _SHARD_NAME.fullmatch(shard["file"]):
            raise StoreError(f"{manifest} names the shard {shard!r}, which is none; {remedy(manifest)}")
    return [(directory / shard["file"], shard["sha256"]) for shard in shards]


def write_store(directory: Path, episodes: Iterable[Episode], shard_episodes: int = 100) -> int:
    """Write a whole store, some shards with at most so many episodes of equal sizes; return the number of episodes."""
    part: list[Episode] = []
    shards = count = 0
    for episode in episodes:
        if part and (len(part) == shard_episodes or _sizes(episode) != _sizes(part[0])):
            write_shard(directory, shards, part)
            part, shards = [], shards + 1
        part.append(episode)
        count += 1
    if part:
        write_shard(directory, shards, part)
        close_store(directory, shards + 1)
    return count


def _sizes(episode: Episode) -> tuple[int, int]:
    return episode.trajectory.observations.shape[1], episode.trajectory.actions.shape[1]


def _open_shard(path: Path) -> tuple[dict[str, np.ndarray], list[EpisodeRecord]]:
    """Return the arrays of a shard, as views of the file, and its index. Raises StoreError if it is no whole shard."""
    try:
        arrays, header = _mapped(path)
        records = [_record_from(line) for line in json.loads(header["__metadata__"]["episodes"])]
        _check_lengths(arrays, records)
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise StoreError(f"{path} is no shard of an episode store ({reason}); {remedy(path)}") from error
    return arrays, records


def _mapped(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    whole = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > whole - 8:
            raise ValueError("its header is longer than the file")
        header: dict[str, Any] = json.loads(file.read(size))
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise StoreError(f"{path} holds {name} of type {entry['dtype']}, which this program cannot read")
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        first, last = entry["data_offsets"]
        counts = all(type(number) is int and number >= 0 for number in (*shape, first, last))
        if not counts or last - first != math.prod(shape) * dtype.itemsize or 8 + size + last > whole:
            raise ValueError(f"the place of {name} is not in the file")
        if 0 in shape:
            arrays[name] = np.zeros(shape, dtype)
        else:
            arrays[name] = np.memmap(path, dtype, "r", offset=8 + size + first, shape=shape)
    return arrays, header


def _record_from(line: dict[str, Any]) -> EpisodeRecord:
    task = Task(**line["task"] | {"parameters": tuple(line["task"]["parameters"])})
    if task.split not in get_args(Split) or line["role"] not in get_args(Role):
        raise ValueError(f"an episode is a {line['role']!r} of split {task.split!r}")
    return EpisodeRecord(**line | {"task": task, "goal": tuple(map(float, line["goal"]))})


def _check_lengths(arrays: dict[str, np.ndarray], records: Sequence[EpisodeRecord]) -> None:
    """Raises ValueError unless the arrays hold exactly the episodes of the index."""
    if not records or not all(type(record.steps) is int and record.steps > 0 for record in records):
        raise ValueError("its index names no episode, or one without steps")
    steps = sum(record.steps for record in records)
    lengths = dict.fromkeys(("actions", "expert_actions", "rewards", "successes"), steps)
    extras: dict[str, int] = {}
    for record in records:
        for name, about in record.extras.items():
            count = math.prod(about["shape"])
            if "values" not in about:
                key = _extra_key(name, about["type"])
                extras[key] = extras.get(key, 0) + count
            elif len(about["values"]) != count:
                raise ValueError(f"{name} has {len(about['values'])} values, expected {count}")
    for name, length in {"observations": steps + len(records), **lengths, **extras}.items():
        if len(arrays[name]) != length:
            raise ValueError(f"{name} has {len(arrays[name])} rows, expected {length}")


@dataclass(frozen=True)
class _Location:
    """Where the arrays of one episode begin."""

    shard: int
    observation: int
    step: int
    extras: dict[str, int]


class EpisodeStore:
    """A finished store, read-only."""

    def __init__(self, directory: Path, verify: bool = True) -> None:
        """Open a store.

        Raises:
            StoreError: it is missing, unfinished or of another version, or it fails its checksums.
        """
        self.directory = directory
        self.records: list[EpisodeRecord] = []
        self._shards: list[dict[str, np.ndarray]] = []
        self._locations: list[_Location] = []
        for path, digest in _named_shards(directory):
            if not path.is_file() or (verify and sha256_of(path) != digest):
                raise StoreError(f"{path} is missing or damaged; {remedy(path)}")
            self._add(*_open_shard(path))

    def _add(self, arrays: dict[str, np.ndarray], records: list[EpisodeRecord]) -> None:
        step = 0
        reached: dict[str, int] = {}
        for i, record in enumerate(records):
            firsts = {}
            for name, about in record.extras.items():
                if "values" not in about:
                    key = _extra_key(name, about["type"])
                    firsts[name] = reached.get(key, 0)
                    reached[key] = firsts[name] + int(np.prod(about["shape"]))
            self._locations.append(_Location(len(self._shards), step + i, step, firsts))
            step += record.steps
        self._shards.append(arrays)
        self.records.extend(records)

    @property
    def digest(self) -> str:
        """One checksum for the whole content."""
        return sha256_of(self.directory / "store.json")

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(i) for i in range(len(self)))

    def episode(self, index: int) -> Episode:
        """Return one episode; its arrays are views of the file."""
        record, location = self.records[index], self._locations[index]
        arrays = self._shards[location.shard]
        steps = slice(location.step, location.step + record.steps)
        trajectory = Trajectory(
            arrays["observations"][location.observation : location.observation + record.steps + 1],
            arrays["actions"][steps],
            arrays["rewards"][steps],
            arrays["successes"][steps],
            extras={name: self._extra(arrays, location, name, about) for name, about in record.extras.items()},
        )
        return Episode(
            trajectory,
            record.task,
            record.role,
            record.attempt,
            record.seed,
            record.source,
            np.array(record.goal),
            arrays["expert_actions"][steps],
        )

    def _extra(
        self, arrays: dict[str, np.ndarray], location: _Location, name: str, about: dict[str, Any]
    ) -> np.ndarray:
        if "values" in about:
            return np.array(about["values"], dtype=str).reshape(about["shape"])
        first = location.extras[name]
        flat = arrays[_extra_key(name, about["type"])][first : first + int(np.prod(about["shape"]))]
        return flat.reshape(about["shape"])
