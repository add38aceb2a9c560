"""Episodes on disk: append-only shards, memory-mapped, checksummed, the manifest written last.

A shard is one safetensors file (no pickles) that holds the episodes of one unit of collection and
appears under its name only when it is whole, so a collection that was killed continues by making
the shards that are missing. The manifest closes the store. Trap: within a shard the steps of all
episodes stand behind one another; `EpisodeStore.episode` cuts them apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from wtl.core.episode import Episode, Role, Trajectory
from wtl.core.files import sha256_of, write_atomically
from wtl.core.task import Task

FIELDS = ("observations", "actions", "expert_actions", "rewards", "successes", "states")
_DTYPES = {"F32": np.float32, "F64": np.float64, "BOOL": np.bool_}


class StoreError(ValueError):
    """A store that is missing, unfinished or damaged."""


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
    state_size: int
    success: bool
    total_reward: float


def write_shard(directory: Path, index: int, episodes: Sequence[Episode]) -> Path:
    """Write the episodes of one unit of collection; the same episodes give the same bytes."""
    if not episodes:
        raise StoreError(f"shard {index} of {directory} would be empty")
    arrays = {
        "observations": np.concatenate([e.trajectory.observations for e in episodes]),
        "actions": np.concatenate([e.trajectory.actions for e in episodes]),
        "expert_actions": np.concatenate([e.expert_actions for e in episodes]),
        "rewards": np.concatenate([e.trajectory.rewards for e in episodes]),
        "successes": np.concatenate([e.trajectory.successes for e in episodes]),
        "states": np.concatenate([e.states.ravel() for e in episodes]),
    }
    records = [
        asdict(
            EpisodeRecord(
                e.task,
                e.role,
                e.attempt,
                e.seed,
                e.source,
                tuple(e.goal.tolist()),
                len(e.trajectory),
                e.states.shape[1],
                e.trajectory.success,
                float(e.trajectory.rewards.sum(dtype=np.float64)),
            )
        )
        for e in episodes
    ]
    path = directory / f"shard-{index:05d}.safetensors"
    write_atomically(path, save(arrays, metadata={"episodes": json.dumps(records)}))
    return path


def close_store(directory: Path, shard_count: int) -> None:
    """Write the manifest of a store whose shards 0 .. shard_count - 1 are all there."""
    shards = []
    for index in range(shard_count):
        path = directory / f"shard-{index:05d}.safetensors"
        if not path.is_file():
            raise StoreError(f"cannot close {directory}: {path.name} is missing; run the same command again")
        shards.append({"file": path.name, "sha256": sha256_of(path)})
    write_atomically(directory / "store.json", json.dumps({"version": 1, "shards": shards}, indent=1).encode())


def _open_shard(path: Path) -> tuple[dict[str, np.ndarray], list[EpisodeRecord]]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        if 0 in shape:
            arrays[name] = np.zeros(shape, dtype)
        else:
            arrays[name] = np.memmap(path, dtype, "r", offset=8 + size + entry["data_offsets"][0], shape=shape)
    records = []
    for line in json.loads(header["__metadata__"]["episodes"]):
        task = line.pop("task")
        task["parameters"] = tuple(task["parameters"])
        records.append(EpisodeRecord(**line | {"task": Task(**task), "goal": tuple(line["goal"])}))
    return arrays, records


class EpisodeStore:
    """A finished store, read-only."""

    def __init__(self, directory: Path, verify: bool = True) -> None:
        """Raises StoreError if the store is missing, unfinished, or fails its checksums."""
        manifest = directory / "store.json"
        if not manifest.is_file():
            raise StoreError(f"{directory} is no finished episode store (store.json is missing); collect it first")
        self.directory = directory
        self.records: list[EpisodeRecord] = []
        self._shards: list[dict[str, np.ndarray]] = []
        self._place: list[tuple[int, int, int, int]] = []
        # shard, first observation, first step, first state number of every episode
        for shard in json.loads(manifest.read_text())["shards"]:
            path = directory / shard["file"]
            if not path.is_file() or (verify and sha256_of(path) != shard["sha256"]):
                raise StoreError(f"{path} is missing or damaged; delete {directory} and collect it again")
            arrays, records = _open_shard(path)
            step = state = 0
            for i, record in enumerate(records):
                self._place.append((len(self._shards), step + i, step, state))
                step += record.steps
                state += (record.steps + 1) * record.state_size
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
        """One episode; its arrays are views of the file."""
        record, (shard, first, step, state) = self.records[index], self._place[index]
        arrays = self._shards[shard]
        steps = slice(step, step + record.steps)
        trajectory = Trajectory(
            arrays["observations"][first : first + record.steps + 1],
            arrays["actions"][steps],
            arrays["rewards"][steps],
            arrays["successes"][steps],
        )
        states = arrays["states"][state : state + (record.steps + 1) * record.state_size]
        return Episode(
            trajectory,
            record.task,
            record.role,
            record.attempt,
            record.seed,
            record.source,
            np.array(record.goal),
            arrays["expert_actions"][steps],
            states.reshape(record.steps + 1, record.state_size),
        )
