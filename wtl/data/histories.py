"""Attempt histories: what a method was shown, what it tried, and what each attempt earned (the meta-episode).

An evaluation with `evaluation.keep_episodes` writes every episode into a store beside its results. Each carries, as
further arrays, which entry it belongs to; `read_histories` puts the episodes of one method and one entry together.
Trap: a control's episodes are kept too and stand in no history, because their context was made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wtl.core.episode import Episode
from wtl.core.task import Task
from wtl.data.store import EpisodeRecord, EpisodeStore, StoreError


@dataclass(frozen=True)
class Part:
    """Which place an episode has in an evaluation."""

    entry_task: str
    """The name of the entry's task; a demonstration is of another one."""
    entry_seed: int
    protocol: str
    """How an attempt was played (`ProtocolConfig.name`)."""
    method: str = ""
    """Empty for a demonstration, which all methods were shown."""
    control: str = ""
    """Empty for the method itself."""
    attempt: int = 0


_TEXTS = ("entry_task", "protocol", "method", "control")
_NUMBERS = ("entry_seed", "attempt")


def with_part(episode: Episode, part: Part) -> Episode:
    """Return an episode that says which place it has in an evaluation."""
    own = {name: np.array(getattr(part, name)) for name in _TEXTS}
    own |= {name: np.array(getattr(part, name), np.int64) for name in _NUMBERS}
    trajectory = replace(episode.trajectory, extras={**episode.trajectory.extras, **own})
    return replace(episode, trajectory=trajectory)


@dataclass(frozen=True)
class History:
    """One method on one entry, from the demonstration to the last attempt."""

    task: Task
    seed: int
    """The entry's."""
    method: str
    policy: str
    """The method with the digest of its checkpoint."""
    protocol: str
    demonstrations: tuple[Episode, ...]
    """What was shown; of other tasks."""
    attempts: tuple[Episode, ...]
    """Attempts 0 .. K in order, each played after reading the ones before."""


def read_histories(store: EpisodeStore) -> Iterator[History]:
    """Yield the history of every method and entry, in the order in which they were played.

    Raises:
        StoreError: the store was not kept by an evaluation.
    """
    shown: dict[tuple[str, int], list[int]] = {}
    tried: dict[tuple[str, int, str], list[int]] = {}
    for i, record in enumerate(store.records):
        part = _part(store, i)
        entry = (part.entry_task, part.entry_seed)
        if record.role == "demonstration":
            shown.setdefault(entry, []).append(i)
        elif not part.control:
            tried.setdefault((*entry, part.method), []).append(i)
    for (task, seed, _), numbers in tried.items():
        yield _history(store, numbers, shown.get((task, seed), []))


def count_controls(store: EpisodeStore) -> int:
    """Return how many episodes of a store are of controls, which stand in no history."""
    return sum(bool(_part(store, i).control) for i in range(len(store)))


def _history(store: EpisodeStore, tried: Sequence[int], shown: Sequence[int]) -> History:
    part, first = _part(store, tried[0]), store.records[tried[0]]
    return History(
        task=first.task,
        seed=part.entry_seed,
        method=part.method,
        policy=first.source,
        protocol=part.protocol,
        demonstrations=tuple(store.episode(i) for i in shown),
        attempts=tuple(store.episode(i) for i in sorted(tried, key=lambda i: _part(store, i).attempt)),
    )


def _part(store: EpisodeStore, index: int) -> Part:
    record: EpisodeRecord = store.records[index]
    if not {*_TEXTS, *_NUMBERS} <= record.extras.keys():
        raise StoreError(f"{store.directory} holds episodes of no evaluation, so it has no attempt histories")
    extras = store.episode(index).trajectory.extras
    texts, numbers = {n: str(extras[n]) for n in _TEXTS}, {n: int(extras[n]) for n in _NUMBERS}
    return Part(**texts, **numbers)  # type: ignore[arg-type]
