"""The two sides of every game: a method that turns contexts into a policy, and a policy that acts.

A `Method` is a function from contexts to a policy and never sees a task. A `Player` is handed the whole attempt,
task and environments included: the door for the expert, for search and for reinforcement learning on the one task.
`FromContext` makes a player of a method by handing on nothing but contexts and seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from wtl.core.episode import Context, Episode
from wtl.core.task import Task, TaskFamily


@dataclass(frozen=True)
class Session:
    """One entry: a task, what is known before the first attempt, and a seed."""

    task: Task
    context: Context
    """What is known before anything was tried."""
    demonstrations: tuple[Episode, ...]
    """The episodes whose trajectories stand in the context, with their tasks and goals, for the record."""
    seed: int

    @property
    def demonstration_name(self) -> str:
        """The name of the first demonstration's task, or an empty string."""
        return self.demonstrations[0].task.name if self.demonstrations else ""


@dataclass(frozen=True, eq=False)
class StepBatch:
    """What a policy sees at one step of a batch of episodes; R rows are still running."""

    observations: np.ndarray
    """(R, O) float64, the present ones."""
    rows: np.ndarray
    """(R,) which episodes of the batch these are."""
    number: int
    """Steps taken so far in each of them."""
    previous_rewards: np.ndarray
    """(R,) the reward of the step before; NaN at the first step, and always where feedback comes at the end."""
    previous_successes: np.ndarray
    """(R,) 1 where the step before solved the task, else 0; NaN where `previous_rewards` is."""


class Policy(Protocol):
    """The behaviour of a batch of episodes, one a row, each already adapted to its context."""

    def act(self, step: StepBatch) -> np.ndarray:
        """Return the (R, A) actions of the rows still running, within [-1, 1]."""
        ...


class Method(Protocol):
    """A function from contexts to a policy."""

    @property
    def source(self) -> str:
        """What this is, recorded with every episode it makes."""
        ...

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        """Return the policy of one context a row. Raises ValueError for contexts that it cannot read."""
        ...


@dataclass(frozen=True)
class Attempt:
    """A batch of episodes that are about to be played, all of one family and one attempt number."""

    family: TaskFamily
    environments: Sequence[gymnasium.Env[Any, Any]]
    sessions: Sequence[Session]
    contexts: Sequence[Context]
    """What is known now, one a session."""
    seeds: Sequence[int]
    number: int = 0
    """Trials that each context holds."""

    @functools.cached_property
    def expert(self) -> ExpertQueries:
        """What the expert would do, asked once a step however often it is needed."""
        return ExpertQueries(self.family, self.environments)


class ExpertQueries:
    """The expert's actions in the present states of a batch of environments."""

    def __init__(self, family: TaskFamily, environments: Sequence[gymnasium.Env[Any, Any]]) -> None:
        self._family, self._environments = family, environments
        self._number, self._answer = -1, np.zeros((0, 0))

    def actions(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Return the (R, A) clean actions of the expert at step `number` in these rows."""
        if number != self._number:
            answers = [self._family.expert_action(self._environments[row]) for row in rows.tolist()]
            self._number, self._answer = number, np.stack(answers)
        return self._answer


class Player(Protocol):
    """Whoever can play an attempt."""

    @property
    def source(self) -> str:
        """What this is, recorded with every episode it makes."""
        ...

    def policy(self, attempt: Attempt) -> Policy:
        """Return the policy that plays these episodes."""
        ...


@dataclass(frozen=True)
class FromContext:
    """A method as a player: it is handed contexts and seeds, and nothing that a task hides."""

    method: Method

    @property
    def source(self) -> str:
        """The method's."""
        return self.method.source

    def policy(self, attempt: Attempt) -> Policy:
        """See `Player.policy`. Raises ValueError for contexts that the method cannot read."""
        return self.method.adapt(attempt.contexts, attempt.seeds)
