"""Training steps and control steps of the context network, on episodes of random numbers with real lengths.

What an episode holds does not change how long it takes; nothing is learned here and nothing needs a simulator.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wtl.app.config import PhaseConfig
from wtl.bench.results import Measurement
from wtl.core.episode import Context, Episode, Role, Trajectory
from wtl.core.task import FamilySpec, Task
from wtl.data.meta_batches import MetaBatches
from wtl.methods.imitation.retrial import RetrialPolicy
from wtl.stages.train import Training

DEMONSTRATION_STEPS, TRIAL_STEPS = 60, 150
"""About as long as those of hidden-goal reach."""


def random_episodes(spec: FamilySpec, tasks: int) -> list[Episode]:
    """A demonstration and a trial of each task."""
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


def make_batches(phase: PhaseConfig, spec: FamilySpec, episodes: Sequence[Episode]) -> MetaBatches:
    """The meta-batches of a first round of the retrial policy."""
    return MetaBatches(
        phase.train.batch,
        [e for e in episodes if e.role == "demonstration"],
        [e for e in episodes if e.role == "trial"],
        layout=spec.layout,
        reward_scale=spec.reward_scale,
        regime="family",
        seed=0,
        trials_in_context=(1, 1),
    )


def measure_training(phase: PhaseConfig, spec: FamilySpec, tasks: int, steps: int) -> list[Measurement]:
    """Steps per second of the whole loop, and what one step is made of; `steps` of each are measured."""
    batches = make_batches(phase, spec, random_episodes(spec, tasks))
    learner = RetrialPolicy(phase.policy, spec, phase.train.batch.frames)
    learner.fit_features(batches.some_observations())
    with tempfile.TemporaryDirectory() as folder:
        training = Training(learner, replace(phase.train, steps=steps), Path(folder), Path(folder) / "events", 0)
        batch = batches(0)

        def forward_and_backward() -> None:
            learner.network.zero_grad(set_to_none=True)
            learner.loss(batch.to(training.device)).total.backward()

        parts = alternating(
            {
                "batch": lambda: batches(1),
                "forward": lambda: learner.loss(batch.to(training.device)),
                "forward and backward": forward_and_backward,
                "whole step without its batch": lambda: training.train_step(batch),
            },
            steps,
        )
    seconds = loop_seconds(phase, spec, batches, steps)
    forward, both = parts["forward"], parts["forward and backward"]
    whole = parts["whole step without its batch"]
    split = {
        "making a batch (in a thread beside)": parts["batch"],
        "forward": forward,
        "backward": both - forward,
        "clipping, optimiser and the rest": whole - both,
        "step without its batch": whole,
        "step in the loop": seconds,
    }
    return [
        Measurement("training", "steps in the loop", 1 / seconds, "steps/s"),
        *(Measurement("training", name, 1000 * value, "ms") for name, value in split.items()),
    ]


def loop_seconds(phase: PhaseConfig, spec: FamilySpec, batches: MetaBatches, steps: int) -> float:
    """Median seconds of a step of `Training.fit`, the first tenth and the last step (a checkpoint) not counted."""
    learner = RetrialPolicy(phase.policy, spec, phase.train.batch.frames)
    learner.fit_features(batches.some_observations())
    moments: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        training = Training(learner, replace(phase.train, steps=steps), Path(folder), Path(folder) / "events", 0)
        training.fit(batches, None, lambda *_: moments.append(time.perf_counter()))
    return float(np.median(np.diff(moments[steps // 10 : -1])))


def alternating(functions: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(times + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn >= 2:  # warm
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def measure_acting(phase: PhaseConfig, spec: FamilySpec, environments: Sequence[int], steps: int) -> list[Measurement]:
    """Milliseconds of one control step of so many environments, and of the first, which reads their contexts."""
    demonstration, trial = (e.trajectory for e in random_episodes(spec, 1))
    policy = RetrialPolicy(phase.policy, spec, phase.train.batch.frames)
    found = []
    for count in environments:
        contexts, seeds = [Context(demonstration, (trial,))] * count, list(range(count))
        actor = policy.actor(contexts, seeds)
        observations, rows = np.tile(trial.observations[0], (count, 1)), np.arange(count)
        seconds = alternating(
            {
                "control step": lambda actor=actor, o=observations, r=rows: actor.act(o, r),  # type: ignore[misc]
                "first step, contexts read": lambda c=contexts, s=seeds, o=observations, r=rows: (  # type: ignore[misc]
                    policy.actor(c, s).act(o, r)
                ),
            },
            steps,
        )
        found += [Measurement("acting", f"{name}, {count} environments", 1000 * s, "ms") for name, s in seconds.items()]
    return found
