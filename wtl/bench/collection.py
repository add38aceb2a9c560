"""Collecting with the policy in the loop against environments that are stepped and nothing else.

Two workers play sessions of an untrained trial policy; two workers step bare environments with the very actions that
were played. All take turns, a few rounds, and each counts with its best round. Where the rest goes is found by leaving
things out: expert labels, simulation states, the network.

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

from wtl.attempts import ExplorationConfig, Session, first_contexts, play_attempt, worker_pool
from wtl.bench.results import Measurement
from wtl.collect import DemonstrationsConfig, Operator, TrialsConfig, collect_demonstrations, collect_trials
from wtl.config import PhaseConfig
from wtl.episode import Context
from wtl.executor import Executor, LocalExecutor
from wtl.methods import load_policy
from wtl.methods.trial import TrialPolicy
from wtl.rollout import Ending, Improver
from wtl.store import EpisodeStore
from wtl.task import Task, TaskDistribution, TaskFamily

WORKERS = 2


@dataclass(frozen=True)
class CollectionSize:
    """How much is played in one round of one variant."""

    units: int = 8
    unit_episodes: int = 25
    horizon_steps: int = 150
    long_horizon_steps: int = 500
    rounds: int = 3


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


def _play(unit: _Play) -> int:
    improver: Improver = load_policy(unit.policy) if unit.policy else _Still(unit.family.spec.action_size)
    episodes = play_attempt(
        unit.family, unit.sessions, first_contexts(unit.sessions), improver, 0,
        ending=Ending(unit.horizon_steps, None), exploration=ExplorationConfig(),
        ask_expert=unit.labels, keep_states=unit.states,
    )  # fmt: skip
    return sum(len(e.trajectory) for e in episodes)


@dataclass(frozen=True)
class _Bare:
    """Tasks and the actions (T, A) of each."""

    family: TaskFamily
    tasks: tuple[Task, ...]
    actions: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Spent:
    steps: int
    stepping_s: float
    first_reset_s: float
    next_reset_s: float


def _bare(unit: _Bare) -> _Spent:
    """Resets are timed apart from steps."""
    [environment] = worker_pool().take(unit.family, 1)
    stepping = first = again = 0.0
    for task, actions in zip(unit.tasks, unit.actions, strict=True):
        moments = [time.perf_counter()]
        environment.reset(options={"task": task})
        moments.append(time.perf_counter())
        environment.reset(options={"task": task})
        moments.append(time.perf_counter())
        for action in actions:
            environment.step(action)
        moments.append(time.perf_counter())
        one, two, three = np.diff(moments).tolist()
        first, again, stepping = first + one, again + two, stepping + three
    return _Spent(sum(map(len, unit.actions)), stepping, first / len(unit.tasks), again / len(unit.tasks))


def tasks_needed(size: CollectionSize) -> int:
    """Training tasks that the distribution must have."""
    return size.units * size.unit_episodes * size.rounds


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
        size = self._size
        play, own = functools.partial, size.unit_episodes
        variants: dict[str, Callable[[int], float]] = {
            f"collect_trials, new tasks, {size.horizon_steps} steps": lambda r: self._collect(r, size.horizon_steps),
            f"collect_trials, new tasks, {size.long_horizon_steps} steps": lambda r: self._collect(
                r, size.long_horizon_steps
            ),
            "played": play(self._played, own),
            "played without labels": play(self._played, own, labels=False),
            "played without states": play(self._played, own, states=False),
            "played without labels and states": play(self._played, own, labels=False, states=False),
            "played without network": play(self._played, own, network=False),
            "played without labels, states, network": play(
                self._played, own, labels=False, states=False, network=False
            ),
        }
        for episodes in (5, 10, 50, 100):
            if episodes <= size.units * size.unit_episodes // WORKERS:
                variants[f"played in units of {episodes} instead of {own}"] = play(self._played, episodes)
        rates: dict[str, list[float]] = {name: [] for name in variants}
        bare: list[_Spent] = []
        for number in range(size.rounds):
            for name, run in variants.items():
                rates[name].append(run(number))
            bare.append(self._stepped())
        limit = max(spent.steps / spent.stepping_s for spent in bare)
        best = {name: max(values) for name, values in rates.items()}
        return [
            Measurement("collection", "bare environments", limit, "steps/s"),
            *(Measurement("collection", name, rate, "steps/s") for name, rate in best.items()),
            *(Measurement("collection", f"{name}, over bare", rate / limit, "ratio") for name, rate in best.items()),
            Measurement("collection", "first reset of a task", 1000 * min(b.first_reset_s for b in bare), "ms"),
            Measurement("collection", "further resets of it", 1000 * min(b.next_reset_s for b in bare), "ms"),
        ]

    def _collect(self, number: int, horizon: int) -> float:
        """Steps per second of wall time of the stage itself, on tasks that no worker has reset before."""
        size = self._size
        per_round = size.units * size.unit_episodes
        tasks = self._distribution.train[number * per_round : (number + 1) * per_round]
        config = TrialsConfig(
            horizons_steps=(horizon,), after_success_steps=None, unit_episodes=size.unit_episodes, attempts=0
        )
        directory = self._folder / f"trials-{number}-{horizon}"
        start = time.perf_counter()
        collect_trials(
            self._tasks_of_round(tasks), config, ExplorationConfig(), "family", self._demos,
            Operator(self._trial), 0, number, directory, self._executor, _silent,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        return sum(record.steps for record in EpisodeStore(directory).records) / seconds

    def _played(
        self, unit_episodes: int, _: int, *, labels: bool = True, states: bool = True, network: bool = True
    ) -> float:
        policy = self._trial if network else None
        units = [
            _Play(self._family, tuple(self._sessions[i : i + unit_episodes]), policy, self._size.horizon_steps,
                  labels, states)
            for i in range(0, len(self._sessions), unit_episodes)
        ]  # fmt: skip
        start = time.perf_counter()
        steps = sum(played for _, played in self._executor.map(_play, units))
        return steps / (time.perf_counter() - start)

    def _stepped(self) -> _Spent:
        """Both workers at once, each half of the episodes that were collected last; the sum of their speeds."""
        last = sorted(self._folder.glob(f"trials-*-{self._size.horizon_steps}"))[-1]
        episodes = list(EpisodeStore(last))
        units = [
            _Bare(
                self._family,
                tuple(e.task for e in episodes[w::WORKERS]),
                tuple(np.array(e.trajectory.actions) for e in episodes[w::WORKERS]),
            )
            for w in range(WORKERS)
        ]
        spent = [s for _, s in self._executor.map(_bare, units)]
        speed = sum(s.steps / s.stepping_s for s in spent)
        return _Spent(
            sum(s.steps for s in spent),
            sum(s.steps for s in spent) / speed,
            float(np.mean([s.first_reset_s for s in spent])),
            float(np.mean([s.next_reset_s for s in spent])),
        )


def _silent(*_: int) -> None:
    """No progress bar: a bar in the terminal would be measured too."""
