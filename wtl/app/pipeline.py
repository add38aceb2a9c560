"""The stages of a run, in order: demos, trial, trials-0, retrial-0, trials-1, ..., baselines, evaluation.

This is the composition: it knows every stage and no stage knows it. Each method of `Pipeline` runs one
stage in its own folder and skips it if its manifest is complete and its settings are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.progress
import torch
from rich.console import Console

from wtl.app.config import RunConfig, to_yaml
from wtl.app.plan import Plan
from wtl.app.stage import Stage
from wtl.compute.distributed import ALONE, Team
from wtl.compute.executor import Executor, LocalExecutor, SerialExecutor
from wtl.compute.ray import RayExecutor
from wtl.core.episode import Episode
from wtl.core.files import write_atomically
from wtl.core.rng import seed_for
from wtl.data.meta_batches import MetaBatches
from wtl.data.store import EpisodeStore
from wtl.methods.cloning import Cloning
from wtl.methods.imitation.retrial import RetrialPolicy
from wtl.methods.imitation.shared import SharedPolicy
from wtl.methods.imitation.trial import TrialPolicy
from wtl.methods.mil import Mil
from wtl.methods.transfer.method import FollowingPolicy
from wtl.stages.demonstrations import adopt_demonstrations, collect_demonstrations
from wtl.stages.evaluate import Contestants, evaluate
from wtl.stages.train import TrainConfig, Training, own_parts, share_cores
from wtl.stages.trials import collect_trials


class Pipeline:
    """Carries out a plan, stage by stage."""

    def __init__(self, config: RunConfig, console: Console | None = None, team: Team = ALONE) -> None:
        """`team` is who trains; only its leading process writes into the run directory."""
        self.config = config
        self.plan = Plan(config)
        self.team = team
        self.console = console or Console(stderr=True)
        self.executor = _make_executor(config)

    def collect_demos(self) -> None:
        """Stage `demos`."""
        c, plan = self.config, self.plan

        def make() -> dict[str, Any]:
            if c.own_demonstrations:
                adopt_demonstrations(plan.distribution, Path(c.own_demonstrations), plan.demos.directory)
                return _describe(EpisodeStore(plan.demos.directory))
            with self._bar("demonstrations") as progress:
                collect_demonstrations(
                    plan.distribution,
                    c.demonstrations,
                    c.regime,
                    c.seed,
                    plan.demos.directory,
                    self.executor,
                    progress,
                )
            return _describe(EpisodeStore(plan.demos.directory))

        self._run(plan.demos, make)

    def train_trial(self) -> None:
        """Stage `trial`."""
        c = self.config
        if self.plan.follows:
            self.console.print("[dim]operator: following has no trial policy of its own, nothing to train[/dim]")
            return

        def make() -> dict[str, Any]:
            spec = self.plan.distribution.spec
            if c.regime == "none":
                return self._train(
                    self.plan.trial, Cloning(c.cloning.policy, spec), c.cloning.train, [self.plan.demos], (0, 0)
                )
            learner = TrialPolicy(c.trial.policy, spec, c.trial.train.batch.frames)
            return self._train(self.plan.trial, learner, c.trial.train, [self.plan.demos], (0, 0))

        self._run(self.plan.trial, make, c.cloning.train if c.regime == "none" else c.trial.train)

    def collect_trials(self, round_number: int = 0) -> None:
        """Stage `trials-N`."""
        c, stage = self.config, self.plan.trials(round_number)
        nobody_taught = self.plan.follows and not round_number
        player = c.following.follower if nobody_taught else self.plan.operator(round_number)

        def make() -> dict[str, Any]:
            with self._bar(f"trials, round {round_number}") as progress:
                collect_trials(
                    self.plan.distribution,
                    c.trials,
                    c.exploration,
                    c.regime,
                    EpisodeStore(self.plan.demos.directory),
                    player,
                    round_number,
                    c.seed,
                    stage.directory,
                    self.executor,
                    progress,
                    labelled=not self.plan.follows,
                )
            return _describe(EpisodeStore(stage.directory))

        self._run(stage, make)

    def train_retrial(self, round_number: int = 0) -> None:
        """Stage `retrial-N`."""
        c, stage = self.config.retrial, self.plan.retrial(round_number)
        train, spec = c.later_train if round_number else c.train, self.plan.distribution.spec

        def make() -> dict[str, Any]:
            learner: FollowingPolicy | SharedPolicy | RetrialPolicy
            if self.plan.follows:
                learner = FollowingPolicy(self.config.following, spec, train.batch.frames)
            else:
                learner = (SharedPolicy if self.plan.shares else RetrialPolicy)(c.policy, spec, train.batch.frames)
            stores = [self.plan.demos, *(self.plan.trials(r) for r in range(round_number + 1))]
            most = c.later_trials_in_context if round_number else c.first_trials_in_context
            first = self.plan.trial if self.plan.shares and not self.plan.follows else None
            before = self.plan.retrial(round_number - 1) if round_number else first
            return self._train(stage, learner, train, stores, (0 if self.plan.shares else 1, most), start=before)

        self._run(stage, make, train)

    def train_baselines(self) -> None:
        """Stages `cloning` and `mil`, as far as the evaluation wants them."""
        c, spec = self.config, self.plan.distribution.spec
        if self.plan.wants("cloning"):
            stores = [self.plan.demos] if self.plan.follows else [self.plan.demos, self.plan.trials(0)]
            self._run(
                self.plan.cloning,
                lambda: self._train(self.plan.cloning, Cloning(c.cloning.policy, spec), c.cloning.train, stores, None),
                c.cloning.train,
            )
        if self.plan.wants("mil"):
            self._run(
                self.plan.mil,
                lambda: self._train(self.plan.mil, Mil(c.mil.policy, spec), c.mil.train, [self.plan.demos], (0, 0)),
                c.mil.train,
            )

    def evaluate(self) -> None:
        """Stage `evaluation`."""
        c, stage = self.config, self.plan.evaluation

        def make() -> dict[str, Any]:
            contestants = Contestants(
                self.plan.operator(c.retrial.rounds),
                cloning=self.plan.cloning.policy if self.plan.wants("cloning") else None,
                mil=self.plan.mil.policy if self.plan.wants("mil") else None,
            )
            with self._bar("evaluation") as progress:
                rows = evaluate(
                    self.plan.distribution, c.evaluation, c.exploration, c.regime, self.plan.shelf, contestants,
                    baselines=[name for name in c.evaluation.baselines if self.plan.wants(name)],
                    train_seed=c.seed, seed=c.evaluation_seed, directory=stage.directory,
                    executor=self.executor, progress=progress,
                )  # fmt: skip
            return {"episodes": len(rows), "goals_per_family": c.tasks.goals_per_family}

        self._run(stage, make)

    def all_stages(self) -> None:
        """Everything, in order; what is complete is skipped."""
        self.collect_demos()
        if not self.config.trained:
            self.train_trial()
            for round_number in range(self.config.retrial.rounds):
                self.collect_trials(round_number)
                self.train_retrial(round_number)
            self.train_baselines()
        self.evaluate()

    # Helpers of the stages.

    def _run(self, stage: Stage, make: Callable[[], dict[str, Any]], train: TrainConfig | None = None) -> None:
        """`train` is what the stage trains with, if it does: the one thing that a team does together."""

        def begin() -> None:
            for before in stage.inputs:
                before.require()
            _ = self.plan.distribution  # a mistake in the tasks must show before anything is written
            if train:
                own_parts(train, self.team)
            stage.begin()
            write_atomically(self.plan.root / "config.yaml", to_yaml(self.config).encode())

        if self.team.first(stage.finished):
            self.console.print(f"[dim]{stage.directory} is complete, skipped[/dim]")
            return
        self.team.first(begin)
        # Networks are built in `make`; their first weights belong to the stage, whatever this process did before.
        torch.manual_seed(seed_for(self.config.seed, "network", stage.directory.name))
        results = make()
        self.team.first(lambda: stage.finish(**results))
        self.console.print(f"{stage.directory}: " + ", ".join(f"{k} {v}" for k, v in results.items()))

    def _train(
        self,
        stage: Stage,
        learner: Any,
        config: TrainConfig,
        stores: Sequence[Stage],
        trials_in_context: tuple[int, int] | None,
        start: Stage | None = None,
    ) -> dict[str, Any]:
        """Train one network; `trials_in_context` None means that no context is read at all."""
        share_cores(self.team)
        name = stage.directory.name
        episodes = [e for s in stores for e in EpisodeStore(s.directory)]
        make = functools.partial(self._batches, episodes, config, trials_in_context)
        batches, validation = make("train", name), make("validation", name)
        training = Training(
            learner,
            config,
            stage.directory,
            self.plan.root / "tensorboard" / name,
            seed_for(self.config.seed, "train", name),
            self.team,
        )
        if not training.resume():
            _prepare(learner, batches, start.policy if start else None)
        with self._bar(f"training {name}") as progress:
            training.fit(batches, validation, progress)
        self.team.first(lambda: learner.save(stage.policy))
        last = [line for line in training.history if line["validation"]][-1]
        return {"steps": training.step, "validation_loss": round(last.get("action", last["total"]), 4)}

    def _batches(
        self,
        episodes: Sequence[Episode],
        config: TrainConfig,
        trials_in_context: tuple[int, int] | None,
        split: str,
        name: str,
    ) -> MetaBatches:
        spec = self.plan.distribution.spec
        own = [e for e in episodes if e.task.split == split]
        return MetaBatches(
            config.batch,
            [e for e in own if e.role == "demonstration"],
            [e for e in own if e.role == "trial"],
            layout=spec.layout,
            reward_scale=spec.reward_scale,
            regime="none" if trials_in_context is None else self.config.regime,
            seed=seed_for(self.config.seed, "batches", name, split),
            trials_in_context=trials_in_context or (0, 0),
            weights=self.plan.distribution.weights,
        )

    @contextmanager
    def _bar(self, title: str) -> Iterator[Callable[..., None]]:
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


def _make_executor(config: RunConfig) -> Executor:
    if config.executor == "ray":
        return RayExecutor(Path(config.directory), config.workers)
    return SerialExecutor() if config.executor == "serial" else LocalExecutor(config.workers)


def _prepare(learner: Any, batches: MetaBatches, start: Path | None) -> None:
    if start:
        learner.start_from(start)
    else:
        learner.fit_features(batches.some_observations())


def _describe(store: EpisodeStore) -> dict[str, Any]:
    """What a manifest says of a store: its checksum, and success by attempt."""
    described: dict[str, Any] = {"episodes": len(store), "steps": sum(r.steps for r in store.records)}
    for attempt in sorted({r.attempt for r in store.records}):
        own = [r.success for r in store.records if r.attempt == attempt]
        described[f"success_{attempt}"] = round(sum(own) / len(own), 3)
    return described | {"digest": store.digest[:16]}
