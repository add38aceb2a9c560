"""Carries out the plan of a run, stage by stage; what is complete is skipped, what was cut off goes on.

This is the composition: it knows the kinds of stages and no stage knows it. It knows no method by name.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from wtl.analysis.results import digest_of_entries, read_results
from wtl.app.checks import check_plan
from wtl.app.config import RunConfig, to_yaml
from wtl.app.plan import MethodPlan, Plan
from wtl.app.progress import progress_of
from wtl.app.stage import Stage
from wtl.compute.distributed import SINGLE, ProcessGroup
from wtl.compute.executor import Executor, LocalExecutor, SerialExecutor
from wtl.compute.ray import RayExecutor
from wtl.core.files import write_atomically
from wtl.core.lock import locked
from wtl.core.relabelling import is_relabelled
from wtl.core.terminal import make_console
from wtl.data.grades import GradeSummary, summarise
from wtl.data.store import EpisodeStore
from wtl.methods.learner import TrainConfig
from wtl.methods.spec import Phase
from wtl.stages.demonstrations import DemonstrationStage
from wtl.stages.graded import GradedStage
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
    files: tuple[str, ...]
    """What it leaves for others to read; the manifest has their checksums."""
    train: TrainConfig | None = None
    """What it trains with, if it does: the one thing that several processes may do together."""
    policies: Callable[[], dict[str, str]] = dict
    """Returns the checksum of each trained method that plays in it."""
    check: Callable[[], object] | None = None
    """Raises ValueError for a mistake in what it reads, before anything is written."""


STORE = ("store.json",)
TRAINING = ("checkpoint/method.json", "checkpoint/weights.safetensors", "losses.csv")
EVALUATION = ("entries.json", "families.json", "episodes.csv")


class Pipeline:
    """Carries out a plan."""

    def __init__(self, config: RunConfig, console: Console | None = None, group: ProcessGroup = SINGLE) -> None:
        """Prepare a run; `group` is who trains, and only its main process writes into the run directory."""
        self.config = config
        self.plan = Plan(config)
        self.group = group
        self.console = console or make_console(stderr=True)
        self.executor = _make_executor(config)

    def steps(self) -> list[Step]:
        """Return all stages in order; each method's trainings come after the trials that they read."""
        plan = self.plan
        steps = [self._demonstrations_step, *([self._graded_step] if plan.reads_graded else [])]
        for method in plan.all_methods:
            for phase in method.phases:
                if phase.collection:
                    trials = plan.collection(method, phase)
                    make = functools.partial(self._try, method, phase)
                    played = functools.partial(plan.policies, [(method, method.before(phase))])
                    steps.append(Step(_name(method, trials), trials, make, STORE, policies=played))
                train = plan.training(method, phase)
                make = functools.partial(self._train, method, phase)
                steps.append(Step(_name(method, train), train, make, TRAINING, phase.train))
        played = functools.partial(plan.policies, [(method, method.phases) for method in plan.all_methods])
        return [*steps, Step("evaluation", plan.evaluation, self._evaluate, EVALUATION, policies=played)]

    @property
    def _demonstrations_step(self) -> Step:
        stage = self.plan.demonstrations
        return Step("demonstrations", stage, self._demonstrate, STORE, check=lambda: self._demonstrations.adopted())

    @property
    def _graded_step(self) -> Step:
        return Step("graded", self.plan.graded, self._grade, STORE)

    def run(self, only: str = "", checked: bool = True) -> None:
        """Carry out all stages, or the one of this name; first, mistakes that later stages would meet are looked for.

        Raises:
            ValueError: there is no such stage; the message lists those that there are.
        """
        steps = self.steps()
        if only and only not in [step.name for step in steps]:
            raise ValueError(f"there is no stage {only!r}; the stages are {', '.join(step.name for step in steps)}")
        asked = [step for step in steps if step.name == only or not only]
        with self.held():
            # Each of them: what is damaged, or was made with other settings, shows before anything is done.
            finished = self.group.on_main(lambda: [step.stage.finished() for step in asked])
            if checked and not all(finished):
                self.group.on_main(lambda: check_plan(self.plan))
            for name, reason in self.plan.left_out.items():
                self.console.print(f"{name} is left out: {reason}", style="yellow")
            for step in asked:
                self._carry_out(step)

    def grade(self) -> list[GradeSummary]:
        """Make demonstrations and graded episodes and nothing else; return how each grade went."""
        steps = (self._demonstrations_step, self._graded_step)
        with self.held():
            for step in steps:  # what is damaged, or was made with other settings, shows before anything is done
                step.stage.finished()
            for step in steps:
                self._carry_out(step)
        return summarise(EpisodeStore(self.plan.graded.directory))

    def _carry_out(self, step: Step) -> None:
        if self._is_complete(step):
            return
        # A stage's folder may be a link to a place that other runs share, so it is held for itself too.
        with self.held(step.stage.directory):
            if self._is_complete(step):
                return
            self.group.on_main(functools.partial(self._begin, step))
            with progress_of(step.name, self.console) as progress:
                results = step.make(progress)
            self.group.on_main(lambda: step.stage.finish(results, step.files, step.policies()))
        self.console.print(f"{step.stage.directory}: " + ", ".join(f"{k} {v}" for k, v in results.items()))

    def held(self, directory: Path | None = None) -> contextlib.AbstractContextManager[None]:
        """Hold the run directory, or a folder of it, in the process that writes there. Raises InUseError."""
        return locked(directory or self.plan.root) if self.group.is_main else contextlib.nullcontext()

    def _is_complete(self, step: Step) -> bool:
        complete = self.group.on_main(step.stage.finished)
        if complete:
            self.console.print(f"{step.stage.directory} is complete, skipped", style="dim")
        return complete

    def _begin(self, step: Step) -> None:
        for before in step.stage.inputs:
            before.require()
        _ = self.plan.distribution  # a mistake in the tasks must show before anything is written
        if step.check:
            step.check()
        if step.train:
            micro_batches_of(step.train, self.group)
        step.stage.begin()
        write_atomically(self.plan.root / "config.yaml", to_yaml(self.config).encode())

    # What the steps make.

    @property
    def _demonstrations(self) -> DemonstrationStage:
        c = self.config
        return DemonstrationStage(self.plan.distribution, c.demonstrations, c.regime, c.seed)

    def _demonstrate(self, progress: Progress) -> dict[str, Any]:
        directory = self.plan.demonstrations.directory
        said = self._demonstrations.collect(directory, self.executor, progress)
        return _describe(EpisodeStore(directory)) | said

    def _grade(self, progress: Progress) -> dict[str, Any]:
        c, plan = self.config, self.plan
        stage = GradedStage(plan.distribution, c.graded, c.protocol, plan.shown(), c.seed)
        stage.collect(plan.graded_players(), plan.graded.directory, self.executor, progress)
        return _describe(EpisodeStore(plan.graded.directory))

    def _try(self, method: MethodPlan, phase: Phase, progress: Progress) -> dict[str, Any]:
        c, plan, collection = self.config, self.plan, phase.collection
        assert collection is not None
        directory = plan.collection(method, phase).directory
        stage = TrialStage(
            plan.distribution, c.trials, c.protocol, plan.shown(), c.seed, collection.round_number,
            collection.retries, collection.labelled, collection.tasks, collection.other_starts, collection.kept,
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
        entries = digest_of_entries(
            row.entry_digest for row in read_results(plan.evaluation.directory / "episodes.csv")
        )
        return {"episodes": rows, "goals_per_family": self.config.tasks.goals_per_family, "entries": entries}

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
    played = [record for record in store.records if not is_relabelled(record.task)]
    described: dict[str, Any] = {"episodes": len(played), "steps": sum(r.steps for r in played)}
    if len(played) < len(store):
        described["relabelled"] = len(store) - len(played)
    for attempt in sorted({r.attempt for r in played}):
        own = [r.success for r in played if r.attempt == attempt]
        described[f"success_{attempt}"] = round(sum(own) / len(own), 3)
    return described | {"digest": store.digest[:16]}
