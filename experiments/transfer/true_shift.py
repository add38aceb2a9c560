"""What a demonstration of another goal lacks: one vector. Follow it with that vector given, and without.

    python experiments/following/true_shift.py RUN_DIRECTORY SPLIT TASKS_PER_FAMILY

The run needs its demonstrations only (`wtl collect-demos`). `same`: a demonstration of the identical task (which no
policy is ever shown). `nothing`, `start`: of another goal, its end not shifted, or along with the start of the object.
`true`: shifted by the difference of the goals. One guess an episode, nothing learned.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from wtl.analysis.statistics import wilson_interval
from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.compute.executor import LocalExecutor
from wtl.core.rng import seed_for
from wtl.core.task import TaskFamily
from wtl.data.store import EpisodeStore
from wtl.methods.transfer.controller import Astray, FollowerConfig
from wtl.play.attempts import ExplorationConfig, Session, first_contexts, play_attempt
from wtl.play.rollout import Ending

WAYS = ("same", "nothing", "start", "true")


@dataclass(frozen=True)
class Unit:
    """Sessions of one family and the shifts that they are told."""

    family: TaskFamily
    sessions: tuple[Session, ...]
    shifts: tuple[np.ndarray, ...]


def play(unit: Unit) -> list[bool]:
    """Whether each succeeded."""
    improver = Astray(FollowerConfig(rest_steps=500), unit.family.spec.layout, unit.shifts)
    episodes = play_attempt(
        unit.family, unit.sessions, first_contexts(unit.sessions), improver, 0,
        ending=Ending(500), exploration=ExplorationConfig(0.0), ask_expert=False, keep_states=False,
    )  # fmt: skip
    return [episode.trajectory.success for episode in episodes]


def units(plan: Plan, split: str, count: int, way: str) -> list[Unit]:
    """One a family."""
    store, shelf = EpisodeStore(plan.demos.directory), plan.shelf
    own = {record.task.name: number for number, record in enumerate(store.records)}
    made = []
    for name, family in plan.distribution.families.items():
        tasks = [t for t in plan.distribution.split(split) if t.family == name and t.name in own][:count]  # type: ignore[arg-type]
        sessions, shifts = [], []
        for task in tasks if not name.startswith("procedural-") else []:
            truth = store.episode(own[task.name])
            shown = truth if way == "same" else shelf.choose(task, 1, seed_for(7, task.name))[0]
            assert shown is not None
            seen = family.spec.layout.positions(truth.trajectory.observations[0] - shown.trajectory.observations[0])
            shift = {"start": seen[1], "true": truth.goal - shown.goal}.get(way, np.zeros(len(shown.goal)))
            sessions.append(Session(task, shown.trajectory, shown.task.name, seed_for(7, task.name)))
            shifts.append(np.asarray(shift, np.float64)[None])
        if sessions:
            made.append(Unit(family, tuple(sessions), tuple(shifts)))
    return made


def main() -> None:
    """Print success by family and way."""
    run, split, count = sys.argv[1:4]
    plan, executor = Plan(load_config(run, [])), LocalExecutor(2)
    found: dict[str, dict[str, list[bool]]] = {}
    for way in WAYS:
        made = units(plan, split, int(count), way)
        for number, successes in executor.map(play, made):
            found.setdefault(made[number].family.spec.name, {})[way] = successes
    executor.close()
    print(f"{'family':30s}" + "".join(f"{way:>9s}" for way in WAYS))
    for name, ways in sorted(found.items()):
        print(f"{name:30s}" + "".join(f"{np.mean(ways[way]):9.2f}" for way in WAYS))
    for way in WAYS:
        every = [success for ways in found.values() for success in ways[way]]
        interval = wilson_interval(sum(every), len(every))
        print(f"{way}: {np.mean(every):.3f} [{interval.low:.3f}, {interval.high:.3f}], n = {len(every)}")


if __name__ == "__main__":
    main()
