"""Stage: trials on training and validation tasks, on all cores, resumable at any moment.

Who plays is a `Player` that each worker makes for itself; what is played is decided here: which tasks, which
demonstrations, how long. Free of torch at import.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from wtl.compute.executor import Executor
from wtl.core.bounds import Attempts, Between, Bounded, Count, Horizon, Listed
from wtl.core.episode import Episode
from wtl.core.rng import seed_for, stream
from wtl.core.task import FamilySpec, Task, TaskDistribution, TaskFamily
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.store import close_store, write_shard
from wtl.play.attempts import play_attempts
from wtl.play.policy import Player, Session
from wtl.play.protocol import ProtocolConfig
from wtl.play.rollout import RolloutSettings
from wtl.stages.units import Progress, cut_by_family, run_units

MakePlayer = Callable[[FamilySpec], Player]
"""Makes a player in a worker; picklable."""
Kept = Callable[[TaskFamily, Sequence[Episode]], Sequence[Episode]]
"""From the episodes of a unit to what is stored of them; picklable."""


@dataclass(frozen=True)
class TrialsConfig(Bounded):
    """How trials are collected on training and validation tasks."""

    first_round_tasks: Annotated[int, Between(1, 10**9)] | None = None
    """Training tasks of the first round (null: all)."""
    later_round_tasks: Annotated[int, Between(1, 10**9)] | None = None
    """Training tasks of each later round, in which attempts 0 .. `attempts` are played."""
    per_task: Annotated[int, Between(1, 10_000)] = 1
    """Sessions a task in each round."""
    attempts: Attempts = 2
    """Attempts after the first in a session of later rounds."""
    horizons_steps: Annotated[tuple[Horizon, ...], Listed(1, 1000, repeated=True)] = (500,)
    """Each session draws one of these: short trials are cheap, but a method must also have met trials as long as
    those of the evaluation, or it cannot read them."""
    unit_episodes: Count = 25
    """Sessions of a unit of work."""


@dataclass(frozen=True)
class _Unit:
    directory: Path
    index: int
    family: TaskFamily
    sessions: tuple[Session, ...]
    protocol: ProtocolConfig
    settings: RolloutSettings
    make_player: MakePlayer
    attempts: int
    kept: Kept | None

    @property
    def path(self) -> Path:
        return self.directory / f"shard-{self.index:05d}.safetensors"


def _play_unit(unit: _Unit) -> int:
    player = unit.make_player(unit.family.spec)
    attempts = play_attempts(unit.family, unit.sessions, player, unit.attempts, unit.protocol, unit.settings)
    collected = list(itertools.chain.from_iterable(attempts))
    if unit.kept:
        collected = list(unit.kept(unit.family, collected))
    write_shard(unit.directory, unit.index, collected)
    return len(collected)


@dataclass(frozen=True)
class TrialStage:
    """What the stage depends on."""

    distribution: TaskDistribution
    config: TrialsConfig
    protocol: ProtocolConfig
    demonstrations: DemonstrationStore
    seed: int
    round_number: int = 0
    retries: bool = False
    """Whether attempts that follow a trial are played too."""
    labelled: bool = True
    """Whether the expert says what it would do in every state that is visited."""
    tasks: int | None = None
    """Training tasks that are played; None: as `config` says."""
    other_starts: bool = False
    """Whether, where starts are redrawn, each trial begins from a start of its own and not from the task's."""
    kept: Kept | None = None
    """What is stored of the episodes; None: as they were played."""

    def collect(self, make_player: MakePlayer, directory: Path, executor: Executor, progress: Progress) -> None:
        """Play the sessions of this round and keep every episode with its rewards."""
        sessions = list(self._sessions())
        attempts = self.config.attempts if self.retries else 0
        units = []
        for i, part in enumerate(cut_by_family(sessions, self.config.unit_episodes, lambda s: s.task.family)):
            family = self.distribution.families[part[0].task.family]
            settings = self.protocol.rollout(tuple(self._horizon(session) for session in part), self.labelled)
            units.append(_Unit(directory, i, family, part, self.protocol, settings, make_player, attempts, self.kept))
        digests = run_units(_play_unit, units, executor, progress)
        close_store(directory, len(units), digests)

    def _sessions(self) -> list[Session]:
        sessions = []
        for task in tasks_of_round(self.distribution, self.config, self.seed, self.round_number, self.tasks):
            for copy in range(self.config.per_task):
                own = seed_for(self.seed, "trial", task.name, self.round_number, copy)
                shown = self.demonstrations.choose(task, 1, own)
                session = Session(task, self.demonstrations.first_context(task, shown), shown, own)
                if self.other_starts:
                    family = self.distribution.families[task.family]
                    [session] = self.protocol.sessions(family, [session], 1)
                sessions.append(session)
        return sessions

    def _horizon(self, session: Session) -> int:
        choices = self.config.horizons_steps
        return choices[int(stream(session.seed, "horizon").integers(len(choices)))]


def tasks_of_round(
    distribution: TaskDistribution, config: TrialsConfig, seed: int, round_number: int, tasks: int | None = None
) -> tuple[Task, ...]:
    """Return the tasks on which trials are played in a round: some for training, and all for validation.

    `tasks` is how many training tasks, where that is not left to the configuration.
    """
    limit = config.later_round_tasks if round_number else config.first_round_tasks
    limit = limit if tasks is None else tasks
    train = spread_tasks(distribution.train, limit, distribution.weights, seed, round_number)
    return (*train, *distribution.validation)


def spread_tasks(
    tasks: Sequence[Task], limit: int | None, weights: Mapping[str, int], seed: int, round_number: int
) -> tuple[Task, ...]:
    """Return about `limit` tasks, other ones each round, every family with its share by weight."""
    if limit is None or limit >= len(tasks):
        return tuple(tasks)
    families = list(dict.fromkeys(task.family for task in tasks))
    whole = sum(weights[family] for family in families)
    chosen: list[Task] = []
    for family in families:
        share = -(-limit * weights[family] // whole)
        own = [task for task in tasks if task.family == family]
        order = stream(seed, "tasks of round", family).permutation(len(own))
        picked = [(max(round_number - 1, 0) * share + i) % len(own) for i in range(min(share, len(own)))]
        chosen += [own[order[i]] for i in sorted(picked)]
    return tuple(chosen)
