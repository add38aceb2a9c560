"""Evaluate an operator, its controls and the baselines on one fixed, saved list of entries.

An entry is a task, a demonstration of another task and a seed; every method plays the same entries and
each is counted once. Controls act at one attempt on contexts made from the method's own trials, so
they differ from it in nothing but what they take away. Units are resumable. Free of torch at import.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from wtl.analysis.results import EpisodeResult, read_results, write_results
from wtl.compute.executor import Executor
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.files import write_atomically
from wtl.core.rng import seed_for
from wtl.core.task import Regime, Split, TaskDistribution, TaskFamily
from wtl.play.attempts import ExplorationConfig, Session, extended, first_contexts, play_attempt, worker_pool
from wtl.play.rollout import Demonstrator, Ending, Improver, roll_out
from wtl.stages.demonstrations import DemonstrationShelf, Progress
from wtl.stages.trials import Operator

CONTROLS = (
    "blind_retry", "shuffled_trial", "masked_reward", "second_demonstration", "no_demonstration", "wrong_family",
)  # fmt: skip
BASELINES = ("cloning", "mil", "nearest_neighbour", "expert")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is played."""

    split: Split = "test"
    attempts: int = 2
    """K: attempts 0 .. K are played."""
    entries_per_task: int = 2
    """Each with another demonstration and another seed."""
    horizon_steps: int = 500
    after_success_steps: int | None = 5
    """An episode ends that many steps after its first success, which decides it; `return` sums up to there.
    null plays the whole horizon; then not even the length of a trial tells how it ended."""
    controls: tuple[str, ...] = CONTROLS[:5]
    control_attempt: int = 1
    baselines: tuple[str, ...] = BASELINES
    unit_entries: int = 25

    def __post_init__(self) -> None:
        for kind, given, known in (("controls", self.controls, CONTROLS), ("baselines", self.baselines, BASELINES)):
            unknown = [name for name in given if name not in known]
            if unknown:
                raise ValueError(f"evaluation.{kind}: unknown {unknown[0]!r}, known are {', '.join(known)}")
        if self.controls and not 1 <= self.control_attempt <= self.attempts:
            raise ValueError(
                f"evaluation.control_attempt must lie in 1 .. evaluation.attempts ({self.attempts}), "
                f"got {self.control_attempt}"
            )


@dataclass(frozen=True)
class EntryList:
    """The sessions of an evaluation with what its controls show instead."""

    sessions: tuple[Session, ...]
    second: tuple[Trajectory | None, ...]
    """Another demonstration for each entry."""
    wrong: tuple[Trajectory | None, ...]
    """A demonstration of another family, where there is one."""


def make_entries(
    distribution: TaskDistribution, shelf: DemonstrationShelf, config: EvaluationConfig, seed: int
) -> EntryList:
    """The fixed list of entries for a seed; it does not depend on any method."""
    tasks = distribution.split(config.split)
    sessions, second, wrong = [], [], []
    for number, task in enumerate(tasks):
        shown = shelf.choose(task, config.entries_per_task + 1, seed)
        other = next((t for t in (*tasks[number:], *tasks) if t.family != task.family), None)
        stranger = shelf.choose(other, 1, seed)[0] if other else None
        for copy in range(config.entries_per_task):
            episode, spare = shown[copy % len(shown)], shown[(copy + 1) % len(shown)]
            name = episode.task.name if episode else ""
            entry_seed = seed_for(seed, "entry", task.name, copy)
            sessions.append(Session(task, episode.trajectory if episode else None, name, entry_seed))
            second.append(spare.trajectory if spare else None)
            wrong.append(stranger.trajectory if stranger else None)
    return EntryList(tuple(sessions), tuple(second), tuple(wrong))


@dataclass(frozen=True)
class Contestants:
    """Folders of the trained policies; what is None is not evaluated."""

    operator: Operator
    cloning: Path | None = None
    mil: Path | None = None


