"""The sections of `wtl bench`: which there are, how long each measures, and where its numbers go.

Like the pipeline this is composition: it alone knows the tasks that are measured. Networks have the sizes of the
quick preset; hidden-goal reach is the family of everything but stepping, unless another one is named first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

import tasks
from tasks import splits
from wtl.analysis.tables import Table
from wtl.app.config import PhaseConfig, RunConfig, load_config
from wtl.bench.collection import CollectionSize, measure_collection, tasks_needed
from wtl.bench.figure import draw_speeds
from wtl.bench.memory import measure_memory
from wtl.bench.results import (
    Measurement,
    measurement_tables,
    ratios,
    stepping_table,
    write_measurements,
    write_speeds,
)
from wtl.bench.training import measure_acting, measure_training
from wtl.core.task import TaskDistribution

SECTIONS = ("stepping", "collection", "training", "acting", "memory")
_QUICK_FAMILIES = ("reach-v3", "push-v3", "drawer-close-v3", "peg-insert-side-v3")


@dataclass(frozen=True)
class Effort:
    """How long each section measures."""

    step_blocks: int = 8
    block_steps: int = 100
    collection: CollectionSize = CollectionSize()
    tasks: int = 1000
    """Whose episodes are in memory when training steps are measured."""
    training_steps: int = 100
    acting_steps: int = 200
    environments: tuple[int, ...] = (1, 16, 64)
    memory_environments: int = 25


QUICK = Effort(
    step_blocks=2, block_steps=60, collection=CollectionSize(4, 10, 40, 80, 2), tasks=200, training_steps=20,
    acting_steps=50, memory_environments=8,
)  # fmt: skip


def chosen(names: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """The names, or all known ones if none is given. Raises ValueError for one that is not known."""
    for name in names:
        if name not in known:
            listed = ", ".join(known) if len(known) < 10 else "listed by `wtl tasks`"
            raise ValueError(f"unknown {what} {name!r}, known are {listed}")
    return tuple(dict.fromkeys(names)) or tuple(known)


def run_bench(
    sections: Sequence[str], families: Sequence[str], quick: bool, out: Path, console: Console
) -> list[Table]:
    """Measure, write stepping.csv, stepping.png and measurements.csv into `out`, and return the tables.

    Raises:
        ValueError: an unknown section or family, before anything is measured.
    """
    sections = chosen(sections, SECTIONS, "section")
    stepped = chosen(families or (_QUICK_FAMILIES if quick else ()), splits.ALL_FAMILIES, "Meta-World family")
    bench = _Bench(QUICK if quick else Effort(), families[0] if families else "reach-v3", stepped, out, console)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have it, and as training has it on two cores
    try:
        found: list[Table] = []
        for section in sections:
            console.print(f"measuring {section} (load average {os.getloadavg()[0]:.1f})")
            found += bench.measure(section)
        return found
    finally:
        torch.set_num_threads(threads)


class _Bench:
    """One run of the benchmarks."""

    def __init__(self, effort: Effort, family: str, stepped: Sequence[str], out: Path, console: Console) -> None:
        self._effort, self._family, self._stepped, self._out, self._console = effort, family, stepped, out, console
        self._config: RunConfig = load_config("quick", [f"tasks.family={family}"])

    def measure(self, section: str) -> list[Table]:
        """One section; its numbers are on disk before the next one begins."""
        load = Measurement(section, "load average before", os.getloadavg()[0], "processes")
        table, measured = self._stepping() if section == "stepping" else (None, self._others()[section]())
        write_measurements(self._out / "measurements.csv", [*measured, load])
        return [table] if table else measurement_tables([*measured, load])

    def _others(self) -> dict[str, Callable[[], list[Measurement]]]:
        e, c = self._effort, self._config
        return {
            "collection": lambda: measure_collection(
                self._distribution(tasks_needed(e.collection)), c.trial, e.collection
            ),
            "training": lambda: measure_training(
                _first_round(c), self._distribution(2).spec, e.tasks, e.training_steps
            ),
            "acting": lambda: measure_acting(
                _first_round(c), self._distribution(2).spec, e.environments, e.acting_steps
            ),
            "memory": self._memory,
        }

    def _distribution(self, train: int) -> TaskDistribution:
        settings = asdict(self._config.tasks) | {"goals_per_family": train, "validation_goals_per_family": 2}
        return tasks.make_distribution(settings.pop("benchmark"), **settings | {"test_goals_per_family": 2})

    def _memory(self) -> list[Measurement]:
        distribution = self._distribution(2)
        family = distribution.families[self._family]
        return measure_memory(family, distribution.train[0], self._effort.memory_environments)

    def _stepping(self) -> tuple[Table, list[Measurement]]:
        # Here and not above: metaworld takes a second to import.
        from tasks.metaworld_speed import step_rates

        speeds, measured = {}, []
        for family in self._stepped:
            rates = step_rates(family, self._effort.block_steps, self._effort.step_blocks)
            named = {"stock": rates.stock, "fast": rates.fast, "envpool": rates.envpool}
            speeds[family] = {name: rate for name, rate in named.items() if rate is not None}
            for name, rate in (("without rewards", rates.without_rewards), ("physics alone", rates.physics)):
                measured.append(Measurement("stepping", f"{family}, {name}", rate, "steps/CPU s"))
            self._console.print(f"  {family:<28} {rates.fast / rates.stock:.2f} x stock")
        write_speeds(self._out / "stepping.csv", speeds)
        draw_speeds(speeds, self._out / "stepping.png")
        for over, under in (("fast", "stock"), ("fast", "envpool")):
            if found := ratios(speeds, over, under):
                for name in ("median", "least", "most"):
                    value = getattr(found, name)
                    measured.append(Measurement("stepping", f"{over} over {under}, {name}", value, "ratio"))
        return stepping_table(speeds), measured


def _first_round(config: RunConfig) -> PhaseConfig:
    """Network and training of the retrial policy before it has met its own attempts."""
    return PhaseConfig(config.retrial.policy, config.retrial.train)
