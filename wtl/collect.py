"""Collect demonstrations and trials into episode stores, on all cores, resumable at any moment.

The work is cut into units of one family before it is handed out and each unit writes one shard, so the
content depends neither on the number of workers nor on interruptions. Free of torch at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from wtl.attempts import ExplorationConfig, Session, extended, first_contexts, play_attempt, worker_pool
from wtl.episode import Episode
from wtl.executor import Executor
from wtl.rollout import Demonstrator, Ending, Noise, roll_out
from wtl.seeding import seed_for, stream
from wtl.store import EpisodeStore, close_store, write_atomically, write_shard
from wtl.task import Regime, Split, Task, TaskDistribution, TaskFamily

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
class TrialsConfig:
    """How trials are collected on training and validation tasks."""

    first_round_tasks: int | None = None
    """Tasks of the first round (None: all)."""
    later_round_tasks: int | None = None
    """Tasks of each later round, in which the operator plays attempts 0 .. `attempts`."""
    per_task: int = 1
    """Sessions a task in each round."""
    attempts: int = 2
    """Retrials in a session of later rounds."""
    horizons_steps: tuple[int, ...] = (500,)
    """Taken in turns by the units of work: short trials are cheap, but the operator must also have met the
    long ones of the evaluation, or it cannot read them."""
    misled: int = 0
    """In later rounds, of each training task with a hidden goal: trials of an expert that is told the goal of another
    task. They miss as the operator's own guesses do and need no network, so there can be many: it takes thousands of
    pairs of trial and goal to learn to read the one from the other."""
    misled_noise: float = 0.3
    """Largest scale of the noise in what a misled expert executes."""
    after_success_steps: int | None = 5
    unit_episodes: int = 25
    keep_states: bool = True


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


def _units(items: Iterable[Item], size: int, family_of: Callable[[Item], str]) -> Iterator[tuple[Item, ...]]:
    """Cut into units of at most `size`, each of one family, families behind one another."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(family_of(item), []).append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield tuple(group[start : start + size])


def _run_units(function: Callable, units: Sequence, directory: Path, executor: Executor, progress: Progress) -> None:
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
        for i, unit in enumerate(_units(tasks, config.unit_episodes, lambda task: task.family))
    ]
    _run_units(_demonstration_unit, units, directory, executor, progress)


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


@dataclass(frozen=True)
class Operator:
    """A trained pair on disk: who makes attempt 0 and who makes the later ones."""

    trial: Path
    retrial: Path | None = None


@dataclass(frozen=True)
class _TrialUnit:
    directory: Path
    index: int
    family: TaskFamily
    sessions: tuple[Session, ...]
    operator: Operator
    attempts: int
    config: TrialsConfig
    exploration: ExplorationConfig


def _trial_unit(unit: _TrialUnit) -> int:
    from wtl.methods import load_policy

    horizons = unit.config.horizons_steps
    ending = Ending(horizons[unit.index % len(horizons)], unit.config.after_success_steps)
    contexts = first_contexts(unit.sessions)
    collected: list[Episode] = []
    for attempt in range(unit.attempts + 1):
        path = unit.operator.retrial if attempt else unit.operator.trial
        assert path is not None
        episodes = play_attempt(
            unit.family,
            unit.sessions,
            contexts,
            load_policy(path),
            attempt,
            ending=ending,
            exploration=unit.exploration,
            keep_states=unit.config.keep_states,
        )
        collected += episodes
        contexts = extended(contexts, episodes)
    write_shard(unit.directory, unit.index, collected)
    return len(collected)


@dataclass(frozen=True)
class _MisledUnit:
    directory: Path
    index: int
    family: TaskFamily
    told: tuple[tuple[Task, np.ndarray, int], ...]
    """Task, the goal that its expert is told, seed."""
    config: TrialsConfig


def _misled_unit(unit: _MisledUnit) -> int:
    horizons = unit.config.horizons_steps
    tasks, goals, seeds = zip(*unit.told, strict=True)
    episodes = roll_out(
        unit.family,
        worker_pool().take(unit.family, len(tasks)),
        tasks,
        seeds,
        Demonstrator(Noise(unit.config.misled_noise), told=goals),
        ending=Ending(horizons[unit.index % len(horizons)], unit.config.after_success_steps),
        role="trial",
        source="misled expert",
        keep_states=unit.config.keep_states,
    )
    write_shard(unit.directory, unit.index, episodes)
    return len(episodes)


