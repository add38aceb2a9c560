"""What happened: trajectories (what a learner may see), episodes (with what it may not), contexts.

A `Context` is made of trajectories and a `Trajectory` has no field for a task, a goal, an expert
label or a simulation state, so nothing hidden can reach a policy by way of its context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wtl.core.task import Task

Role = Literal["demonstration", "trial"]


def _freeze(owner: object, name: str, dtype: type, shape: tuple[int | None, ...]) -> None:
    array: np.ndarray = np.asarray(getattr(owner, name), dtype=dtype)
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        expected = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise ValueError(f"{type(owner).__name__}.{name} must have shape {expected}, got {array.shape}")
    array = array.view()
    array.flags.writeable = False
    object.__setattr__(owner, name, array)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One episode as its own actor saw it."""

    observations: np.ndarray
    """(T + 1, O) float32, the last one after the last action."""
    actions: np.ndarray
    """(T, A) float32, as executed, within [-1, 1]."""
    rewards: np.ndarray
    """(T,) float32, `rewards[t]` for `actions[t]`."""
    successes: np.ndarray
    """(T,) bool, whether the task was solved after `actions[t]`."""
    outcome_known: bool = True
    """False where rewards and successes are withheld and read zero."""

    def __post_init__(self) -> None:
        steps = len(np.asarray(self.actions))
        if steps == 0:
            raise ValueError("a trajectory needs at least one step, got none")
        _freeze(self, "observations", np.float32, (steps + 1, None))
        _freeze(self, "actions", np.float32, (steps, None))
        _freeze(self, "rewards", np.float32, (steps,))
        _freeze(self, "successes", np.bool_, (steps,))

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def success(self) -> bool:
        """True if the success flag was up at any step (Meta-World's convention)."""
        return bool(self.successes.any())

    def with_outcome_masked(self) -> Trajectory:
        """The same path without its rewards and successes: the control "does it read the outcome?"."""
        rewards, successes = np.zeros_like(self.rewards), np.zeros_like(self.successes)
        return Trajectory(self.observations, self.actions, rewards, successes, outcome_known=False)


@dataclass(frozen=True, eq=False)
class Episode:
    """A trajectory with what its learner must not see and with what produced it."""

    trajectory: Trajectory
    task: Task
    role: Role
    attempt: int
    """How many trials its actor had in its context; 0 for demonstrations."""
    seed: int
    source: str
    """What acted, for instance `expert` or the digest of a checkpoint."""
    goal: np.ndarray
    """(G,) float32, where the expert of this task goes; a training label, never an input."""
    expert_actions: np.ndarray
    """(T, A) float32, what the expert would have done instead of each action."""
    states: np.ndarray
    """(T + 1, S) float64 simulation states; S may be 0 where they are not kept."""

    def __post_init__(self) -> None:
        steps, action_size = self.trajectory.actions.shape
        _freeze(self, "goal", np.float32, (None,))
        _freeze(self, "expert_actions", np.float32, (steps, action_size))
        _freeze(self, "states", np.float64, (steps + 1, None))


@dataclass(frozen=True, eq=False)
class Context:
    """What an improver reads: one demonstration or none, zero or more trials."""

    demonstration: Trajectory | None = None
    trials: tuple[Trajectory, ...] = ()

    @property
    def solved(self) -> bool:
        """True if a trial is known to have succeeded."""
        return any(trial.success for trial in self.trials)

    def with_trial(self, trial: Trajectory) -> Context:
        """This context after one more trial."""
        return Context(self.demonstration, (*self.trials, trial))

    def newest(self, trials: int) -> Context:
        """This context with so many trials at most."""
        return Context(self.demonstration, self.trials[max(0, len(self.trials) - trials) :])

    def with_trials(self, change: Callable[[Trajectory], Trajectory]) -> Context:
        """This context with each trial changed."""
        return Context(self.demonstration, tuple(change(trial) for trial in self.trials))
