"""Relabelling: what a recorded path would have earned if its goal had been another one.

A failure is a success for the goal that it did reach (hindsight), and one stored path serves any number of goals.
Only the goal moves: start, path and whatever stands in the world stay as they were, so a trial that was cut after its
success stays as short. Source: Hindsight Experience Replay, arXiv 1707.01495.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wtl.core.episode import Episode
from wtl.core.task import Task, TaskFamily


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What one path of T steps earns under each of N goals."""

    rewards: np.ndarray
    """(N, T) float32."""
    successes: np.ndarray
    """(N, T) bool."""


@runtime_checkable
class Relabels(Protocol):
    """What a `TaskFamily` has in addition where its episodes can be relabelled."""

    def reached(self, observations: np.ndarray) -> np.ndarray:
        """Return (..., G) for observations (..., O): the goal that is reached in each of these states.

        It may be off by less than the family's success radius; what counts as success is said by `outcomes`.
        """
        ...

    def outcomes(self, episode: Episode, goals: np.ndarray) -> Outcomes:
        """Return what the episode earns under each of the goals (N, G), by the family's own reward function.

        The goal of the episode itself gives back its recorded rewards and successes, bit by bit. Raises ValueError
        for an episode whose path does not come out again when its actions are replayed.
        """
        ...


def can_relabel(family: object) -> Relabels:
    """Return the family as one whose episodes can be relabelled. Raises ValueError if they cannot."""
    if not isinstance(family, Relabels):
        raise ValueError(
            f"episodes of {type(family).__name__} cannot be relabelled: expected a family with `reached` and "
            "`outcomes` (wtl.core.relabelling.Relabels)"
        )
    return family


_RELABELLED = "/relabelled/"


def is_relabelled(task: Task) -> bool:
    """Return whether the task is one that only a relabelled episode has."""
    return _RELABELLED in task.name


def relabelled(
    family: TaskFamily, episode: Episode, goals: np.ndarray, after_success_steps: int | None = None
) -> tuple[Episode, ...]:
    """Return the episode with each of the goals (N, G), rewards and successes computed anew.

    The path is shared and not copied. A relabelled episode belongs to a task of its own, the same for the same goal,
    whose parameters are not known; the episode's own goal leaves its task as it is. The expert's labels of another
    goal are not known either.

    Args:
        after_success_steps: steps that are kept after the first success, as an attempt ends there
            (`protocol.after_success_steps`); None keeps the whole path.

    Raises:
        ValueError: the family has no relabelling, goals are of another size, or the episode cannot be replayed.
    """
    goals = np.asarray(goals, np.float32)
    if goals.ndim != 2 or goals.shape[1] != len(episode.goal) or not np.isfinite(goals).all():
        raise ValueError(f"goals to relabel with must be finite and of shape (any, {len(episode.goal)}), got {goals}")
    outcomes = can_relabel(family).outcomes(episode, goals)
    made = []
    for goal, rewards, successes in zip(goals, outcomes.rewards, outcomes.successes, strict=True):
        changes: dict[str, Any] = {}
        if not np.array_equal(goal, episode.goal):
            name = f"{episode.task.name}{_RELABELLED}{goal.tobytes().hex()}"
            task = replace(episode.task, name=name, parameters=(), goal_name=name)
            changes = {"task": task, "goal": goal, "expert_actions": np.full_like(episode.expert_actions, np.nan)}
        trajectory = replace(episode.trajectory, rewards=rewards, successes=successes)
        other = replace(episode, trajectory=trajectory, **changes)
        if after_success_steps is not None and successes.any():
            other = other.between(0, int(successes.argmax()) + 1 + after_success_steps)
        made.append(other)
    return tuple(made)
