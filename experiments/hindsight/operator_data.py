"""Trials relabelled with other goals as data for the improvement operator, at equal simulation.

operator_data.py RUN OUT TASKS ARM...: the scorer of `learned_transfer` is trained on the first trials of so many of
RUN's training tasks and saved, with RUN's controller, as the checkpoint OUT/ARM/checkpoint. Arms: `played` reads the
trials as they were played; `relabelled` reads each also under the goals of other tasks of its family, with the rewards
that it would have earned there; `mismatched` (a control) under the same goals, but with the rewards of its own.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.core.episode import Episode
from wtl.core.relabelling import relabelled
from wtl.core.rng import seed_for, stream
from wtl.core.task import TaskDistribution
from wtl.data.meta_batches import MetaBatches
from wtl.data.store import EpisodeStore
from wtl.methods.checkpoint import load_networks, read_checkpoint, save_checkpoint
from wtl.stages.training import Training

GOALS = 4
STEPS = 3000


def trials_of(stores: Iterable[Path], tasks: int) -> tuple[list[Episode], list[Episode]]:
    """Return the demonstrations, and the trials of so many training tasks, drawn evenly over the families."""
    episodes = [episode for store in stores for episode in EpisodeStore(store)]
    names = sorted({e.task.name for e in episodes if e.role == "trial" and e.task.split == "train"})
    random.Random(0).shuffle(names)
    kept = set(names[:tasks])
    trials = [e for e in episodes if e.role == "trial" and (e.task.name in kept or e.task.split == "validation")]
    return [e for e in episodes if e.role == "demonstration"], trials


def with_other_goals(distribution: TaskDistribution, trials: list[Episode], rewarded: bool) -> list[Episode]:
    """Return the trials, and those of hidden-goal families again under goals of other tasks of their family."""
    goals: dict[str, dict[str, np.ndarray]] = {}
    for trial in trials:
        if trial.task.split == "train":
            goals.setdefault(trial.task.family, {})[trial.task.name] = trial.goal
    found = list(trials)
    for trial in trials:
        family = distribution.families[trial.task.family]
        if trial.task.split != "train" or not family.spec.hidden_goal:
            continue
        others = np.stack([goal for name, goal in sorted(goals[trial.task.family].items()) if name != trial.task.name])
        # All trials of a task get the same goals, so that a context can hold several of them.
        drawn = stream(seed_for(0, trial.task.name), "other goals").permutation(len(others))[:GOALS]
        for made in relabelled(family, trial, others[drawn], after_success_steps=5):
            if not rewarded:
                steps, own = len(made.trajectory), trial.trajectory
                path = dataclasses.replace(
                    made.trajectory, rewards=own.rewards[:steps], successes=own.successes[:steps]
                )
                made = dataclasses.replace(made, trajectory=path)
            found.append(made)
    return found


def main() -> None:
    """See the module."""
    run, out, tasks, *arms = sys.argv[1:]
    torch.set_num_threads(1)
    plan = Plan(load_config(run, []))
    method, distribution, seed = plan.main, plan.distribution, plan.config.seed
    phase = next(phase for phase in method.phases if phase.name == "scorer-0")
    checkpoint = read_checkpoint(plan.training(method, method.before(phase)[-1]).directory / "checkpoint", method.spec)
    demonstrations, trials = trials_of([stage.directory for stage in plan.stores(method, phase)], int(tasks))
    for arm in arms:
        read = trials if arm == "played" else with_other_goals(distribution, trials, arm == "relabelled")
        print(arm, len(trials), "trials played,", len(read), "read", flush=True)
        networks = load_networks(checkpoint, method.spec)
        torch.manual_seed(seed_for(seed, "operator data"))
        assert method.spec.network is not None and method.spec.learner is not None
        networks[phase.part] = method.spec.network(method.config, distribution.spec, phase.part)
        learner = method.spec.learner(method.config, distribution.spec, phase.part, networks[phase.part])
        batches, validation = (
            MetaBatches(
                phase.train.batch, phase.needs, [e for e in demonstrations + read if e.task.split == split],
                distribution.spec, regime="family", seed=seed_for(seed, split), weights=distribution.weights,
            )
            for split in ("train", "validation")
        )  # fmt: skip
        train = dataclasses.replace(phase.train, steps=STEPS)
        directory = Path(out) / arm
        training = Training(learner, train, directory, directory / "tensorboard", seed_for(seed, "training"))
        if not training.resume():
            learner.fit_features(batches.some_observations())
        training.fit(batches, validation, report)
        save_checkpoint(directory / "checkpoint", method.spec, method.config, distribution.spec, networks)


def report(done: int, total: int, note: str) -> None:
    """Say how far the training is."""
    if done % 250 == 0 or done == total:
        print(f"{done} of {total} steps {note}", flush=True)


if __name__ == "__main__":
    main()
