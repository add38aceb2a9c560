"""Stage: every method and control on one fixed, saved list of entries.

An entry is a task, a demonstration of another task and a seed; every method plays the same entries and each is
counted once. Units are resumable. Results are one line an episode; the episodes themselves are kept on demand, in a
store beside them (`keep_episodes`). Free of torch at import.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from wtl.analysis.results import EpisodeResult, read_results, write_results
from wtl.compute.executor import Executor
from wtl.core.bounds import Attempts, Between, Bounded, Count, Listed
from wtl.core.episode import Context, Episode
from wtl.core.files import write_atomically
from wtl.core.rng import seed_for, stream
from wtl.core.task import Regime, Split, TaskDistribution, TaskFamily
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.histories import Part, with_part
from wtl.data.store import close_store, shard_path, write_shard
from wtl.play.attempts import extended, play_attempt
from wtl.play.policy import Player, Session
from wtl.play.protocol import ProtocolConfig
from wtl.stages.controls import ControlEntry, find_control
from wtl.stages.trials import MakePlayer
from wtl.stages.units import Progress, run_units


@dataclass(frozen=True)
class EvaluationConfig(Bounded):
    """What is played."""

    split: Split = "test"
    """Whose tasks."""
    attempts: Attempts = 2
    """K: attempts 0 .. K are played."""
    entries_per_task: Annotated[int, Between(1, 10_000)] = 2
    """Each with another demonstration and another seed."""
    controls: Annotated[tuple[str, ...], Listed()] = (
        "blind_retry", "shuffled_trial", "masked_reward", "second_demonstration", "no_demonstration",
    )  # fmt: skip
    """The controls of every method that reads trials, by name or address."""
    control_attempt: Annotated[int, Between(1, 1000)] = 1
    """The attempt at which controls act."""
    methods: Annotated[tuple[str, ...], Listed()] = ()
    """What is evaluated beside the run's own method, by name or address (`wtl methods`)."""
    variants: Annotated[tuple[str, ...], Listed()] = ()
    """Which variants of the run's own method are evaluated beside it (`wtl methods`), such as `told_goal`."""
    asked: Annotated[tuple[Annotated[float, Between(0, 100)], ...], Listed()] = ()
    """Returns that methods are asked for which can be (`wtl methods`), each a curve of its own: shares of the
    demonstrated return, the demonstration's rewards up to `protocol.horizon_steps`."""
    unit_entries: Count = 25
    """Entries of a unit of work, about."""
    keep_episodes: bool = False
    """Whether every episode is kept, with the demonstrations that were shown, in a store beside the results, from which
    `wtl export RUN FILE.parquet` makes attempt histories. It changes no result."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.controls:
            find_control(name)
        if self.controls and not 1 <= self.control_attempt <= self.attempts:
            raise ValueError(
                f"evaluation.control_attempt must lie in 1 .. evaluation.attempts ({self.attempts}), "
                f"got {self.control_attempt}"
            )


@dataclass(frozen=True)
class Contestant:
    """One method of an evaluation."""

    name: str
    """What the results call it."""
    label: str
    """Separates its randomness from that of the others."""
    make_player: MakePlayer
    reads_trials: bool
    """Whether later attempts and controls are played too."""
    main: bool = False
    """Whether the curve of the run is this one's."""
    asked: float | None = None
    """The share of the demonstrated return that it is asked for; None: as it thinks best."""


