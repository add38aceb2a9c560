"""This module compares collecting with the policy in the loop with environments that are stepped and nothing else.

Two workers play trials of an untrained policy; two workers step bare environments with the actions that were played
last. All take turns, a few rounds, and each counts with its best round, in wall time.

Trap: a task's first reset costs as much as dozens of steps. Collecting meets new tasks in every round and pays it; bare
stepping counts steps alone, and its resets are reported beside.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from results import Measurement
from system import METHODS, Collector

from wtl.app.config import RunConfig
from wtl.compute.executor import Executor, LocalExecutor
from wtl.core.task import Task, TaskDistribution, TaskFamily

WORKERS = 2


@dataclass(frozen=True)
class CollectionSize:
    """The size says how much is played in one round of one variant."""

    episodes: int = 100
    unit_episodes: int = 25
    horizons_steps: tuple[int, ...] = (150, 500)
    """The first one is that of bare stepping too."""
    rounds: int = 2


@dataclass(frozen=True)
class _Bare:
    """A unit holds tasks and the actions (T, A) of each."""

    family: TaskFamily
    tasks: tuple[Task, ...]
    actions: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Spent:
    steps: int
    step_s: float
    first_reset_s: float
    next_reset_s: float


def _step_bare(unit: _Bare) -> _Spent:
    """The result times resets apart from steps."""
    environment = unit.family.make_environment()
    stepping = first = again = 0.0
    for task, actions in zip(unit.tasks, unit.actions, strict=True):
        moments = [time.perf_counter()]
        for _ in range(2):
            environment.reset(options={"task": task})
            moments.append(time.perf_counter())
        for action in actions:
            environment.step(action)
        moments.append(time.perf_counter())
        one, two, three = np.diff(moments).tolist()
        first, again, stepping = first + one, again + two, stepping + three
    return _Spent(sum(map(len, unit.actions)), stepping, first / len(unit.tasks), again / len(unit.tasks))


def tasks_needed(size: CollectionSize) -> int:
    """The result is how many training tasks the distribution must have: each variant meets its own in each round."""
    return len(METHODS) * len(size.horizons_steps) * size.episodes * size.rounds


def measure_collection(distribution: TaskDistribution, config: RunConfig, size: CollectionSize) -> list[Measurement]:
    """The result is the steps per second of two workers, of one family, and the ratios to bare stepping."""
    executor = LocalExecutor(WORKERS)
    rates: dict[str, list[float]] = {}
    bare: list[tuple[_Spent, ...]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            collector = Collector(distribution, config, executor, Path(folder))
            turns = [(m, h) for _ in range(size.rounds) for m in METHODS for h in size.horizons_steps]
            for number, (method, horizon) in enumerate(turns):
                tasks = distribution.train[number * size.episodes : (number + 1) * size.episodes]
                seconds, played = collector.collect(method, tasks, horizon, size.unit_episodes)
                rate = sum(len(actions) for _, actions in played) / seconds
                rates.setdefault(f"collect_trials by {method}, {horizon} steps", []).append(rate)
                if horizon == size.horizons_steps[0]:
                    bare.append(_stepped(distribution, played, executor))
    finally:
        executor.close()
    fastest = max(sum(s.steps / s.step_s for s in spent) for spent in bare)
    every = [s for spent in bare for s in spent]
    return [
        Measurement("collection", "bare environments", fastest, "steps/s"),
        *(Measurement("collection", name, max(found), "steps/s") for name, found in rates.items()),
        *(Measurement("collection", f"{name}, over bare", max(f) / fastest, "ratio") for name, f in rates.items()),
        Measurement("collection", "first reset of a task", 1000 * min(s.first_reset_s for s in every), "ms"),
        Measurement("collection", "further resets of it", 1000 * min(s.next_reset_s for s in every), "ms"),
    ]


def _stepped(
    distribution: TaskDistribution, played: Sequence[tuple[Task, np.ndarray]], executor: Executor
) -> tuple[_Spent, ...]:
    """Both workers step at once, each half of the episodes that were collected last."""
    [family] = distribution.families.values()
    halves = [played[worker::WORKERS] for worker in range(WORKERS)]
    units = [_Bare(family, tuple(task for task, _ in half), tuple(actions for _, actions in half)) for half in halves]
    return tuple(spent for _, spent in executor.map(_step_bare, units))
