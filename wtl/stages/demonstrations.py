"""Collect demonstrations into an episode store, on all cores, resumable at any moment; and choose among them.

The work is cut into units of one family before it is handed out and each unit writes one shard, so the
content depends neither on the number of workers nor on interruptions. Free of torch at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wtl.compute.executor import Executor
from wtl.core.episode import Episode
from wtl.core.files import write_atomically
from wtl.core.rng import seed_for, stream
from wtl.core.task import Regime, Split, Task, TaskDistribution, TaskFamily
from wtl.data.store import EpisodeStore, close_store, write_shard
from wtl.play.attempts import worker_pool
from wtl.play.rollout import Demonstrator, Ending, Noise, roll_out

Item = TypeVar("Item")
Progress = Callable[[int, int], None]
"""Called with (units done, units in all)."""


@dataclass(frozen=True)
class DemonstrationsConfig:
    """How demonstrations are made. Failures are done again, with less noise each time."""

    noise: float = 0.3
    """Largest scale of the noise in executed actions; every episode draws its own below it."""
    spare_last: bool = True
    after_success_steps: int = 5
    retries: int = 5
    unit_episodes: int = 25
    per_task: int = 1
    keep_states: bool = True
    splits: tuple[Split, ...] = ("train", "validation", "test")
    """Of which tasks; the test tasks are enough for an evaluation without training."""


@dataclass(frozen=True)
class _DemonstrationUnit:
    directory: Path
    index: int
    family: TaskFamily
    tasks: tuple[Task, ...]
    config: DemonstrationsConfig
    seed: int


def demonstrate(family: TaskFamily, tasks: Sequence[Task], config: DemonstrationsConfig, seed: int) -> list[Episode]:
    """Successful demonstrations of these tasks; a task that the expert never solves is left out."""
    done: dict[str, Episode] = {}
    left = list(tasks)
    for retry in range(config.retries + 1):
        scale = config.noise * (1.0 - retry / max(config.retries, 1))
        seeds = [seed_for(seed, "demonstration", task.name, retry) for task in left]
        episodes = roll_out(
            family,
            worker_pool().take(family, len(left)),
            left,
            seeds,
            Demonstrator(Noise(scale, spare_last=config.spare_last)),
            ending=Ending(family.spec.horizon_steps, config.after_success_steps),
            role="demonstration",
            keep_states=config.keep_states,
        )
        done |= {e.task.name: e for e in episodes if e.trajectory.success}
        left = [task for task in left if task.name not in done]
        if not left:
            break
    return [done[task.name] for task in tasks if task.name in done]


def _demonstration_unit(unit: _DemonstrationUnit) -> int:
    episodes: list[Episode] = []
    for copy in range(unit.config.per_task):
        episodes += demonstrate(unit.family, unit.tasks, unit.config, seed_for(unit.seed, copy))
    if not episodes:
        raise ValueError(
            f"the expert of {unit.family.spec.name} solved none of {len(unit.tasks)} tasks; nothing to show"
        )
    write_shard(unit.directory, unit.index, episodes)
    return len(episodes)


def units_of(items: Iterable[Item], size: int, family_of: Callable[[Item], str]) -> Iterator[tuple[Item, ...]]:
    """Cut into units of at most `size`, each of one family, families behind one another."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(family_of(item), []).append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield tuple(group[start : start + size])


def run_units(function: Callable, units: Sequence, directory: Path, executor: Executor, progress: Progress) -> None:
    """Have every unit done whose shard is not yet there."""
    # Listed, not asked for one by one: a network file system would remember which were not there.
    there = {path.name for path in directory.glob("shard-*")}
    left = [unit for unit in units if f"shard-{unit.index:05d}.safetensors" not in there]
    done = len(units) - len(left)
    progress(done, len(units))
    for _ in executor.map(function, left):
        done += 1
        progress(done, len(units))
    close_store(directory, len(units))


def adopt_demonstrations(distribution: TaskDistribution, source: Path, directory: Path) -> None:
    """Copy a store of one's own demonstrations, after checking that it fits the tasks.

    Raises:
        ValueError: no finished store, no demonstration in it, or an episode of an unknown family or size.
    """
    store = EpisodeStore(source)
    layout, action_size = distribution.spec.layout, distribution.spec.action_size
    for number, episode in enumerate(store):
        seen, done = episode.trajectory.observations.shape[1], episode.trajectory.actions.shape[1]
        if episode.task.family not in distribution.families or episode.role != "demonstration":
            raise ValueError(
                f"episode {number} of {source} is a {episode.role} of {episode.task.family}; not usable here"
            )
        if (seen, done) != (layout.size, action_size):
            raise ValueError(
                f"episode {number} of {source} has {seen} observation and {done} action numbers, "
                f"expected {layout.size} and {action_size}"
            )
    for file in sorted(source.glob("shard-*.safetensors")):
        write_atomically(directory / file.name, file.read_bytes())
    write_atomically(directory / "store.json", (source / "store.json").read_bytes())


def collect_demonstrations(
    distribution: TaskDistribution,
    config: DemonstrationsConfig,
    regime: Regime,
    seed: int,
    directory: Path,
    executor: Executor,
    progress: Progress,
) -> None:
    """Demonstrate every task of every split; in regime `goal` also its twin with another start.

    Raises:
        ValueError: regime `goal` on a family that has one start only.
    """
    tasks = [task for split in config.splits for task in distribution.split(split)]
    if regime == "goal":
        tasks += [
            distribution.families[t.family].with_other_start(t, seed_for(seed, "other-start", t.name)) for t in tasks
        ]
    units = [
        _DemonstrationUnit(directory, i, distribution.families[unit[0].family], unit, config, seed)
        for i, unit in enumerate(units_of(tasks, config.unit_episodes, lambda task: task.family))
    ]
    run_units(_demonstration_unit, units, directory, executor, progress)


class DemonstrationShelf:
    """Which demonstration may be shown for which task: never one of the task itself."""

    def __init__(self, store: EpisodeStore, regime: Regime) -> None:
        self._store, self._regime = store, regime
        self._by_key: dict[tuple[str, str], list[int]] = {}
        for i, record in enumerate(store.records):
            self._by_key.setdefault(self._key(record.task), []).append(i)

    def _key(self, task: Task) -> tuple[str, str]:
        return (task.split, task.goal_name if self._regime == "goal" else task.family)

    def choose(self, task: Task, count: int, seed: int) -> list[Episode | None]:
        """`count` different demonstrations for a task (as many as there are), or None in regime `none`.

        Raises:
            ValueError: there is none.
        """
        if self._regime == "none":
            return [None] * count
        candidates = [
            i
            for i in self._by_key.get(self._key(task), [])
            if self._store.records[i].task.parameters != task.parameters
        ]
        if not candidates:
            raise ValueError(f"no demonstration for task {task.name} in regime `{self._regime}`")
        generator = stream(seed, "demonstration for", task.name)
        chosen = generator.permutation(len(candidates))[:count]
        return [self._store.episode(candidates[i]) for i in chosen]
