"""This module is the one place where the benchmarks call into wtl: tasks, networks, batches, training, collection.

Networks have the sizes of the preset `quick`. What an episode holds does not change how long training and acting take,
so those are measured on random numbers with real lengths; nothing is learned here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from wtl.app.config import RunConfig, load_config
from wtl.compute.executor import Executor
from wtl.core.episode import Context, Episode, Role, Trajectory
from wtl.core.task import FamilySpec, Task, TaskDistribution, TaskFamily
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.meta_batches import MetaBatches
from wtl.data.store import EpisodeStore
from wtl.methods.checkpoint import save_checkpoint
from wtl.methods.registry import PlayerRecipe, find_method
from wtl.methods.spec import MethodSpec, Phase
from wtl.play.policy import Attempt, StepBatch
from wtl.play.protocol import ProtocolConfig
from wtl.stages.demonstrations import DemonstrationsConfig, DemonstrationStage
from wtl.stages.training import Training
from wtl.stages.trials import TrialsConfig, TrialStage
from wtl.tasks import make_distribution

DEMONSTRATION_STEPS, TRIAL_STEPS = 60, 150
"""About as long as those of hidden-goal reach."""
METHODS = ("imitation", "trajectory_transfer")
"""The methods whose collecting is measured, with fresh networks."""


def quick_config(family: str) -> RunConfig:
    """The result is the preset `quick` for one Meta-World family, with the settings of all `METHODS`."""
    return load_config("quick", [f"tasks.family={family}", "method=imitation"])


def distribution_of(config: RunConfig, train: int) -> TaskDistribution:
    """The result has so many training tasks and few others."""
    settings = asdict(config.tasks) | {"goals_per_family": train, "validation_goals_per_family": 2}
    return make_distribution(settings.pop("benchmark"), **settings | {"test_goals_per_family": 2})


def random_episodes(spec: FamilySpec, tasks: int) -> list[Episode]:
    """The result holds a demonstration and a trial of each task, made of random numbers."""
    generator = np.random.default_rng(0)

    def episode(task: Task, role: Role, steps: int) -> Episode:
        numbers = generator.standard_normal((steps + 1, spec.layout.size), dtype=np.float32)
        actions, labels = generator.uniform(-1, 1, (2, steps, spec.action_size))
        successes = np.arange(steps) == steps - 1
        trajectory = Trajectory(numbers, actions, generator.uniform(0, spec.reward_scale, steps), successes)
        goal = generator.standard_normal(spec.goal_size)
        return Episode(trajectory, task, role, 0, 0, "random numbers", goal, labels)

    made: list[Episode] = []
    for number in range(tasks):
        name = f"{spec.name}/train/{number}"
        task = Task(spec.name, "train", name, (float(number),), name)
        length = int(generator.integers(DEMONSTRATION_STEPS // 2, 2 * DEMONSTRATION_STEPS))
        made += [episode(task, "demonstration", length), episode(task, "trial", TRIAL_STEPS)]
    return made


def _last_phase(config: RunConfig) -> tuple[MethodSpec, Phase]:
    """The result is the run's method, and its first phase that reads trials."""
    method = find_method(config.method)
    phases = method.phases(config.settings_of(config.method), "family")
    return method, next(phase for phase in phases if phase.collection)


@contextmanager
def training_parts(config: RunConfig, spec: FamilySpec, tasks: int, steps: int) -> Iterator[dict[str, Callable]]:
    """The parts of a training step can be called one by one; `fit` runs the whole loop with a callback."""
    method, phase = _last_phase(config)
    settings = config.settings_of(config.method)
    assert method.network and method.learner
    make_network, make_learner = method.network, method.learner
    batches = MetaBatches(
        phase.train.batch, phase.needs, random_episodes(spec, tasks), spec, regime="family", seed=0,
    )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:

        def fresh(name: str) -> Training:
            learner = make_learner(settings, spec, phase.part, make_network(settings, spec, phase.part))
            learner.fit_features(batches.some_observations())
            root = Path(folder) / name
            return Training(learner, replace(phase.train, steps=steps), root, root / "events", 0)

        training = fresh("parts")
        batch = batches(0)

        def forward_and_backward() -> None:
            training.network.zero_grad(set_to_none=True)
            training.learner.loss(batch.to(training.device)).total.backward()

        yield {
            "batch": lambda: batches(1),
            "forward": lambda: training.learner.loss(batch.to(training.device)),
            "forward and backward": forward_and_backward,
            "whole step without its batch": lambda: training.train_step(batch),
            "fit": lambda callback: fresh("loop").fit(batches, None, callback),
        }


