"""Carries out the plan of a run, stage by stage; what is complete is skipped, what was cut off goes on.

This is the composition: it knows the kinds of stages and no stage knows it. It knows no method by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console

from wtl.app.config import RunConfig, to_yaml
from wtl.app.plan import MethodPlan, Plan
from wtl.app.stage import Stage
from wtl.compute.distributed import SINGLE, ProcessGroup
from wtl.compute.executor import Executor, LocalExecutor, SerialExecutor
from wtl.compute.ray import RayExecutor
from wtl.core.files import write_atomically
from wtl.data.store import EpisodeStore
from wtl.methods.learner import TrainConfig
from wtl.methods.spec import Phase
from wtl.stages.demonstrations import DemonstrationStage
from wtl.stages.train import FitStage
from wtl.stages.training import micro_batches_of
from wtl.stages.trials import TrialStage
from wtl.stages.units import Progress


@dataclass(frozen=True)
class Step:
    """One stage of a run with what it takes to carry it out."""

    name: str
    """Its folder in the run directory."""
    stage: Stage
    make: Callable[[Progress], dict[str, Any]]
    """Does the work and returns what the manifest says of it."""
    train: TrainConfig | None = None
    """What it trains with, if it does: the one thing that several processes may do together."""
    check: Callable[[], object] | None = None
    """Raises ValueError for a mistake in what it reads, before anything is written."""


class Pipeline:
    """Carries out a plan."""

    def __init__(self, config: RunConfig, console: Console | None = None, group: ProcessGroup = SINGLE) -> None:
        """Prepare a run; `group` is who trains, and only its main process writes into the run directory."""
        self.config = config
        self.plan = Plan(config)
        self.group = group
        self.console = console or Console(stderr=True)
        self.executor = _make_executor(config)

    def steps(self) -> list[Step]:
        """Return all stages in order; each method's trainings come after the trials that they read."""
        plan = self.plan
        steps = [
            Step("demonstrations", plan.demonstrations, self._demonstrate, check=lambda: self._demonstrations.adopted())
        ]
        for method in (plan.main, *plan.others):
            for phase in method.phases:
                if phase.collection:
                    trials = plan.collection(method, phase)
                    steps.append(Step(_name(method, trials), trials, functools.partial(self._try, method, phase)))
                train = plan.training(method, phase)
                make = functools.partial(self._train, method, phase)
                steps.append(Step(_name(method, train), train, make, phase.train))
        return [*steps, Step("evaluation", plan.evaluation, self._evaluate)]

    def run(self, only: str = "") -> None:
        """Carry out all stages, or the one of this name.

        Raises:
            ValueError: there is no such stage; the message lists those that there are.
        """
        steps = self.steps()
        if only and only not in [step.name for step in steps]:
            raise ValueError(f"there is no stage {only!r}; the stages are {', '.join(step.name for step in steps)}")
        for name, reason in self.plan.left_out.items():
            self.console.print(f"{name} is left out: {reason}", style="yellow", markup=False)
        for step in steps:
            if (only and step.name != only) or self._skips(step):
                continue
            with self._bar(step.name) as progress:
                results = step.make(progress)
            self.group.on_main(functools.partial(step.stage.finish, **results))
            self.console.print(f"{step.stage.directory}: " + ", ".join(f"{k} {v}" for k, v in results.items()))

    def _skips(self, step: Step) -> bool:
        """Return whether a stage is complete; if not, it has begun when this returns."""

        def begin() -> None:
            for before in step.stage.inputs:
                before.require()
            _ = self.plan.distribution  # a mistake in the tasks must show before anything is written
            if step.check:
                step.check()
            if step.train:
                micro_batches_of(step.train, self.group)
            step.stage.begin()
            write_atomically(self.plan.root / "config.yaml", to_yaml(self.config).encode())

        if self.group.on_main(step.stage.finished):
            self.console.print(f"[dim]{step.stage.directory} is complete, skipped[/dim]")
            return True
        self.group.on_main(begin)
        return False

    # What the steps make.

    @property
    def _demonstrations(self) -> DemonstrationStage:
        c = self.config
        return DemonstrationStage(self.plan.distribution, c.demonstrations, c.regime, c.seed)

    def _demonstrate(self, progress: Progress) -> dict[str, Any]:
        directory = self.plan.demonstrations.directory
        said = self._demonstrations.collect(directory, self.executor, progress)
        return _describe(EpisodeStore(directory)) | said

    def _try(self, method: MethodPlan, phase: Phase, progress: Progress) -> dict[str, Any]:
        c, plan, collection = self.config, self.plan, phase.collection
        assert collection is not None
        directory = plan.collection(method, phase).directory
        stage = TrialStage(
            plan.distribution, c.trials, c.protocol, plan.shown(), c.seed, collection.round_number,
            collection.retries, collection.labelled, collection.tasks, collection.other_starts,
        )  # fmt: skip
        stage.collect(plan.collecting_player(method, phase), directory, self.executor, progress)
        return _describe(EpisodeStore(directory))

    def _train(self, method: MethodPlan, phase: Phase, progress: Progress) -> dict[str, Any]:
        c, plan, directory = self.config, self.plan, self.plan.training(method, phase).directory
        label = method.label(phase)
        stage = FitStage(plan.distribution, method.spec, method.config, phase, c.regime, c.seed, label)
        stores = [source.directory for source in plan.stores(method, phase)]
        before = plan.checkpoint(method, method.before(phase))
        logs = plan.root / "tensorboard" / method.spec.name / phase.name
        return stage.fit(stores, before, directory, logs, self.group, progress)

    def _evaluate(self, progress: Progress) -> dict[str, Any]:
        plan = self.plan
        rows = plan.evaluation_stage().evaluate(plan.contestants(), plan.evaluation.directory, self.executor, progress)
        return {"episodes": rows, "goals_per_family": self.config.tasks.goals_per_family}

    @contextmanager
    def _bar(self, title: str) -> Iterator[Progress]:
        columns = (
            rich.progress.TextColumn("{task.description:<22}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
        )
        with rich.progress.Progress(*columns, console=self.console) as bars:
            bar = bars.add_task(title, total=None, note="")

            def advance(done: int, total: int, note: str = "") -> None:
                bars.update(bar, completed=done, total=total, note=note)

            yield advance

    def close(self) -> None:
        """Let the workers go."""
        self.executor.close()


def _name(method: MethodPlan, stage: Stage) -> str:
    return f"{method.spec.name}/{stage.directory.name}"


def _make_executor(config: RunConfig) -> Executor:
    if config.executor == "ray":
        return RayExecutor(Path(config.directory), config.workers)
    return SerialExecutor() if config.executor == "serial" else LocalExecutor(config.workers)


def _describe(store: EpisodeStore) -> dict[str, Any]:
    """Return what a manifest says of a store: its checksum, and success by attempt."""
    described: dict[str, Any] = {"episodes": len(store), "steps": sum(r.steps for r in store.records)}
    for attempt in sorted({r.attempt for r in store.records}):
        own = [r.success for r in store.records if r.attempt == attempt]
        described[f"success_{attempt}"] = round(sum(own) / len(own), 3)
    return described | {"digest": store.digest[:16]}
