"""Stage: graded episodes, from random to expert, of every training family alike.

It is what methods learn from that model good and bad behaviour together: those that are asked for a return, rank
episodes, relabel them, or learn to improve. Each task is played by all grades: the expert on every rung of a noise
ladder, an expert that is wrong about the goal, random actions, and methods, attempt after attempt. Each episode says
who played it (`wtl.data.grades`). A phase reads them by saying so (`Phase.graded`). Free of torch at import.

The wrong expert does what the expert did in another task of the family, open loop: where two tasks share a start
(`tasks.goals_per_start`), that is exactly an expert that goes to the other goal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from wtl.compute.executor import Executor
from wtl.core.bounds import Attempts, Between, Bounded, Count, Listed, Noise
from wtl.core.episode import Episode
from wtl.core.rng import seed_for, stream
from wtl.core.task import Task, TaskDistribution, TaskFamily
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.grades import EXPERT, Grade, with_grade
from wtl.data.store import close_store, write_shard
from wtl.play.attempts import play_attempt, play_attempts
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.open_loop import RandomActions, Recorded
from wtl.play.policy import Player, Session
from wtl.play.protocol import ProtocolConfig
from wtl.stages.trials import MakePlayer
from wtl.stages.units import Progress, cut_by_family, run_units

WRONG_GOAL, RANDOM = "wrong_goal", "random"


@dataclass(frozen=True)
class GradedConfig(Bounded):
    """Who plays the graded episodes. Each of the tasks is played once by every grade."""

    tasks_per_family: Annotated[int, Between(1, 10**6)] | None = 7
    """Training tasks of each family (null: all)."""
    validation_tasks_per_family: Annotated[int, Between(1, 10**6)] | None = 2
    """Validation tasks of each family (null: all)."""
    noise: Annotated[tuple[Noise, ...], Listed(0, 100)] = (0.0, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.2, 1.6, 2.0)
    """The noise ladder: standard deviation of the noise in the expert's actions, one rung each, in units of the
    action, whose largest is 1."""
    wrong_goal: Annotated[int, Between(0, 1000)] = 1
    """Episodes of each task by an expert that is wrong about the goal."""
    random: Annotated[int, Between(0, 1000)] = 1
    """Episodes of each task with random actions."""
    players: Annotated[tuple[str, ...], Listed()] = ()
    """Methods that play too: the name or the address of one that needs no training, or the folder or the name of a
    trained method, as `checkpoint` takes it."""
    attempts: Attempts = 2
    """K: those of them that read trials play attempts 0 .. K."""
    labelled: bool = False
    """Whether the expert says what it would do in every state that is visited."""
    unit_tasks: Count = 25
    """Tasks of a unit of work."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.noise or self.wrong_goal or self.random or self.players):
            raise ValueError("graded: nobody is to play; give rungs of `noise`, `wrong_goal`, `random` or `players`")


@dataclass(frozen=True)
class GradedPlayer:
    """A method that plays graded episodes."""

    name: str
    """What the configuration calls it."""
    make_player: MakePlayer
    reads_trials: bool
    """Whether later attempts are played too."""


@dataclass(frozen=True)
class _Unit:
    directory: Path
    index: int
    family: TaskFamily
    sessions: tuple[Session, ...]
    wrong: tuple[tuple[np.ndarray, ...], ...]
    """For each wrong episode of each session: the (T, A) actions of an expert in another task."""
    config: GradedConfig
    protocol: ProtocolConfig
    players: tuple[GradedPlayer, ...]

    @property
    def path(self) -> Path:
        return self.directory / f"shard-{self.index:05d}.safetensors"

    def played(self) -> Iterator[tuple[Grade, list[Episode]]]:
        begin = 0
        for noise in self.config.noise:
            grade = Grade(EXPERT, noise)
            yield grade, self._single(Expert(NoiseConfig(noise), grade.name), begin, grade.name)
            begin += 1
        for copy, actions in enumerate(self.wrong):
            yield Grade(WRONG_GOAL), self._single(Recorded(actions, WRONG_GOAL), begin, f"{WRONG_GOAL} {copy}")
            begin += 1
        for copy in range(self.config.random):
            yield Grade(RANDOM), self._single(RandomActions(RANDOM), begin, f"{RANDOM} {copy}")
            begin += 1
        for player in self.players:
            yield from self._attempts(player)

    def _single(self, player: Player, begin: int, label: str) -> list[Episode]:
        """Play one episode a session, which begins as attempt `begin` of the protocol does."""
        contexts = [session.context for session in self.sessions]
        sessions = self.protocol.sessions(self.family, self.sessions, begin)
        settings = self.protocol.rollout(ask_expert=self.config.labelled)
        return play_attempt(self.family, sessions, contexts, player, 0, settings, label)

    def _attempts(self, by: GradedPlayer) -> Iterator[tuple[Grade, list[Episode]]]:
        last = self.config.attempts if by.reads_trials else 0
        settings = self.protocol.rollout(ask_expert=self.config.labelled)
        player = by.make_player(self.family.spec)
        for episodes in play_attempts(self.family, self.sessions, player, last, self.protocol, settings, by.name):
            yield Grade(by.name), episodes