def _play(unit: _TrialUnit | _MisledUnit) -> int:
    return _trial_unit(unit) if isinstance(unit, _TrialUnit) else _misled_unit(unit)


def _misled(
    distribution: TaskDistribution, demonstrations: EpisodeStore, count: int, seed: int, round_number: int
) -> list[tuple[Task, np.ndarray, int]]:
    """`count` wrong goals for each training task of a family that hides its goal."""
    if not count:  # or every demonstration would be read for nothing
        return []
    goals: dict[str, dict[str, np.ndarray]] = {}
    for episode in demonstrations:
        if episode.task.split == "train":
            goals.setdefault(episode.task.family, {})[episode.task.name] = episode.goal
    told = []
    for task in distribution.train:
        others = [goal for name, goal in goals.get(task.family, {}).items() if name != task.name]
        if distribution.families[task.family].spec.hidden_goal and others:
            generator = stream(seed, "misled", task.name, round_number)
            for copy in range(count):
                goal = others[generator.integers(len(others))]
                told.append((task, goal, seed_for(seed, "misled", task.name, round_number, copy)))
    return told


def collect_trials(
    distribution: TaskDistribution,
    config: TrialsConfig,
    exploration: ExplorationConfig,
    regime: Regime,
    demonstrations: EpisodeStore,
    operator: Operator,
    round_number: int,
    seed: int,
    directory: Path,
    executor: Executor,
    progress: Progress,
) -> None:
    """Play the operator on training and validation tasks; the expert labels every state it visits.

    Round 0 plays the trial policy alone; later rounds go on with the retrial policy on its own trials,
    because that is what the operator meets at attempts 2, 3, ...
    """
    limit = config.later_round_tasks if round_number else config.first_round_tasks
    shelf = DemonstrationShelf(demonstrations, regime)
    sessions = []
    for split in ("train", "validation"):
        weights = {name: family.spec.weight for name, family in distribution.families.items()}
        own_limit = limit if split == "train" else None
        for task in _spread(distribution.split(split), own_limit, weights, seed, round_number):
            for copy in range(config.per_task):
                own = seed_for(seed, "trial", task.name, round_number, copy)
                shown = shelf.choose(task, 1, own)[0]
                sessions.append(
                    Session(task, shown.trajectory if shown else None, shown.task.name if shown else "", own)
                )
    units: list[_TrialUnit | _MisledUnit] = [
        _TrialUnit(
            directory, i, distribution.families[unit[0].task.family], unit, operator,
            config.attempts if round_number else 0, config, exploration,
        )
        for i, unit in enumerate(_units(sessions, config.unit_episodes, lambda session: session.task.family))
    ]  # fmt: skip
    told = _misled(distribution, demonstrations, config.misled if round_number else 0, seed, round_number)
    units += [
        _MisledUnit(directory, i, distribution.families[unit[0][0].family], unit, config)
        for i, unit in enumerate(_units(told, config.unit_episodes, lambda one: one[0].family), len(units))
    ]
    _run_units(_play, units, directory, executor, progress)


def _spread(
    tasks: Sequence[Task], limit: int | None, weights: Mapping[str, int], seed: int, round_number: int
) -> list[Task]:
    """About `limit` tasks, other ones each round, every family with its share by weight."""
    if limit is None or limit >= len(tasks):
        return list(tasks)
    families = list(dict.fromkeys(task.family for task in tasks))
    whole = sum(weights[family] for family in families)
    chosen: list[Task] = []
    for family in families:
        share = -(-limit * weights[family] // whole)
        own = [task for task in tasks if task.family == family]
        order = stream(seed, "tasks of round", family).permutation(len(own))
        picked = [(max(round_number - 1, 0) * share + i) % len(own) for i in range(min(share, len(own)))]
        chosen += [own[order[i]] for i in sorted(picked)]
    return chosen
