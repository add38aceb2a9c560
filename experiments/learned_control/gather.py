"""Training data: episodes of experts and of the policy itself, every state labelled with the expert's action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from learned.world import DATA, POOL, Entry, cached, demos_of
from wtl.episode import Episode
from wtl.rollout import Demonstrator, Ending, Noise, roll_out
from wtl.seeding import seed_for, stream

from tasks.metaworld import MetaWorldFamily


@dataclass
class Labelled:
    """One episode: where it went and what the expert would have done there."""

    family: str
    observations: np.ndarray
    """(T, 18) float32, the first one the start."""
    labels: np.ndarray
    """(T, 4) float32."""
    goal: np.ndarray
    task: str


def labelled(episode: Episode) -> Labelled:
    """An episode cut to what training needs."""
    t = episode.trajectory
    return Labelled(episode.task.family, np.asarray(t.observations[:-1]), np.asarray(episode.expert_actions),
                    np.asarray(episode.goal, np.float64), episode.task.name)  # fmt: skip


def noisy_expert(name: str, count: int, seed: int, scales: Sequence[float] = (0.6, 1.2)) -> list[Labelled]:
    """Experts under noise of several scales, one episode a task and scale."""
    family, tasks = MetaWorldFamily(name), [d.task for d in demos_of(name, count, seed)]
    made = []
    for scale in scales:
        seeds = [seed_for(seed, "noisy", scale, t.name) for t in tasks]
        episodes = roll_out(
            family, POOL.take(family, len(tasks)), tasks, seeds, Demonstrator(Noise(scale), varied=False),
            ending=Ending(200, 5), keep_states=False,
        )  # fmt: skip
        made += [labelled(e) for e in episodes]
    return made


def expert_data(name: str, count: int, seed: int) -> list[Labelled]:
    """Cached: clean demonstrations and noisy ones of a family."""
    clean = [Labelled(name, d.observations[:-1], d.actions, d.goal, d.task.name) for d in demos_of(name, count, seed)]
    return clean + list(cached(DATA / f"noisy-{name}-{count}-{seed}.pkl", lambda: noisy_expert(name, count, seed)))


def training_entries(name: str, count: int, seed: int, round_number: int, of: int = 40) -> list[Entry]:
    """Tasks of the training set, each beside a random demonstration of another goal."""
    demos = demos_of(name, of, seed)
    generator = stream(seed, "training entries", name, round_number)
    entries = []
    for i in generator.permutation(len(demos))[:count].tolist():
        j = int(generator.integers(len(demos) - 1))
        shown = demos[j + (j >= i)]
        entries.append(Entry(demos[i].task, shown, demos[i].goal - shown.goal,
                             seed_for(seed, "roll-in", round_number, demos[i].task.name)))  # fmt: skip
    return entries


if __name__ == "__main__":
    import sys
    import time

    from tasks.splits import ML45_TRAIN

    began = time.time()
    for name in ML45_TRAIN:
        data = expert_data(name, int(sys.argv[1]), int(sys.argv[2]))
        print(name, len(data), sum(len(d.labels) for d in data), f"{time.time() - began:.0f} s", flush=True)