def _play_unit(unit: _Unit) -> int:
    episodes = [with_grade(episode, grade) for grade, played in unit.played() for episode in played]
    write_shard(unit.directory, unit.index, episodes)
    return len(episodes)


@dataclass(frozen=True)
class GradedStage:
    """What the stage depends on."""

    distribution: TaskDistribution
    config: GradedConfig
    protocol: ProtocolConfig
    demonstrations: DemonstrationStore
    seed: int

    def collect(self, players: Sequence[GradedPlayer], directory: Path, executor: Executor, progress: Progress) -> None:
        """Play every task with every grade.

        Raises:
            ValueError: there is no demonstration of another task for the wrong expert.
        """
        units = []
        tasks = graded_tasks(self.distribution, self.config, self.seed)
        for i, part in enumerate(cut_by_family(tasks, self.config.unit_tasks, lambda task: task.family)):
            wrong = zip(*(self._wrong(task) for task in part), strict=True)
            sessions = tuple(self._session(task) for task in part)
            family = self.distribution.families[part[0].family]
            units.append(
                _Unit(directory, i, family, sessions, tuple(wrong), self.config, self.protocol, tuple(players))
            )
        digests = run_units(_play_unit, units, executor, progress)
        close_store(directory, len(units), digests)

    def _session(self, task: Task) -> Session:
        own = seed_for(self.seed, "graded", task.name)
        shown = self.demonstrations.choose(task, 1, own)
        return Session(task, self.demonstrations.first_context(task, shown), shown, own)

    def _wrong(self, task: Task) -> list[np.ndarray]:
        """Return what the expert did in other tasks of this task's family and split, with other goals if possible."""
        if not self.config.wrong_goal:
            return []
        own = [(i, r.task) for i, r in enumerate(self.demonstrations.episodes.records) if r.task.family == task.family]
        others = [(i, t) for i, t in own if t.split == task.split and t.name != task.name]
        if not others:
            raise ValueError(
                f"no demonstration of another task of {task.family} ({task.split}) for graded.wrong_goal; demonstrate "
                "more of them, or set graded.wrong_goal=0"
            )
        wrong = [i for i, t in others if t.goal_name != task.goal_name] or [i for i, _ in others]
        drawn = stream(self.seed, "wrong goal", task.name).choice(wrong, self.config.wrong_goal)
        return [self.demonstrations.episodes.episode(i).trajectory.actions for i in drawn.tolist()]


def graded_tasks(distribution: TaskDistribution, config: GradedConfig, seed: int) -> tuple[Task, ...]:
    """Return the tasks that are played, as many of each family."""
    return (
        *_some(distribution.train, config.tasks_per_family, seed),
        *_some(distribution.validation, config.validation_tasks_per_family, seed),
    )


def _some(tasks: Sequence[Task], count: int | None, seed: int) -> Iterator[Task]:
    """Yield `count` tasks of each family, or all where there are fewer; the tasks are of one split."""
    by_family: dict[str, list[Task]] = {}
    for task in tasks:
        by_family.setdefault(task.family, []).append(task)
    for family, own in by_family.items():
        order = stream(seed, "graded tasks", family, own[0].split).permutation(len(own))
        yield from (own[i] for i in sorted(order[:count].tolist()))


def episodes_per_task(config: GradedConfig, players: Sequence[GradedPlayer]) -> int:
    """Return how many episodes there are of each task."""
    attempts = sum(config.attempts + 1 if player.reads_trials else 1 for player in players)
    return len(config.noise) + config.wrong_goal + config.random + attempts