@dataclass(frozen=True)
class _Unit:
    path: Path
    family: TaskFamily
    entries: EntryList
    contestants: Contestants
    config: EvaluationConfig
    exploration: ExplorationConfig
    regime: Regime
    baselines: tuple[str, ...]
    train_seed: int

    def rows(self, method: str, control: str, attempt: int, episodes: Sequence[Episode]) -> list[EpisodeResult]:
        return [
            EpisodeResult(
                method=method, control=control, regime=self.regime, split=self.config.split,
                family=self.family.spec.name, task=session.task.name, demonstration=session.demonstration_name,
                train_seed=self.train_seed, seed=session.seed, attempt=attempt,
                success=e.trajectory.success, total_reward=float(e.trajectory.rewards.sum(dtype=np.float64)),
                steps=len(e.trajectory),
            )
            for session, e in zip(self.entries.sessions, episodes, strict=True)
        ]  # fmt: skip

    def play(self, contexts: Sequence[Context], improver: Improver, attempt: int, label: str = "") -> list[Episode]:
        ending = Ending(self.config.horizon_steps, self.config.after_success_steps)
        return play_attempt(
            self.family, self.entries.sessions, contexts, improver, attempt,
            ending=ending, exploration=self.exploration, label=label, ask_expert=False, keep_states=False,
        )  # fmt: skip


def control_contexts(name: str, contexts: Sequence[Context], entries: EntryList) -> list[Context]:
    """What a control shows instead of the true contexts (each with k >= 1 trials)."""
    if name == "blind_retry":
        return [Context(c.demonstration) for c in contexts]
    if name == "shuffled_trial":
        return [Context(c.demonstration, contexts[i].trials) for c, i in zip(contexts, _others(entries), strict=True)]
    if name == "masked_reward":
        return [c.with_trials(Trajectory.with_outcome_masked) for c in contexts]
    if name == "second_demonstration":
        return [Context(c.demonstration, (d,)) for c, d in zip(contexts, entries.second, strict=True) if d is not None]
    if name == "no_demonstration":
        return [Context(None, c.trials) for c in contexts]
    if name == "wrong_family":
        return [Context(d, c.trials) for c, d in zip(contexts, entries.wrong, strict=True)]
    raise ValueError(f"unknown control {name!r}, known are {', '.join(CONTROLS)}")


