"""Worlds for the learned controller: tasks, demonstrations, labelled roll-outs and success tables.

Everything here is told the true goal offset ("told the truth"), so that control is measured alone. Stepping uses
the package's accelerated Meta-World without rewards, which nothing here reads.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tasks.metaworld_fast import accelerate
from wtl.episode import Episode
from wtl.rollout import Demonstrator, Ending, EnvironmentPool, Noise, roll_out
from wtl.seeding import seed_for, stream
from wtl.task import Task

from tasks.metaworld import LAYOUT, MetaWorldEnvironment, MetaWorldFamily, official_rand_vecs

FOLD_A = (
    "pick-out-of-hole-v3", "shelf-place-v3", "assembly-v3", "coffee-push-v3", "soccer-v3", "drawer-open-v3",
    "window-close-v3", "handle-pull-v3",
)  # fmt: skip
FOLD_B = (
    "peg-insert-side-v3", "basketball-v3", "disassemble-v3", "stick-pull-v3", "pick-place-wall-v3", "lever-pull-v3",
    "door-open-v3", "faucet-close-v3",
)  # fmt: skip
"""Families held out of training, in turns: what is hard in grasping, placing and inserting, and articulated ones."""


def _quick(family: MetaWorldFamily) -> MetaWorldEnvironment:
    environment = MetaWorldEnvironment(family.name, "v2", False, False)
    environment.sawyer = accelerate(environment.sawyer, rewards=False)
    return environment


POOL = EnvironmentPool(_quick)  # type: ignore[arg-type]


def tasks_of(name: str, count: int, seed: int, split: str = "train") -> list[Task]:
    """`count` tasks of a family: the first 50 are those of the benchmark with this seed, the rest fresh draws."""
    family = MetaWorldFamily(name)
    return list(family.tasks_from(official_rand_vecs([name], seed)[name], count, seed, split))  # type: ignore[arg-type]


@dataclass
class Demo:
    """A successful clean episode of the expert."""

    family: str
    task: Task
    goal: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    trajectory: object


def demonstrate(name: str, tasks: Sequence[Task], seed: int = 0, noise: float = 0.0) -> dict[str, Demo]:
    """Clean successful demonstrations by task name; what the expert fails is left out."""
    family = MetaWorldFamily(name)
    seeds = [seed_for(seed, "demo", t.name) for t in tasks]
    episodes = roll_out(
        family, POOL.take(family, len(tasks)), tasks, seeds, Demonstrator(Noise(noise)), ending=Ending(500, 5),
        role="demonstration", keep_states=False,
    )  # fmt: skip
    return {
        e.task.name: Demo(name, e.task, np.asarray(e.goal, np.float64), e.trajectory.observations, e.trajectory.actions,
                          e.trajectory)
        for e in episodes
        if e.trajectory.success
    }  # fmt: skip


def cached(path: Path, make: Callable[[], object]) -> object:
    """The pickled value at a path, made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        value = make()
        path.write_bytes(pickle.dumps(value))
    return pickle.loads(path.read_bytes())


DATA = Path("runs/learned_control_data")


def demos_of(name: str, count: int, seed: int) -> list[Demo]:
    """Cached demonstrations of `count` tasks drawn with a benchmark seed."""
    return list(cached(DATA / f"demos-{name}-{count}-{seed}.pkl",
                       lambda: demonstrate(name, tasks_of(name, count, seed), seed)).values())  # fmt: skip


@dataclass
class Entry:
    """One line of an evaluation: a task, what is shown, and the truth that is told."""

    task: Task
    shown: Demo
    offset: np.ndarray
    """Goal of the task minus goal of what is shown."""
    seed: int


def goal_of(name: str, tasks: Sequence[Task]) -> list[np.ndarray]:
    """True goals of tasks."""
    family = MetaWorldFamily(name)
    environment = POOL.take(family, 1)[0]
    goals = []
    for task in tasks:
        environment.reset(options={"task": task})
        goals.append(np.array(environment.sawyer._target_pos, dtype=np.float64))  # type: ignore[attr-defined]
    return goals


def entries_of(name: str, count: int, seed: int) -> list[Entry]:
    """An evaluation of a family: tasks the expert solves, each beside a demonstration of another goal."""
    demos = demos_of(name, max(2 * count, 30), seed)
    generator = stream(seed, "entries", name)
    entries = []
    for demo in demos[:count]:
        others = [d for d in demos if d.task.parameters != demo.task.parameters]
        shown = others[int(generator.integers(len(others)))]
        entries.append(Entry(demo.task, shown, demo.goal - shown.goal, seed_for(seed, "entry", demo.task.name)))
    return entries


class NoisySight:
    """An actor that sees positions of objects (and its hand) off by fresh noise at each step."""

    def __init__(self, actor: object, scale: float, seeds: Sequence[int]) -> None:
        self._actor, self._scale = actor, scale
        self._generators = [stream(s, "sight") for s in seeds]

    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Pass on what is seen."""
        seen = np.array(observations, np.float64)
        for i, row in enumerate(rows.tolist()):
            noise = self._scale * self._generators[row].standard_normal(6)
            seen[i, 4:7] += noise[:3]
            if seen[i, 11:14].any():
                seen[i, 11:14] += noise[3:]
        return self._actor.act(seen, rows)  # type: ignore[attr-defined]


MakeActor = Callable[[Sequence[Entry], Sequence[int]], object]


def play(
    name: str, entries: Sequence[Entry], make: MakeActor | Demonstrator, *, noise: float = 0.0, sight: float = 0.0,
    ask: bool = False, horizon: int = 500, after: int | None = 0,
) -> list[Episode]:  # fmt: skip
    """One episode of each entry."""
    family = MetaWorldFamily(name)
    seeds = [e.seed for e in entries]
    actor = make if isinstance(make, Demonstrator) else make(entries, seeds)
    if sight:
        actor = NoisySight(actor, sight, seeds)
    return roll_out(
        family, POOL.take(family, len(entries)), [e.task for e in entries], seeds, actor,  # type: ignore[arg-type]
        ending=Ending(horizon, after), noise=Noise(noise), ask_expert=ask, keep_states=False,
    )  # fmt: skip


def table(
    families: Sequence[str], count: int, make: MakeActor | Demonstrator, seed: int = 101, *, noise: float = 0.0,
    sight: float = 0.0, quiet: bool = False, horizon: int = 500,
) -> dict[str, float]:  # fmt: skip
    """Success by family, told the truth."""
    result, began = {}, time.time()
    steps = 0
    for name in families:
        episodes = play(name, entries_of(name, count, seed), make, noise=noise, sight=sight, horizon=horizon)
        result[name] = float(np.mean([e.trajectory.success for e in episodes]))
        steps += sum(len(e.trajectory) for e in episodes)
    if not quiet:
        print("  ".join(f"{n.removesuffix('-v3')} {v:.2f}" for n, v in result.items()))
        print(f"mean {np.mean(list(result.values())):.3f} ({steps} steps, {time.time() - began:.0f} s)", flush=True)
    return result


def follower(entries: Sequence[Entry], seeds: Sequence[int]) -> object:
    """The hand-made follower, told the truth, one walk."""
    from wtl.follow import Follower, FollowerConfig

    shifts = np.stack([e.offset[None] for e in entries])
    guides = [e.shown.trajectory for e in entries]
    return Follower(FollowerConfig(rest_steps=500), LAYOUT, guides, lambda rows, _: shifts[rows], seeds)  # type: ignore[arg-type]
