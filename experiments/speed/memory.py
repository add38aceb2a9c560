"""This module measures memory per environment, in a fresh process that has loaded nothing else, torch included."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from results import Measurement

from wtl.compute.executor import LocalExecutor
from wtl.core.task import Task, TaskFamily


@dataclass(frozen=True)
class _Unit:
    family: TaskFamily
    task: Task
    environments: int


def measure_memory(family: TaskFamily, task: Task, environments: int) -> list[Measurement]:
    """The result is the resident memory with one and with many environments, and what each one more costs."""
    executor = LocalExecutor(1)
    try:
        [(_, (nothing, one, many))] = executor.map(_grow, [_Unit(family, task, environments)])
    finally:
        executor.close()
    name = family.spec.name
    return [
        Measurement("memory", f"{name}, before the first environment", nothing, "MB"),
        Measurement("memory", f"{name}, with 1 environment", one, "MB"),
        Measurement("memory", f"{name}, with {environments} environments", many, "MB"),
        Measurement("memory", f"{name}, each further environment", (many - one) / (environments - 1), "MB"),
    ]


def _grow(unit: _Unit) -> tuple[float, float, float]:
    """The result is MB before the first environment, with one, and with all, each after a reset and a step."""
    sizes, kept = [_resident()], []
    for _ in range(unit.environments):
        environment = unit.family.make_environment()
        environment.reset(options={"task": unit.task})
        environment.step(np.zeros(unit.family.spec.action_size))
        kept.append(environment)
        sizes.append(_resident())
    return sizes[0], sizes[1], sizes[-1]


def _resident() -> float:
    """The result is MB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
