"""Collect trials on training and validation tasks, on all cores, resumable at any moment.

A round plays an operator: the trial policy alone at first, then the retrial policy on its own trials, because
that is what it meets at attempts 2, 3, ... An operator that follows routes needs no policy for its first round:
a follower that is told wrong goals misses as its own guesses will. Free of torch at import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wtl.compute.executor import Executor
from wtl.core.episode import Episode
from wtl.core.rng import seed_for, stream
from wtl.core.task import Regime, Task, TaskDistribution, TaskFamily
from wtl.data.store import EpisodeStore, write_shard
from wtl.methods.transfer.controller import Astray, FollowerConfig
from wtl.play.attempts import ExplorationConfig, Session, extended, first_contexts, play_attempt
from wtl.play.rollout import Ending, Improver
from wtl.stages.demonstrations import DemonstrationShelf, Progress, run_units, units_of


@dataclass(frozen=True)
class TrialsConfig:
    """How trials are collected on training and validation tasks."""

    first_round_tasks: int | None = None
    """Tasks of the first round (None: all)."""
    later_round_tasks: int | None = None
    """Tasks of each later round, in which the operator plays attempts 0 .. `attempts`."""
    hidden_goal_weight: int = 1
    """As how many families one counts that hides its goal, where not all tasks are played."""
    per_task: int = 1
    """Sessions a task in each round."""
    attempts: int = 2
    """Retrials in a session of later rounds."""
    horizons_steps: tuple[int, ...] = (500,)
    """Taken in turns by the units of work: short trials are cheap, but the operator must also have met the
    long ones of the evaluation, or it cannot read them."""
    after_success_steps: int | None = 5
    astray_steps: float = 4.0
    """How far, in hand steps, a goal must be from the task's own one to lead a follower astray."""
    unit_episodes: int = 25
    keep_states: bool = True


@dataclass(frozen=True)
class Operator:
    """A trained pair on disk: who makes attempt 0 and who makes the later ones."""

    trial: Path
    retrial: Path | None = None

    def improvers(self, attempts: int) -> list[Improver]:
        """Who plays attempts 0 .. `attempts`; attempt 0 alone if there is nobody for later ones."""
        from wtl.methods import load_policy

        later = [load_policy(self.retrial)] * attempts if self.retrial else []
        return [load_policy(self.trial), *later]


@dataclass(frozen=True)
class _Unit:
    directory: Path
    index: int
    family: TaskFamily
    sessions: tuple[Session, ...]
    config: TrialsConfig
    exploration: ExplorationConfig
    labelled: bool
    player: Operator | Astray


def _play(unit: _Unit) -> int:
    horizons = unit.config.horizons_steps
    ending = Ending(horizons[unit.index % len(horizons)], unit.config.after_success_steps)
    contexts = first_contexts(unit.sessions)
    collected: list[Episode] = []
    player = unit.player
    improvers = player.improvers(unit.config.attempts) if isinstance(player, Operator) else [player]
    for attempt, improver in enumerate(improvers):
        episodes = play_attempt(
            unit.family,
            unit.sessions,
            contexts,
            improver,
            attempt,
            ending=ending,
            exploration=unit.exploration,
            ask_expert=unit.labelled,
            keep_states=unit.config.keep_states,
        )
        collected += episodes
        contexts = extended(contexts, episodes)
    write_shard(unit.directory, unit.index, collected)
    return len(collected)


def collect_trials(
    distribution: TaskDistribution,
    config: TrialsConfig,
    exploration: ExplorationConfig,
    regime: Regime,
    demonstrations: EpisodeStore,
    operator: Operator | FollowerConfig,
    round_number: int,
    seed: int,
    directory: Path,
    executor: Executor,
    progress: Progress,
    *,
    labelled: bool = True,
) -> None:
    """Play the operator on training and validation tasks; the expert labels every state it visits if `labelled`.

    `operator`: trained policies; or a follower, which is led astray, to the goals of other tasks.
    """
    limit = config.later_round_tasks if round_number else config.first_round_tasks
    shelf = DemonstrationShelf(demonstrations, regime)
    weights = distribution.weights
    goals = None
    if isinstance(operator, FollowerConfig):
        goals = _Goals(demonstrations, config.astray_steps * distribution.spec.layout.hand_step)
    played: list[tuple[Session, np.ndarray | None]] = []
    for split in ("train", "validation"):
        own_limit = limit if split == "train" else None
        for task in _spread(distribution.split(split), own_limit, weights, seed, round_number):
            for copy in range(config.per_task):
                own = seed_for(seed, "trial", task.name, round_number, copy)
                shown = shelf.choose(task, 1, own)[0]
                session = Session(task, shown.trajectory if shown else None, shown.task.name if shown else "", own)
                played.append((session, goals.elsewhere(task, shown, own) if goals and shown else None))
    units = []
    for i, part in enumerate(units_of(played, config.unit_episodes, lambda one: one[0].task.family)):
        sessions, shifts = zip(*part, strict=True)
        family = distribution.families[sessions[0].task.family]
        if isinstance(operator, FollowerConfig):
            player: Operator | Astray = Astray(operator, family.spec.layout, shifts)
        else:
            player = operator if round_number else Operator(operator.trial)
        units.append(_Unit(directory, i, family, sessions, config, exploration, labelled, player))
    run_units(_play, units, directory, executor, progress)


class _Goals:
    """Where the tasks of each family have their goals, to lead a follower to those of others."""

    def __init__(self, demonstrations: EpisodeStore, near: float) -> None:
        """`near`: a goal within this distance of a task's own is not another one."""
        self._near = near
        self._own: dict[str, np.ndarray] = {}
        of_family: dict[str, list[np.ndarray]] = {}
        for episode in demonstrations:
            if episode.task.split != "test":
                self._own[episode.task.name] = episode.goal
                of_family.setdefault(episode.task.family, []).append(episode.goal)
        self._of_family = {family: np.stack(goals) for family, goals in of_family.items()}

    def elsewhere(self, task: Task, shown: Episode, seed: int, count: int = 16) -> np.ndarray:
        """(count, D) shifts from a demonstration's goal to those of other tasks, drawn at random."""
        goals = self._of_family[task.family]
        if task.name in self._own:
            far = np.linalg.norm(goals - self._own[task.name], axis=-1) > self._near
            goals = goals[far] if far.any() else goals
        return goals[stream(seed, "astray").integers(len(goals), size=count)] - shown.goal


def _spread(
    tasks: Sequence[Task], limit: int | None, weights: Mapping[str, int], seed: int, round_number: int
) -> list[Task]:
    """About `limit` tasks, other ones each round, every family with its share by weight."""
    if limit is None or limit >= len(tasks):
        return list(tasks)
    families = list(dict.fromkeys(task.family for task in tasks))
    whole = sum(weights[family] for family in families)
    chosen: list[Task] = []
    for family in families:
        share = -(-limit * weights[family] // whole)
        own = [task for task in tasks if task.family == family]
        order = stream(seed, "tasks of round", family).permutation(len(own))
        picked = [(max(round_number - 1, 0) * share + i) % len(own) for i in range(min(share, len(own)))]
        chosen += [own[order[i]] for i in sorted(picked)]
    return chosen
