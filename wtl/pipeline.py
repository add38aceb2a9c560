"""The stages of a run, in order: demos, trial, trials-0, retrial-0, trials-1, ..., baselines, evaluation.

This is the composition: it knows every stage and no stage knows it. Each method of `Pipeline` runs one
stage in its own folder and skips it if its manifest is complete and its settings are the same.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.progress
from rich.console import Console

import tasks
from wtl.batch import MetaBatches
from wtl.collect import DemonstrationShelf, Operator, collect_demonstrations, collect_trials
from wtl.config import RunConfig, to_plain, to_yaml
from wtl.episode import Episode
from wtl.evaluate import Contestants, evaluate, make_entries
from wtl.executor import Executor, LocalExecutor, SerialExecutor
from wtl.figures import draw_curves
from wtl.learner import Learner
from wtl.methods import load_policy
from wtl.methods.cloning import Cloning
from wtl.methods.mil import Mil
from wtl.methods.retrial import RetrialPolicy
from wtl.methods.trial import TrialPolicy
from wtl.report import load_run, print_tables, report_tables, summarise
from wtl.results import EpisodeResult
from wtl.rollout import Ending
from wtl.run import Stage
from wtl.seeding import seed_for
from wtl.store import EpisodeStore, write_atomically
from wtl.task import TaskDistribution
from wtl.tensorboard import write_tensorboard
from wtl.train import TrainConfig, Training, use_all_cores
from wtl.video import Clip, Style, record, write_video


class Pipeline:
    """One run directory and its stages."""

    def __init__(self, config: RunConfig, console: Console | None = None) -> None:
        self.config = config
        self.root = Path(config.directory)
        self.console = console or Console(stderr=True)
        self.executor: Executor = SerialExecutor() if config.executor == "serial" else LocalExecutor(config.workers)

    @functools.cached_property
    def distribution(self) -> TaskDistribution:
        """All tasks of the run."""
        settings = to_plain(self.config.tasks)
        return tasks.make_distribution(settings.pop("benchmark"), **settings)

    # The stages, as folders with settings. What a stage does not depend on is not among its settings.

    @functools.cached_property
    def demos(self) -> Stage:
        """Demonstrations of every task."""
        c = self.config
        twins = c.regime == "goal"
        settings = {"tasks": to_plain(c.tasks), "seed": c.seed, "twins": twins}
        return Stage(self.root / "demos", settings | {"demonstrations": to_plain(c.demonstrations)})

    @functools.cached_property
    def trial(self) -> Stage:
        """The trial policy; in regime `none`, where there is nothing to watch, plain cloning."""
        c = self.config
        phase = c.cloning if c.regime == "none" else c.trial
        return Stage(self.root / "trial", {"regime": c.regime, "seed": c.seed, **_phase(phase)}, [self.demos])

    def trials(self, round_number: int) -> Stage:
        """Trials of a round."""
        c = self.config
        settings = {"regime": c.regime, "trials": to_plain(c.trials), "exploration": to_plain(c.exploration)}
        inputs = [self.trial] + ([self.retrial(round_number - 1)] if round_number else [])
        return Stage(self.root / f"trials-{round_number}", settings, inputs)

    def retrial(self, round_number: int) -> Stage:
        """The retrial policy after a round."""
        r = self.config.retrial
        settings = {
            "policy": to_plain(r.policy),
            "train": to_plain(r.later_train if round_number else r.train),
            "trials_in_context": r.later_trials_in_context if round_number else r.first_trials_in_context,
        }
        return Stage(self.root / f"retrial-{round_number}", settings, [self.trials(round_number)])

    @functools.cached_property
    def cloning(self) -> Stage:
        """Baseline: behaviour cloning on the same demonstrations and labelled trial states."""
        return Stage(self.root / "cloning", _phase(self.config.cloning), [self.trials(0)])

    @functools.cached_property
    def mil(self) -> Stage:
        """Baseline: meta-imitation learning on the same demonstrations."""
        return Stage(self.root / "mil", _phase(self.config.mil), [self.demos])

    @functools.cached_property
    def evaluation(self) -> Stage:
        """Everything played on the same entries."""
        c = self.config
        settings = {"evaluation": to_plain(c.evaluation), "seed": c.evaluation_seed}
        inputs = [self.trial, self.retrial(c.retrial.rounds - 1)]
        inputs += [stage for name, stage in (("cloning", self.cloning), ("mil", self.mil)) if self._wants(name)]
        return Stage(self.root / "evaluation", settings, inputs)

    def _wants(self, baseline: str) -> bool:
        return baseline in self.config.evaluation.baselines and not (
            baseline in ("mil", "nearest_neighbour") and self.config.regime == "none"
        )

    # What each stage does.

    def collect_demos(self) -> None:
        """Stage `demos`."""

        def make() -> dict[str, Any]:
            c = self.config
            with self._bar("demonstrations") as progress:
                collect_demonstrations(
                    self.distribution, c.demonstrations, c.regime, c.seed, self.demos.directory, self.executor, progress
                )
            return _describe(EpisodeStore(self.demos.directory))

        self._run(self.demos, make)

    def train_trial(self) -> None:
        """Stage `trial`."""
        c = self.config

        def make() -> dict[str, Any]:
            spec = self.distribution.spec
            if c.regime == "none":
                return self._train(self.trial, Cloning(c.cloning.policy, spec), c.cloning.train, [self.demos], (0, 0))
            learner = TrialPolicy(c.trial.policy, spec, c.trial.train.batch.frames)
            return self._train(self.trial, learner, c.trial.train, [self.demos], (0, 0))

        self._run(self.trial, make)

    def collect_trials(self, round_number: int = 0) -> None:
        """Stage `trials-N`."""
        c, stage = self.config, self.trials(round_number)

        def make() -> dict[str, Any]:
            previous = _policy(self.retrial(round_number - 1)) if round_number else None
            with self._bar(f"trials, round {round_number}") as progress:
                collect_trials(
                    self.distribution, c.trials, c.exploration, c.regime, EpisodeStore(self.demos.directory),
                    Operator(_policy(self.trial), previous), round_number, c.seed, stage.directory, self.executor, progress,
                )  # fmt: skip
            return _describe(EpisodeStore(stage.directory))

        self._run(stage, make)

    def train_retrial(self, round_number: int = 0) -> None:
        """Stage `retrial-N`."""
        c, stage = self.config.retrial, self.retrial(round_number)

        def make() -> dict[str, Any]:
            train = c.later_train if round_number else c.train
            learner = RetrialPolicy(c.policy, self.distribution.spec, train.batch.frames)
            stores = [self.demos, *(self.trials(r) for r in range(round_number + 1))]
            most = c.later_trials_in_context if round_number else c.first_trials_in_context
            before = self.retrial(round_number - 1) if round_number else None
            return self._train(stage, learner, train, stores, (1, most), start=before)

        self._run(stage, make)

    def train_baselines(self) -> None:
        """Stages `cloning` and `mil`, as far as the evaluation wants them."""
        c, spec = self.config, self.distribution.spec
        if self._wants("cloning"):
            stores = [self.demos, self.trials(0)]
            learner = Cloning(c.cloning.policy, spec)
            self._run(self.cloning, lambda: self._train(self.cloning, learner, c.cloning.train, stores, None))
        if self._wants("mil"):
            mil = Mil(c.mil.policy, spec)
            self._run(self.mil, lambda: self._train(self.mil, mil, c.mil.train, [self.demos], (0, 0)))

    def evaluate(self) -> None:
        """Stage `evaluation`."""
        c, stage = self.config, self.evaluation

        def make() -> dict[str, Any]:
            contestants = Contestants(
                self.operator,
                cloning=_policy(self.cloning) if self._wants("cloning") else None,
                mil=_policy(self.mil) if self._wants("mil") else None,
            )
            with self._bar("evaluation") as progress:
                rows = evaluate(
                    self.distribution, c.evaluation, c.exploration, c.regime, self.shelf, contestants,
                    baselines=[name for name in c.evaluation.baselines if self._wants(name)],
                    train_seed=c.seed, seed=c.evaluation_seed, directory=stage.directory,
                    executor=self.executor, progress=progress,
                )  # fmt: skip
            return {"episodes": len(rows), "goals_per_family": c.tasks.goals_per_family}

        self._run(stage, make)

    def all_stages(self) -> None:
        """Everything, in order; what is complete is skipped."""
        self.collect_demos()
        self.train_trial()
        for round_number in range(self.config.retrial.rounds):
            self.collect_trials(round_number)
            self.train_retrial(round_number)
        self.train_baselines()
        self.evaluate()

    def clips(self, entry: int = 0, style: Style = "auto") -> list[Clip]:
        """Demonstration and all attempts of one entry of the evaluation, as pictures."""
        c = self.config
        entries = make_entries(self.distribution, self.shelf, c.evaluation, c.evaluation_seed)
        if not 0 <= entry < len(entries.sessions):
            raise ValueError(f"entry {entry} does not exist; the evaluation has entries 0 .. {len(entries.sessions) - 1}")
        session = entries.sessions[entry]
        shown = next((e for e in EpisodeStore(self.demos.directory) if e.task.name == session.demonstration_name), None)
        trial, retrial = load_policy(self.operator.trial), load_policy(self.operator.retrial or self.operator.trial)
        return record(
            self.distribution.families[session.task.family], session, shown, [trial] + [retrial] * c.evaluation.attempts,
            ending=Ending(c.evaluation.horizon_steps, c.evaluation.after_success_steps), exploration=c.exploration, style=style,
        )  # fmt: skip

    def report(self) -> None:
        """Tables in the terminal, `report.json`, the figure, a video, and TensorBoard's curves."""
        c = self.config
        self.evaluation.require()
        results = load_run(self.root)
        summary = summarise(results.rows, results.hidden_goal_families)
        write_atomically(self.root / "report.json", json.dumps(summary, indent=1).encode())
        figure, strip = self.root / "improvement.png", self.root / "strip.gif"
        draw_curves({self.root.name: results.rows}, figure, title=self._title())
        if not strip.is_file():
            with self._bar("video"):
                clips = self.clips(self._telling_entry(results.rows), c.video)
                write_video(clips, strip)
                write_video(clips, strip.with_suffix(".mp4"))
        write_tensorboard(
            self.root / "tensorboard",
            results.rows,
            results.hidden_goal_families,
            config_yaml=to_yaml(c),
            hyper_parameters=self._hyper_parameters(),
            figures={"improvement": figure},
            strips={"demonstration, trial, retrials": strip},
        )
        print_tables(report_tables({self.root.name: results}))
        self.console.print(
            f"figure {figure}, video {strip.with_suffix('.mp4')}, episodes {self.evaluation.directory}/episodes.csv\n"
            f"improvement curves: tensorboard --logdir {self.root / 'tensorboard'}"
        )

    def _title(self) -> str:
        t = self.config.tasks
        name = f"{t.benchmark} {t.family}" if t.benchmark == "ML1" else t.benchmark
        return f"{name}, {self.config.evaluation.split} tasks, regime {self.config.regime}"

    def _hyper_parameters(self) -> dict[str, str | int | float]:
        c = self.config
        return {
            "benchmark": c.tasks.benchmark, "regime": c.regime, "seed": c.seed, "goals_per_family": c.tasks.goals_per_family,
            "rounds": c.retrial.rounds, "width": c.retrial.policy.network.width, "steps": c.retrial.train.steps,
            "learning_rate": c.retrial.train.learning_rate, "contexts": c.retrial.train.batch.contexts,
            "queries": c.retrial.train.batch.queries, "frames": c.retrial.train.batch.frames,
        }  # fmt: skip

    def _telling_entry(self, rows: Sequence[EpisodeResult]) -> int:
        """The first entry that failed at attempt 0 and succeeded at attempt 1, else the first of all."""
        succeeded = {(r.task, r.seed, r.attempt): r.success for r in rows if r.method == "wtl" and not r.control}
        entries = make_entries(self.distribution, self.shelf, self.config.evaluation, self.config.evaluation_seed)
        for number, session in enumerate(entries.sessions):
            before, after = (succeeded.get((session.task.name, session.seed, attempt)) for attempt in (0, 1))
            if after and not before:
                return number
        return 0

    # Helpers of the stages.

    @property
    def operator(self) -> Operator:
        """The trained pair."""
        return Operator(_policy(self.trial), _policy(self.retrial(self.config.retrial.rounds - 1)))

    @property
    def shelf(self) -> DemonstrationShelf:
        """The demonstrations, by what they may be shown for."""
        return DemonstrationShelf(EpisodeStore(self.demos.directory), self.config.regime)

    def _run(self, stage: Stage, make: Callable[[], dict[str, Any]]) -> None:
        if stage.finished():
            self.console.print(f"[dim]{stage.directory} is complete, skipped[/dim]")
            return
        for before in stage.inputs:
            before.require()
        stage.begin()
        write_atomically(self.root / "config.yaml", to_yaml(self.config).encode())
        results = make()
        stage.finish(**results)
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
        use_all_cores()
        name = stage.directory.name
        episodes = [e for s in stores for e in EpisodeStore(s.directory)]
        make = functools.partial(self._batches, episodes, config, trials_in_context)
        batches, validation = make("train", name), make("validation", name)
        training = Training(
            learner, config, stage.directory, self.root / "tensorboard" / name, seed_for(self.config.seed, "train", name)
        )
        if not training.resume():
            _prepare(learner, batches, _policy(start) if start else None)
        with self._bar(f"training {name}") as progress:
            training.fit(batches, validation, progress)
        learner.save(_policy(stage))
        last = [line for line in training.history if line["validation"]][-1]
        return {"steps": training.step, "validation_loss": round(last["action"], 4)}

    def _batches(
        self, episodes: Sequence[Episode], config: TrainConfig, trials_in_context: tuple[int, int] | None, split: str, name: str
    ) -> MetaBatches:
        spec = self.distribution.spec
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


def _policy(stage: Stage) -> Path:
    return stage.directory / "policy"


def _phase(phase: Any) -> dict[str, Any]:
    return {"policy": to_plain(phase.policy), "train": to_plain(phase.train)}


def _prepare(learner: Learner | Any, batches: MetaBatches, start: Path | None) -> None:
    if start:
        learner.start_from(start)
    else:
        learner.fit_features(batches.some_observations())


def _describe(store: EpisodeStore) -> dict[str, Any]:
    """What a manifest says of a store: its checksum, and success by attempt."""
    described: dict[str, Any] = {"episodes": len(store), "steps": sum(record.steps for record in store.records)}
    for attempt in sorted({record.attempt for record in store.records}):
        own = [record.success for record in store.records if record.attempt == attempt]
        described[f"success_{attempt}"] = round(sum(own) / len(own), 3)
    return described | {"digest": store.digest[:16]}
