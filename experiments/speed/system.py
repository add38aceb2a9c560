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

from tasks import make_distribution
from wtl.app.config import PhaseConfig, RunConfig, load_config
from wtl.compute.executor import Executor
from wtl.core.episode import Context, Episode, Role, Trajectory
from wtl.core.task import FamilySpec, Task, TaskDistribution
from wtl.data.meta_batches import MetaBatches
from wtl.data.store import EpisodeStore
from wtl.methods.imitation.retrial import RetrialPolicy
from wtl.methods.imitation.trial import TrialPolicy
from wtl.methods.transfer.controller import FollowerConfig
from wtl.play.attempts import ExplorationConfig
from wtl.stages.demonstrations import DemonstrationsConfig, collect_demonstrations
from wtl.stages.train import Training
from wtl.stages.trials import Operator, TrialsConfig, collect_trials

DEMONSTRATION_STEPS, TRIAL_STEPS = 60, 150
"""About as long as those of hidden-goal reach."""
METHODS = ("imitation", "transfer")
"""What is measured at collecting: policies that imitate, whose steps are labelled, and trajectory transfer."""


def quick_config(family: str) -> RunConfig:
    """The result is the preset `quick` for one Meta-World family."""
    return load_config("quick", [f"tasks.family={family}"])


def first_round(config: RunConfig) -> PhaseConfig:
    """The result is the network and the training of the retrial policy before it has met its own attempts."""
    return PhaseConfig(config.retrial.policy, config.retrial.train)


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
        return Episode(trajectory, task, role, 0, 0, "random numbers", goal, labels, np.zeros((steps + 1, 0)))

    made: list[Episode] = []
    for number in range(tasks):
        name = f"{spec.name}/train/{number}"
        task = Task(spec.name, "train", name, (float(number),), name)
        length = int(generator.integers(DEMONSTRATION_STEPS // 2, 2 * DEMONSTRATION_STEPS))
        made += [episode(task, "demonstration", length), episode(task, "trial", TRIAL_STEPS)]
    return made


@contextmanager
def training_parts(phase: PhaseConfig, spec: FamilySpec, tasks: int, steps: int) -> Iterator[dict[str, Callable]]:
    """The parts of a training step can be called one by one; `fit` runs the whole loop with a callback."""
    episodes = random_episodes(spec, tasks)
    batches = MetaBatches(
        phase.train.batch,
        [e for e in episodes if e.role == "demonstration"],
        [e for e in episodes if e.role == "trial"],
        layout=spec.layout,
        reward_scale=spec.reward_scale,
        regime="family",
        seed=0,
        trials_in_context=(1, 1),
    )

    with tempfile.TemporaryDirectory() as folder:

        def fresh(name: str) -> tuple[RetrialPolicy, Training]:
            learner = RetrialPolicy(phase.policy, spec, phase.train.batch.frames)
            learner.fit_features(batches.some_observations())
            root = Path(folder) / name
            return learner, Training(learner, replace(phase.train, steps=steps), root, root / "events", 0)

        learner, training = fresh("parts")
        batch = batches(0)

        def forward_and_backward() -> None:
            learner.network.zero_grad(set_to_none=True)
            learner.loss(batch.to(training.device)).total.backward()

        yield {
            "batch": lambda: batches(1),
            "forward": lambda: learner.loss(batch.to(training.device)),
            "forward and backward": forward_and_backward,
            "whole step without its batch": lambda: training.train_step(batch),
            "fit": lambda callback: fresh("loop")[1].fit(batches, None, callback),
        }


def acting_parts(phase: PhaseConfig, spec: FamilySpec, environments: int) -> dict[str, Callable[[], object]]:
    """The result holds one control step of so many environments, and a first step, which reads their contexts."""
    demonstration, trial = (e.trajectory for e in random_episodes(spec, 1))
    policy = RetrialPolicy(phase.policy, spec, phase.train.batch.frames)
    contexts, seeds = [Context(demonstration, (trial,))] * environments, list(range(environments))
    actor = policy.actor(contexts, seeds)
    observations, rows = np.tile(trial.observations[0], (environments, 1)), np.arange(environments)
    return {
        "control step": lambda: actor.act(observations, rows),
        "first step, contexts read": lambda: policy.actor(contexts, seeds).act(observations, rows),
    }


class Collector:
    """A collector has demonstrations and an untrained trial policy of one family, and plays trials with them."""

    def __init__(self, distribution: TaskDistribution, phase: PhaseConfig, executor: Executor, folder: Path) -> None:
        torch.manual_seed(0)
        [self._family] = distribution.families.values()
        self._distribution, self._executor, self._folder = distribution, executor, folder
        few = self._tasks(distribution.train[:4])
        collect_demonstrations(few, DemonstrationsConfig(), "family", 0, folder / "demos", executor, _silent)
        self._demos = EpisodeStore(folder / "demos")
        policy = TrialPolicy(phase.policy, self._family.spec, phase.train.batch.frames)
        policy.fit_features(torch.from_numpy(np.concatenate([e.trajectory.observations for e in self._demos])))
        policy.save(folder / "trial")

    def _tasks(self, tasks: Sequence[Task]) -> TaskDistribution:
        return TaskDistribution(self._distribution.families, tuple(tasks), (), ())

    def collect(self, method: str, tasks: Sequence[Task], horizon_steps: int, unit_episodes: int) -> tuple[float, list]:
        """The result is the seconds of wall time that the stage takes, and the episodes that it made."""
        labelled = method == "imitation"
        config = TrialsConfig(
            horizons_steps=(horizon_steps,), after_success_steps=None, unit_episodes=unit_episodes, attempts=0,
        )  # fmt: skip
        player = Operator(self._folder / "trial") if labelled else FollowerConfig()
        with tempfile.TemporaryDirectory(dir=self._folder) as directory:
            start = time.perf_counter()
            collect_trials(
                self._tasks(tasks), config, ExplorationConfig(), "family", self._demos, player, 0, 0,
                Path(directory) / "trials", self._executor, _silent, labelled=labelled,
            )  # fmt: skip
            seconds = time.perf_counter() - start
            return seconds, [(e.task, np.array(e.trajectory.actions)) for e in EpisodeStore(Path(directory) / "trials")]


def _silent(*_: int) -> None:
    """This draws no progress bar: a bar in the terminal would be measured too."""
