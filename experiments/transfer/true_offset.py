"""What a demonstration of another goal lacks: one vector. Track it told the true goal offset, and without.

    python experiments/transfer/true_offset.py RUN_DIRECTORY SPLIT TASKS_PER_FAMILY

The run needs its demonstrations only (`wtl stage ml45 demonstrations`). `same`: a demonstration of the identical task
(which no policy is ever shown). `nothing`, `start`: of another goal, its end not offset, or along with the start of
the object. `true`: told the true goal offset, the difference of the goals. One hypothesis an episode, nothing learned.
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
from wtl.core.task import Split, TaskFamily
from wtl.data.demonstrations import DemonstrationStore, first_context
from wtl.methods.transfer.controller import ControllerConfig, TransferPolicy
from wtl.play.attempts import play_attempt
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings

WAYS = ("same", "nothing", "start", "true")
CONTROLLER = ControllerConfig(rest_steps=500)
SETTINGS = RolloutSettings(500)


@dataclass(frozen=True)
class ToldTransfer:
    """A `Player` that tracks the demonstration of each session with the goal offset that it is told."""

    offsets_RHD: np.ndarray
    source: str = "told transfer"

    def policy(self, attempt: Attempt) -> TransferPolicy:
        """See `Player.policy`."""
        references = [context.demonstrations[0] for context in attempt.contexts]
        layout = attempt.family.spec.layout
        return TransferPolicy(CONTROLLER, layout, references, lambda rows, _: self.offsets_RHD[rows], attempt.seeds)


@dataclass(frozen=True)
class Unit:
    """Sessions of one family and the goal offsets that they are told."""

    family: TaskFamily
    sessions: tuple[Session, ...]
    offsets_RHD: np.ndarray


def play(unit: Unit) -> list[bool]:
    """Return whether each succeeded."""
    contexts = [session.context for session in unit.sessions]
    player = ToldTransfer(unit.offsets_RHD)
    episodes = play_attempt(unit.family, unit.sessions, contexts, player, 0, SETTINGS)
    return [episode.trajectory.success for episode in episodes]


def units(plan: Plan, split: Split, count: int, way: str) -> list[Unit]:
    """Return one unit a family."""
    store = DemonstrationStore(plan.demonstrations.directory, "family")
    own = {record.task.name: number for number, record in enumerate(store.episodes.records)}
    made = []
    for name, family in plan.distribution.families.items():
        if name.startswith("procedural-"):
            continue
        tasks = [t for t in plan.distribution.split(split) if t.family == name and t.name in own][:count]
        sessions, offsets = [], []
        for task in tasks:
            seed = seed_for(7, task.name)
            truth = store.episodes.episode(own[task.name])
            shown = truth if way == "same" else store.choose(task, 1, seed)[0]
            seen = family.spec.layout.positions(truth.trajectory.observations[0] - shown.trajectory.observations[0])
            told = {"start": seen[1], "true": truth.goal - shown.goal}.get(way, np.zeros(len(shown.goal)))
            sessions.append(Session(task, first_context([shown]), (shown,), seed))
            offsets.append(np.asarray(told, np.float64)[None])
        if sessions:
            made.append(Unit(family, tuple(sessions), np.stack(offsets)))
    return made


def main() -> None:
    """Print success by family and way."""
    run, split, count = sys.argv[1:4]
    if split not in ("train", "validation", "test"):
        sys.exit(f"expected train, validation or test, got {split}")
    plan, executor = Plan(load_config(run, [f"directory={run}"])), LocalExecutor(2)
    found: dict[str, dict[str, list[bool]]] = {}
    for way in WAYS:
        made = units(plan, split, int(count), way)  # type: ignore[arg-type]
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