def _others(entries: EntryList) -> list[int]:
    """For each entry an entry of another task, spread evenly."""
    tasks = [session.task.name for session in entries.sessions]
    count = len(tasks)
    chosen = []
    for i in range(count):
        offsets = [(i + count // 2 + d) % count for d in range(count)]
        other = next((j for j in offsets if tasks[j] != tasks[i]), None)
        if other is None:
            raise ValueError("shuffled_trial needs entries of at least two tasks in each family")
        chosen.append(other)
    return chosen


def _possible(name: str, entries: EntryList) -> bool:
    """Whether a control means anything here (no demonstration to exchange in regime `none`)."""
    if name == "second_demonstration":
        return all(d is not None for d in entries.second)
    if name == "no_demonstration":
        return all(session.demonstration is not None for session in entries.sessions)
    if name == "wrong_family":
        return all(d is not None for d in entries.wrong)
    return True


def _play_method(unit: _Unit, improvers: Sequence[Improver]) -> list[EpisodeResult]:
    rows: list[EpisodeResult] = []
    contexts = first_contexts(unit.entries.sessions)
    for attempt, improver in enumerate(improvers):
        if attempt and attempt == unit.config.control_attempt:
            for name in unit.config.controls:
                if _possible(name, unit.entries):
                    changed = control_contexts(name, contexts, unit.entries)
                    # A blind retry is the trial policy once more, with its own exploration and new sampling.
                    blind = name == "blind_retry"
                    played = unit.play(changed, improvers[0] if blind else improver, 0 if blind else attempt, name)
                    rows += unit.rows("wtl", name, attempt, played)
        episodes = unit.play(contexts, improver, attempt)
        rows += unit.rows("wtl", "", attempt, episodes)
        contexts = extended(contexts, episodes)
    return rows


def _play_baseline(unit: _Unit, name: str) -> list[EpisodeResult]:
    from wtl.methods import load_policy
    from wtl.methods.nearest import NearestNeighbour

    contexts = first_contexts(unit.entries.sessions)
    if name == "expert":
        sessions = unit.entries.sessions
        episodes = roll_out(
            unit.family,
            worker_pool().take(unit.family, len(sessions)),
            [session.task for session in sessions],
            [session.seed for session in sessions],
            Demonstrator(),
            ending=Ending(unit.config.horizon_steps, unit.config.after_success_steps),
            keep_states=False,
        )
        return unit.rows("expert", "", 0, episodes)
    if name == "nearest_neighbour":
        improver: Improver = NearestNeighbour(unit.family.spec.layout)
    else:
        folder = {"cloning": unit.contestants.cloning, "mil": unit.contestants.mil}[name]
        assert folder is not None
        improver = load_policy(folder, name)
    # Baselines bring no exploration noise: they are as good as they can be at their first attempt.
    quiet = ExplorationConfig(trial_noise=0.0)
    episodes = play_attempt(
        unit.family, unit.entries.sessions, contexts, improver, 0,
        ending=Ending(unit.config.horizon_steps, unit.config.after_success_steps), exploration=quiet,
        label=name, ask_expert=False, keep_states=False,
    )  # fmt: skip
    return unit.rows(name, "", 0, episodes)


def _play_unit(unit: _Unit) -> int:
    rows = _play_method(unit, unit.contestants.operator.improvers(unit.config.attempts))
    for name in unit.baselines:
        rows += _play_baseline(unit, name)
    write_results(unit.path, rows)
    return len(rows)


def evaluate(
    distribution: TaskDistribution,
    config: EvaluationConfig,
    exploration: ExplorationConfig,
    regime: Regime,
    shelf: DemonstrationShelf,
    contestants: Contestants,
    *,
    baselines: Sequence[str],
    train_seed: int,
    seed: int,
    directory: Path,
    executor: Executor,
    progress: Progress,
) -> tuple[EpisodeResult, ...]:
    """Play every entry, write `entries.json`, `families.json` and `episodes.csv`, and return the rows."""
    entries = make_entries(distribution, shelf, config, seed)
    described = [{"task": s.task.name, "demonstration": s.demonstration_name, "seed": s.seed} for s in entries.sessions]
    write_atomically(directory / "entries.json", json.dumps(described, indent=1).encode())
    hidden = {name: {"hidden_goal": f.spec.hidden_goal} for name, f in sorted(distribution.families.items())}
    write_atomically(directory / "families.json", json.dumps(hidden, indent=1).encode())
    make = partial(
        _Unit, contestants=contestants, config=config, exploration=exploration, regime=regime,
        baselines=tuple(baselines), train_seed=train_seed,
    )  # fmt: skip
    units = [
        make(
            path=directory / "units" / f"{i:05d}.csv",
            family=distribution.families[part.sessions[0].task.family],
            entries=part,
        )
        for i, part in enumerate(_parts(entries, config.unit_entries))
    ]
    there = set((directory / "units").glob("*.csv"))  # listed for the same reason as in `wtl.stages.demonstrations`
    left = [unit for unit in units if unit.path not in there]
    progress(len(units) - len(left), len(units))
    for done, _ in enumerate(executor.map(_play_unit, left), 1):
        progress(len(units) - len(left) + done, len(units))
    rows = [row for unit in units for row in read_results(unit.path)]
    write_results(directory / "episodes.csv", rows)
    return tuple(rows)


def _parts(entries: EntryList, size: int) -> list[EntryList]:
    """Cut into units of at most `size` entries of one family, of about equal size."""
    families = list(dict.fromkeys(s.task.family for s in entries.sessions))
    parts = []
    for family in families:
        own = [i for i, s in enumerate(entries.sessions) if s.task.family == family]
        # Copies of a task apart and no unit of one entry, so that each has another task to take a trial from.
        before = [sum(entries.sessions[j].task == entries.sessions[i].task for j in own if j < i) for i in own]
        own = [i for _, i in sorted(zip(before, own, strict=True))]
        for piece in np.array_split(own, max(1, min(-(-len(own) // size), len(own) // 2))):
            parts.append(
                EntryList(
                    *(tuple(values[i] for i in piece) for values in (entries.sessions, entries.second, entries.wrong))
                )
            )
    return parts
