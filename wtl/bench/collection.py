"""Collecting with the policy in the loop against environments that are stepped and nothing else.

Two workers play sessions of an untrained policy; two workers step bare environments with the actions that
were played last. All take turns, a few rounds, and each counts with its best round. The stage itself counts wall time.
Where the rest goes is found by leaving things out (expert labels, simulation states, the network) and counts CPU time
of the workers, which other work on the machine disturbs less.

Trap: a task's first reset costs as much as dozens of steps. `collect_trials` meets new tasks in every round and pays
it; the variants below it repeat theirs, which the environments remember, so that only steps differ.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wtl.app.config import PhaseConfig
from wtl.bench.results import Measurement
from wtl.compute.executor import Executor, LocalExecutor
from wtl.core.episode import Context
from wtl.core.task import Task, TaskDistribution, TaskFamily
from wtl.data.store import EpisodeStore
from wtl.methods import load_policy
from wtl.methods.imitation.trial import TrialPolicy
from wtl.methods.transfer.controller import FollowerConfig
from wtl.play.attempts import ExplorationConfig, Session, first_contexts, play_attempt, worker_pool
from wtl.play.rollout import Ending, Improver
from wtl.stages.demonstrations import DemonstrationsConfig, collect_demonstrations
from wtl.stages.trials import Operator, TrialsConfig, collect_trials

WORKERS = 2


@dataclass(frozen=True)
class CollectionSize:
    """How much is played in one round of one variant."""

    units: int = 4
    unit_episodes: int = 25
    horizon_steps: int = 150
    long_horizon_steps: int = 500
    rounds: int = 2


class _Still:
    """An improver and actor that never moves: what collecting costs without a network."""

    source = "still"

    def __init__(self, action_size: int) -> None:
        self._action_size = action_size

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> _Still:
        return self

    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), self._action_size))


@dataclass(frozen=True)
class _Play:
    """One unit of sessions, with or without labels, states and network."""

    family: TaskFamily
    sessions: tuple[Session, ...]
    policy: Path | None
    horizon_steps: int
    labels: bool
    states: bool


def _play(unit: _Play) -> tuple[int, float]:
    """Steps, and CPU seconds of this worker."""
    start = time.process_time()
    improver: Improver = load_policy(unit.policy) if unit.policy else _Still(unit.family.spec.action_size)
    episodes = play_attempt(
        unit.family, unit.sessions, first_contexts(unit.sessions), improver, 0,
        ending=Ending(unit.horizon_steps, None), exploration=ExplorationConfig(),
        ask_expert=unit.labels, keep_states=unit.states,
    )  # fmt: skip
    return sum(len(e.trajectory) for e in episodes), time.process_time() - start


@dataclass(frozen=True)
class _Bare:
    """Tasks and the actions (T, A) of each."""

    family: TaskFamily
    tasks: tuple[Task, ...]
    actions: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Spent:
    steps: int
    wall_s: float
    cpu_s: float
    first_reset_s: float
    next_reset_s: float


def _bare(unit: _Bare) -> _Spent:
    """Resets are timed apart from steps."""
    [environment] = worker_pool().take(unit.family, 1)
    wall = cpu = first = again = 0.0
    for task, actions in zip(unit.tasks, unit.actions, strict=True):
        moments = [time.perf_counter()]
        environment.reset(options={"task": task})
        moments.append(time.perf_counter())
        environment.reset(options={"task": task})
        moments.append(time.perf_counter())
        before = time.process_time()
        for action in actions:
            environment.step(action)
        cpu += time.process_time() - before
        moments.append(time.perf_counter())
        one, two, three = np.diff(moments).tolist()
        first, again, wall = first + one, again + two, wall + three
    return _Spent(sum(map(len, unit.actions)), wall, cpu, first / len(unit.tasks), again / len(unit.tasks))


def tasks_needed(size: CollectionSize) -> int:
    """Training tasks that the distribution must have: either operator meets its own in each round."""
    return 2 * size.units * size.unit_episodes * size.rounds


def measure_collection(distribution: TaskDistribution, phase: PhaseConfig, size: CollectionSize) -> list[Measurement]:
    """Steps per second of two workers, of one family, and the ratios to bare stepping."""
    torch.manual_seed(0)
    executor = LocalExecutor(WORKERS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _Rounds(distribution, phase, size, executor, Path(folder)).measure()
    finally:
        executor.close()


class _Rounds:
    """The variants of one measurement, and what they share."""

    def __init__(
        self, distribution: TaskDistribution, phase: PhaseConfig, size: CollectionSize, executor: Executor, folder: Path
    ) -> None:
        [self._family] = distribution.families.values()
        self._distribution, self._size, self._executor, self._folder = distribution, size, executor, folder
        few = self._tasks_of_round(distribution.train[:4])
        collect_demonstrations(few, DemonstrationsConfig(), "family", 0, folder / "demos", executor, _silent)
        self._demos = EpisodeStore(folder / "demos")
        policy = TrialPolicy(phase.policy, self._family.spec, phase.train.batch.frames)
        policy.fit_features(torch.from_numpy(np.concatenate([e.trajectory.observations for e in self._demos])))
        policy.save(folder / "trial")
        self._trial = folder / "trial"
        shown = next(iter(self._demos))
        per_round = size.units * size.unit_episodes
        self._sessions = [Session(t, shown.trajectory, "", i) for i, t in enumerate(distribution.train[:per_round])]

    def _tasks_of_round(self, tasks: Sequence[Task]) -> TaskDistribution:
        return TaskDistribution(self._distribution.families, tuple(tasks), (), ())

    def measure(self) -> list[Measurement]:
        """All variants in turns."""
        size, own = self._size, self._size.unit_episodes
        play = functools.partial(self._played, own)
        whole: dict[str, Callable[[int], float]] = {
            f"collect_trials, new tasks, {horizon} steps": functools.partial(self._collect, horizon)
            for horizon in (size.horizon_steps, size.long_horizon_steps)
        }
        whole |= {
            f"collect_trials by a follower, new tasks, {horizon} steps": functools.partial(
                self._collect, horizon, follows=True
            )
            for horizon in (size.horizon_steps, size.long_horizon_steps)
        }
        played: dict[str, Callable[[], float]] = {
            "played": play,
            "played without labels": functools.partial(play, labels=False),
            "played without states": functools.partial(play, states=False),
            "played without labels and states": functools.partial(play, labels=False, states=False),
            "played without network": functools.partial(play, network=False),
            "played without all three": functools.partial(play, labels=False, states=False, network=False),
        }
        for episodes in (5, 10, 25, 50, 100):
            if episodes != own and episodes <= size.units * own // WORKERS:
                played[f"played in units of {episodes}, not {own}"] = functools.partial(self._played, episodes)
        rates: dict[str, list[float]] = {name: [] for name in (*whole, *played)}
        bare: list[tuple[_Spent, ...]] = []
        for number in range(size.rounds):
            for name, collect in whole.items():
                rates[name].append(collect(number))
            bare.append(self._stepped())
            for name, run in played.items():
                rates[name].append(run())
        wall = max(sum(s.steps / s.wall_s for s in spent) for spent in bare)
        cpu = max(sum(s.steps for s in spent) / sum(s.cpu_s for s in spent) for spent in bare)
        found = [Measurement("collection", "bare environments", wall, "steps/s")]
        found += [Measurement("collection", name, max(rates[name]), "steps/s") for name in whole]
        found += [Measurement("collection", f"{name}, over bare", max(rates[name]) / wall, "ratio") for name in whole]
        found += [Measurement("collection", "bare environments, a worker", cpu, "steps/CPU s")]
        found += [Measurement("collection", name, max(rates[name]), "steps/CPU s") for name in played]
        found += [Measurement("collection", f"{name}, over bare", max(rates[name]) / cpu, "ratio") for name in played]
        every = [s for spent in bare for s in spent]
        return [
            *found,
            Measurement("collection", "first reset of a task", 1000 * min(s.first_reset_s for s in every), "ms"),
            Measurement("collection", "further resets of it", 1000 * min(s.next_reset_s for s in every), "ms"),
        ]

    def _collect(self, horizon: int, number: int, follows: bool = False) -> float:
        """Steps per second of wall time of the stage itself, on tasks that no worker has reset before.

        A trial policy's trials are labelled and keep their states; those of a follower need neither.
        """
        size = self._size
        per_round, number = size.units * size.unit_episodes, number + follows * size.rounds
        tasks = self._distribution.train[number * per_round : (number + 1) * per_round]
        config = TrialsConfig(
            horizons_steps=(horizon,),
            after_success_steps=None,
            unit_episodes=size.unit_episodes,
            attempts=0,
            keep_states=not follows,
        )
        directory = self._folder / f"trials-{number}-{horizon}"
        operator = FollowerConfig() if follows else Operator(self._trial)
        start = time.perf_counter()
        collect_trials(
            self._tasks_of_round(tasks), config, ExplorationConfig(), "family", self._demos,
            operator, 0, number, directory, self._executor, _silent, labelled=not follows,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        return sum(record.steps for record in EpisodeStore(directory).records) / seconds

    def _played(self, unit_episodes: int, *, labels: bool = True, states: bool = True, network: bool = True) -> float:
        """Steps per CPU second of a worker."""
        policy, horizon = self._trial if network else None, self._size.horizon_steps
        cut = [self._sessions[i : i + unit_episodes] for i in range(0, len(self._sessions), unit_episodes)]
        units = [_Play(self._family, tuple(sessions), policy, horizon, labels, states) for sessions in cut]
        done = [result for _, result in self._executor.map(_play, units)]
        return sum(steps for steps, _ in done) / sum(seconds for _, seconds in done)

    def _stepped(self) -> tuple[_Spent, ...]:
        """Both workers at once, each half of the episodes that were collected last."""
        last = max(self._folder.glob(f"trials-*-{self._size.horizon_steps}"))
        episodes = list(EpisodeStore(last))
        halves = [episodes[worker::WORKERS] for worker in range(WORKERS)]
        units = [
            _Bare(self._family, tuple(e.task for e in half), tuple(np.array(e.trajectory.actions) for e in half))
            for half in halves
        ]
        return tuple(spent for _, spent in self._executor.map(_bare, units))


def _silent(*_: int) -> None:
    """No progress bar: a bar in the terminal would be measured too."""