def acting_parts(config: RunConfig, family: TaskFamily, environments: int) -> dict[str, Callable[[], object]]:
    """The result holds one control step of so many environments, and a first step, which reads their contexts."""
    spec = family.spec
    demonstration, trial = (e.trajectory for e in random_episodes(spec, 1))
    method, phase = _last_phase(config)
    settings = config.settings_of(config.method)
    assert method.network
    player = method.player(settings, spec, {phase.part: method.network(settings, spec, phase.part)}, "bench")
    contexts, seeds = [Context((demonstration,), (trial,))] * environments, list(range(environments))
    attempt = Attempt(family, (), (), contexts, seeds, 1)
    unknown = np.full(environments, np.nan)
    observations = np.tile(trial.observations[0], (environments, 1)).astype(np.float64)
    step = StepBatch(observations, np.arange(environments), 0, unknown, unknown)
    policy = player.policy(attempt)
    return {
        "control step": lambda: policy.act(step),
        "first step, contexts read": lambda: player.policy(attempt).act(step),
    }


class Collector:
    """A collector has demonstrations and fresh networks of all `METHODS`, and plays trials of one family with them."""

    def __init__(self, distribution: TaskDistribution, config: RunConfig, executor: Executor, folder: Path) -> None:
        torch.manual_seed(0)
        self._distribution, self._config, self._executor, self._folder = distribution, config, executor, folder
        few = self._tasks(distribution.train[:4])
        DemonstrationStage(few, DemonstrationsConfig(), "family", 0).collect(folder / "demos", executor, _silent)
        self._demos = DemonstrationStore(folder / "demos", "family")
        demos = EpisodeStore(folder / "demos")
        seen = torch.from_numpy(np.concatenate([e.trajectory.observations for e in demos]))
        for name in METHODS:
            method, settings, spec = find_method(name), config.settings_of(name), distribution.spec
            assert method.network and method.learner
            networks = {}
            for part in dict.fromkeys(phase.part for phase in method.phases(settings, "family")):
                networks[part] = method.network(settings, spec, part)
                method.learner(settings, spec, part, networks[part]).fit_features(seen)
            save_checkpoint(folder / name, method, settings, spec, networks)

    def _tasks(self, tasks: Sequence[Task]) -> TaskDistribution:
        return TaskDistribution(self._distribution.families, tuple(tasks), (), ())

    def collect(self, method: str, tasks: Sequence[Task], horizon_steps: int, unit_episodes: int) -> tuple[float, list]:
        """The result is the seconds of wall time that the stage takes, and the tasks and actions that were played."""
        config = TrialsConfig(horizons_steps=(horizon_steps,), unit_episodes=unit_episodes)
        phases = find_method(method).phases(self._config.settings_of(method), "family")
        labelled = next(phase.collection.labelled for phase in phases if phase.collection)
        stage = TrialStage(
            self._tasks(tasks), config, ProtocolConfig(after_success_steps=None), self._demos, 0, labelled=labelled
        )
        recipe = PlayerRecipe(method, self._config.settings_of(method), self._folder / method)
        with tempfile.TemporaryDirectory(dir=self._folder) as directory:
            start = time.perf_counter()
            stage.collect(recipe.player, Path(directory) / "trials", self._executor, _silent)
            seconds = time.perf_counter() - start
            return seconds, [(e.task, np.array(e.trajectory.actions)) for e in EpisodeStore(Path(directory) / "trials")]


def _silent(*_: object) -> None:
    """This draws no progress bar: a bar in the terminal would be measured too."""
