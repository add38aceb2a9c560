"""Control alone, told the true goal, against the number of training families: success on families held out of training.

scaling.py RUN OUT.csv COUNT...: for each COUNT the controller is trained by imitation alone (the settings of
`control-0`) on the demonstrations and noisy expert episodes of so many of RUN's training families, nested and drawn at
random, and evaluated on RUN's test families with tasks of another benchmark seed. Fewer families
are fewer episodes, too.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import random
import sys
from pathlib import Path

import numpy as np
import torch

from wtl.analysis.statistics import wilson_interval
from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.core.episode import Context
from wtl.core.rng import seed_for
from wtl.data.demonstrations import DemonstrationSampler
from wtl.data.meta_batches import MetaBatches
from wtl.data.store import EpisodeStore
from wtl.methods.transfer.baselines import ToldGoal
from wtl.methods.transfer.controller import ControllerConfig, TransferPolicy
from wtl.methods.transfer.copier import Copier
from wtl.methods.transfer.copying import CopierLearner, CopyingPolicy
from wtl.methods.transfer.tracking import Tracking
from wtl.play.attempts import play_attempt
from wtl.play.policy import Session
from wtl.play.rollout import RolloutSettings
from wtl.stages.demonstrations import DemonstrationsConfig, demonstrate
from wtl.tasks.metaworld.family import MetaWorldFamily
from wtl.tasks.metaworld.sampling import official_rand_vecs

BENCHMARK_SEED, TASKS = 101, 20


def trained(plan: Plan, families: set[str]) -> Copier:
    """Return a controller that imitated the experts of these families."""
    phase, config, spec = plan.main.phases[0], plan.main.config, plan.distribution.spec
    episodes = [e for s in plan.stores(plan.main, phase) for e in EpisodeStore(s.directory)]
    episodes = [e for e in episodes if e.task.family in families and e.task.split == "train"]
    seed = plan.config.seed
    torch.manual_seed(seed_for(seed, "scaling"))
    network = Copier(config.copier, spec)
    learner, train = CopierLearner(network, config.sight_noise_steps), phase.train
    batches = MetaBatches(
        train.batch, phase.needs, episodes, spec, regime="family", seed=seed_for(seed, "scaling", "batches"),
        weights=plan.distribution.weights,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(network.parameters(), train.learning_rate, (0.9, 0.98), weight_decay=1e-4)
    for step in range(train.steps):
        warm = min(1.0, (step + 1) / train.warmup_steps)
        optimiser.param_groups[0]["lr"] = train.learning_rate * warm * 0.5 * (1 + np.cos(np.pi * step / train.steps))
        optimiser.zero_grad()
        learner.loss(batches(step)).total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), train.clip_norm)
        optimiser.step()
    return network


def evaluated(track: Tracking, families: list[str]) -> list[tuple[str, str, bool]]:
    """Return (family, task, success): one walk each, told the true goal, beside a demonstration of another one."""
    rows = []
    for name in families:
        family = MetaWorldFamily(name)
        tasks = family.tasks_from(official_rand_vecs([name], BENCHMARK_SEED)[name], 2 * TASKS, BENCHMARK_SEED, "test")
        shown = demonstrate(family, tasks, DemonstrationsConfig(noise=0.0), 7)
        sampler = DemonstrationSampler([e.task for e in shown], "family")
        sessions = []
        for e in shown[:TASKS]:
            other = shown[sampler.choose(e.task, 1, 5)[0]]
            sessions.append(Session(e.task, Context((other.trajectory,)), (other,), seed_for(3, e.task.name)))
        contexts = [session.context for session in sessions]
        episodes = play_attempt(family, sessions, contexts, ToldGoal(track, "told"), 0, RolloutSettings(500))
        rows += [(name, e.task.name, e.trajectory.success) for e in episodes]
    return rows


def main() -> None:
    """See the module."""
    run, out, *counts = sys.argv[1:]
    torch.set_num_threads(1)
    plan = Plan(load_config(run, []))
    order = list(plan.config.tasks.train)
    random.Random(0).shuffle(order)
    arms: list[tuple[str, Tracking]] = [("follower", functools.partial(TransferPolicy, ControllerConfig(tries=1)))]
    settings = dataclasses.replace(plan.main.config.copying, tries=1)
    with Path(out).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["arm", "family", "task", "success"])
        for arm in ("follower", *counts):
            if arm != "follower":
                network = trained(plan, set(order[: int(arm)]))
                arms.append((arm, functools.partial(CopyingPolicy, settings, network)))
            rows = evaluated(arms[-1][1], list(plan.config.tasks.test))
            table.writerows((arm, family, task, int(success)) for family, task, success in rows)
            file.flush()
            won = sum(success for *_, success in rows)
            print(arm, f"{won / len(rows):.3f}", wilson_interval(won, len(rows)), flush=True)


if __name__ == "__main__":
    main()