@dataclass(frozen=True)
class EvaluationStage:
    """What the stage depends on."""

    distribution: TaskDistribution
    config: EvaluationConfig
    protocol: ProtocolConfig
    demonstrations: DemonstrationStore
    regime: Regime
    train_seed: int
    """The seed of the trainings, recorded with each result."""
    seed: int
    """The seed of the entries."""
    configuration: str = ""
    """A digest of the run's configuration but for its seed, recorded with each result."""

    def entries(self) -> tuple[Session, ...]:
        """Return the fixed list of entries; it does not depend on any method."""
        return tuple(session for session, _ in self._drawn())

    def _drawn(self) -> list[tuple[Session, tuple[Episode, ...]]]:
        drawn: list[tuple[Session, tuple[Episode, ...]]] = []
        count = self.config.entries_per_task
        for task in self.distribution.split(self.config.split):
            shown = self.demonstrations.choose(task, count + 1, self.seed)
            for copy in range(count):
                own, spare = ((shown[(copy + i) % len(shown)],) if len(shown) > i else () for i in (0, 1))
                seed = seed_for(self.seed, "entry", task.name, copy)
                drawn.append((Session(task, self.demonstrations.first_context(task, own), own, seed), spare))
        return drawn

    def units(self, directory: Path, contestants: Sequence[Contestant]) -> list[_Unit]:
        """Return the units of work, cut between groups of partners (`_groups`)."""
        units: list[_Unit] = []
        for family in dict.fromkeys(task.family for task in self.distribution.split(self.config.split)):
            groups = self._groups(family)
            entries = sum(len(group) for group in groups)
            count = min(-(-entries // self.config.unit_entries), len(groups))
            for piece in np.array_split(np.arange(len(groups)), count):
                path = directory / "units" / f"{len(units):05d}.csv"
                part = _with_partners([groups[i] for i in piece.tolist()])
                units.append(
                    _Unit(path, self.distribution.families[family], part, tuple(contestants), self._settings())
                )
        return units

    def _settings(self) -> _UnitFacts:
        return _UnitFacts(self.config, self.protocol, self.regime, self.train_seed, self.configuration)

    def _groups(self, family: str) -> list[list[ControlEntry]]:
        """Return the entries of a family in groups of two or three that are one another's partners.

        They are fixed here, before work is cut, so what a control shows does not depend on how it is cut. The entries
        of a family with one task have no partner, so the controls that need one are not played there.
        """
        tasks = self.distribution.split(self.config.split)
        families = list(dict.fromkeys(task.family for task in tasks))
        following = families[(families.index(family) + 1) % len(families)]
        others = [task for task in tasks if task.family == following and following != family]
        stranger = self.demonstrations.choose(others[0], 1, self.seed) if others else ()
        own = [
            ControlEntry(session, spare[0].trajectory if spare else None, stranger[0].trajectory if stranger else None)
            for session, spare in self._drawn()
            if session.task.family == family
        ]
        # One copy of every task, then the next copy of every task: neighbours are of different tasks.
        copies = self.config.entries_per_task
        own = [entry for copy in range(copies) for entry in own[copy::copies]]
        pieces = np.array_split(np.arange(len(own)), max(1, len(own) // 2))
        return [[own[i] for i in piece.tolist()] for piece in pieces]

    def sample(
        self,
        contestants: Sequence[Contestant],
        directory: Path,
        executor: Executor,
        progress: Progress,
        *,
        groups: int,
    ) -> list[EpisodeResult]:
        """Play so many groups of partners of each family, drawn with the seed of the entries; return their rows.

        They are the rows that `evaluate` would write of these entries. `directory` is for the work alone.
        """
        small = replace(self, config=replace(self.config, unit_entries=1, keep_episodes=False))
        by_family: dict[str, list[_Unit]] = {}
        for unit in small.units(directory, contestants):
            by_family.setdefault(unit.family.spec.name, []).append(unit)
        drawn = [
            units[i]
            for family, units in by_family.items()
            for i in sorted(stream(self.seed, "sample", family).permutation(len(units))[:groups].tolist())
        ]
        run_units(_play_unit, drawn, executor, progress)
        return [row for unit in drawn for row in read_results(unit.path)]

    def evaluate(
        self, contestants: Sequence[Contestant], directory: Path, executor: Executor, progress: Progress
    ) -> int:
        """Play every entry, write `entries.json`, `families.json` and `episodes.csv`; return the number of rows."""
        described = [
            {"task": s.task.name, "demonstration": s.demonstration_name, "seed": s.seed} for s in self.entries()
        ]
        units = self.units(directory, contestants)
        write_atomically(directory / "entries.json", json.dumps(described, indent=1).encode())
        hidden = {n: {"hidden_goal": f.spec.hidden_goal} for n, f in sorted(self.distribution.families.items())}
        write_atomically(directory / "families.json", json.dumps(hidden, indent=1).encode())
        for unit in units:
            if self.config.keep_episodes and not unit.shard.is_file():
                unit.path.unlink(missing_ok=True)  # its episodes were lost, so it is played again
        run_units(_play_unit, units, executor, progress)
        if self.config.keep_episodes:
            close_store(directory / "episodes", len(units))
        rows = [row for unit in units for row in read_results(unit.path)]
        write_results(directory / "episodes.csv", rows)
        return len(rows)


def _with_partners(groups: Sequence[Sequence[ControlEntry]]) -> tuple[ControlEntry, ...]:
    """Return the entries of these groups, each with the index of the next one of another task in its group."""
    entries: list[ControlEntry] = []
    for group in groups:
        first = len(entries)
        for i, entry in enumerate(group):
            ring = [(i + step) % len(group) for step in range(1, len(group))]
            task = entry.session.task.name
            found = next((first + j for j in ring if group[j].session.task.name != task), None)
            entries.append(replace(entry, partner=found))
    return tuple(entries)


@dataclass(frozen=True)
class _UnitFacts:
    config: EvaluationConfig
    protocol: ProtocolConfig
    regime: Regime
    train_seed: int
    configuration: str


@dataclass(frozen=True)
class _Unit:
    path: Path
    family: TaskFamily
    entries: tuple[ControlEntry, ...]
    contestants: tuple[Contestant, ...]
    settings: _UnitFacts

    @property
    def shard(self) -> Path:
        """Where its episodes are kept, if they are."""
        return shard_path(self.path.parent.parent / "episodes", int(self.path.stem))

    @property
    def sessions(self) -> list[Session]:
        return [entry.session for entry in self.entries]

    def play(self, contexts: Sequence[Context], player: Player, number: int, label: str, begin: int) -> list[Episode]:
        """Play an attempt that begins as attempt `begin` of the protocol does, after `number` trials."""
        protocol = self.settings.protocol
        sessions = protocol.sessions(self.family, self.sessions, begin)
        return play_attempt(self.family, sessions, contexts, player, number, protocol.rollout(), label)

    @functools.cached_property
    def digests(self) -> list[str]:
        return [self.settings.protocol.entry_digest(self.family, session) for session in self.sessions]

    def rows(self, by: Contestant, control: str, attempt: int, episodes: Sequence[Episode]) -> list[EpisodeResult]:
        return [
            EpisodeResult(
                method=by.name, control=control, regime=self.settings.regime, split=self.settings.config.split,
                family=self.family.spec.name, task=session.task.name, demonstration=session.demonstration_name,
                train_seed=self.settings.train_seed, seed=session.seed, attempt=attempt,
                success=e.trajectory.success, total_reward=e.trajectory.total_reward(),
                steps=len(e.trajectory), success_last=bool(e.trajectory.successes[-1]),
                first_success=int(e.trajectory.successes.argmax()) + 1 if e.trajectory.success else None,
                protocol=self.settings.protocol.name, main=by.main, hidden_goal=self.family.spec.hidden_goal,
                configuration=self.settings.configuration, entry_digest=digest,
            )
            for session, digest, e in zip(self.sessions, self.digests, episodes, strict=True)
        ]  # fmt: skip


@dataclass(frozen=True)
class _Played:
    """The episodes of one attempt of a unit, one an entry."""

    by: Contestant
    control: str
    attempt: int
    episodes: Sequence[Episode]


def _play_unit(unit: _Unit) -> int:
    played = [part for contestant in unit.contestants for part in _play_contestant(unit, contestant)]
    if unit.settings.config.keep_episodes:
        write_shard(unit.shard.parent, int(unit.path.stem), _kept(unit, played))
    rows = [row for part in played for row in unit.rows(part.by, part.control, part.attempt, part.episodes)]
    write_results(unit.path, rows)
    return len(rows)


def _kept(unit: _Unit, played: Sequence[_Played]) -> list[Episode]:
    """Return what was shown and what was played, each with its place in the evaluation."""
    places = [Part(s.task.name, s.seed, unit.settings.protocol.name) for s in unit.sessions]
    kept = [with_part(e, place) for s, place in zip(unit.sessions, places, strict=True) for e in s.demonstrations]
    for part in played:
        for place, episode in zip(places, part.episodes, strict=True):
            own = replace(place, method=part.by.name, control=part.control, attempt=part.attempt)
            kept.append(with_part(episode, own))
    return kept


def _play_contestant(unit: _Unit, contestant: Contestant) -> Iterator[_Played]:
    config, player = unit.settings.config, contestant.make_player(unit.family.spec)
    contexts = [_asking(session.context, contestant.asked, unit.settings.protocol) for session in unit.sessions]
    for number in range(config.attempts + 1 if contestant.reads_trials else 1):
        if number and number == config.control_attempt:
            for name in config.controls:
                yield from _play_control(unit, contestant, player, name, contexts)
        episodes = unit.play(contexts, player, number, contestant.label, number)
        yield _Played(contestant, "", number, episodes)
        contexts = extended(contexts, episodes)


def _asking(context: Context, share: float | None, protocol: ProtocolConfig) -> Context:
    """Return a context that asks for this share of the demonstrated return."""
    if share is None or context.demonstration is None:
        return context
    return replace(context, desired_return=share * context.demonstration.total_reward(protocol.horizon_steps))


def _play_control(
    unit: _Unit, contestant: Contestant, player: Player, name: str, contexts: Sequence[Context]
) -> Iterator[_Played]:
    control = find_control(name)
    if not all(control.applies(entry) for entry in unit.entries):
        return
    shown = [
        control.change(context, entry, contexts[i if entry.partner is None else entry.partner])
        for i, (context, entry) in enumerate(zip(contexts, unit.entries, strict=True))
    ]
    # An episode's number says how many trials its context holds, and seeds its randomness.
    number, attempt = len(shown[0].trials), unit.settings.config.control_attempt
    label = "/".join(part for part in (contestant.label, control.name) if part)
    episodes = unit.play(shown, player, number, label, begin=attempt)
    yield _Played(contestant, control.name, attempt, episodes)
