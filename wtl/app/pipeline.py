"""Carries out the plan of a run, stage by stage; what is complete is skipped, what was cut off goes on.

This is the composition: it knows the kinds of stages and no stage knows it. It knows no method by name.
"""

from __future__ import annotations

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
    run: Callable[[], None]
    trains: bool = False
    """Whether several processes may do it together."""


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
        steps = [Step("demonstrations", plan.demonstrations, self.collect_demonstrations)]
        for method in (plan.main, *plan.others):
            for phase in method.phases:
                steps += self._phase_steps(method, phase)
        return [*steps, Step("evaluation", plan.evaluation, self.evaluate)]

    def _phase_steps(self, method: MethodPlan, phase: Phase) -> list[Step]:
        train = self.plan.training(method, phase)
        steps = [Step(_name(method, train), train, lambda: self.train(method, phase), trains=True)]
        if phase.collection:
            trials = self.plan.collection(method, phase)
            steps.insert(0, Step(_name(method, trials), trials, lambda: self.collect_trials(method, phase)))
        return steps

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
            if not only or step.name == only:
                step.run()

    def collect_demonstrations(self) -> None:
        """Carry out the stage `demonstrations`."""
        c, stage = self.config, self.plan.demonstrations

        def make() -> dict[str, Any]:
            kind = DemonstrationStage(self.plan.distribution, c.demonstrations, c.regime, c.seed)
            with self._bar("demonstrations") as progress:
                kind.collect(stage.directory, self.executor, progress)
            return _describe(EpisodeStore(stage.directory))

        self._run(stage, make)

    def collect_trials(self, method: MethodPlan, phase: Phase) -> None:
        """Carry out the collection before a phase."""
        c, plan, stage, collection = self.config, self.plan, self.plan.collection(method, phase), phase.collection
        assert collection is not None

        def make() -> dict[str, Any]:
            kind = TrialStage(
                plan.distribution, c.trials, c.protocol, plan.shown(), c.seed,
                collection.round_number, collection.retries, collection.labelled,
            )  # fmt: skip
            with self._bar(_name(method, stage)) as progress:
                kind.collect(plan.collecting_player(method, phase), stage.directory, self.executor, progress)
            return _describe(EpisodeStore(stage.directory))

        self._run(stage, make)

    def train(self, method: MethodPlan, phase: Phase) -> None:
        """Carry out the training of a phase."""
        plan, stage = self.plan, self.plan.training(method, phase)

        def make() -> dict[str, Any]:
            kind = FitStage(
                plan.distribution, method.spec, method.config, phase, self.config.regime, self.config.seed,
                method.label(phase),
            )  # fmt: skip
            stores = [source.directory for source in plan.stores(method, phase)]
            before = plan.checkpoint(method, method.before(phase))
            name = _name(method, stage)
            with self._bar(name) as progress:
                return kind.fit(stores, before, stage.directory, plan.root / "tensorboard" / name, self.group, progress)

        self._run(stage, make, phase.train)

    def evaluate(self) -> None:
        """Carry out the stage `evaluation`."""
        plan, stage = self.plan, self.plan.evaluation

        def make() -> dict[str, Any]:
            with self._bar("evaluation") as progress:
                rows = plan.evaluation_stage().evaluate(plan.contestants(), stage.directory, self.executor, progress)
            return {"episodes": rows, "goals_per_family": self.config.tasks.goals_per_family}

        self._run(stage, make)

    def _run(self, stage: Stage, make: Callable[[], dict[str, Any]], train: TrainConfig | None = None) -> None:
        """Run a stage unless it is complete; `train` is what it trains with, the one thing that a group does."""

        def begin() -> None:
            for before in stage.inputs:
                before.require()
            _ = self.plan.distribution  # a mistake in the tasks must show before anything is written
            if train:
                micro_batches_of(train, self.group)
            stage.begin()
            write_atomically(self.plan.root / "config.yaml", to_yaml(self.config).encode())

        if self.group.on_main(stage.finished):
            self.console.print(f"[dim]{stage.directory} is complete, skipped[/dim]")
            return
        self.group.on_main(begin)
        results = make()
        self.group.on_main(lambda: stage.finish(**results))
        self.console.print(f"{stage.directory}: " + ", ".join(f"{k} {v}" for k, v in results.items()))

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
