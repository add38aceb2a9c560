"""What happened: trajectories (what a learner may see), episodes (with what it may not), contexts.

A `Context` is made of trajectories and a `Trajectory` has no field for a task, a goal or an expert label, so
nothing hidden can reach a policy by way of its context. Trap: a context is only ever changed by name
(`dataclasses.replace`), so that a field which somebody adds later is never lost on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

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
    """One episode as its own policy saw it."""

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
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further arrays by name, of any shape and of type float, integer, bool, uint8 (pictures) or string."""

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

    def total_reward(self, steps: int | None = None) -> float:
        """Return the sum of the rewards, of the first so many steps if a number is given."""
        return float(self.rewards[:steps].sum(dtype=np.float64))

    def between(self, first: int, last: int) -> Self:
        """Return the steps first .. last - 1, as far as there are any. Raises ValueError for none.

        `extras` that have one entry a step or an observation are cut too, all others stay.
        """
        first, last = max(first, 0), min(last, len(self))
        if first >= last:
            raise ValueError(f"a trajectory needs at least one step, got steps {first} to {last - 1} of {len(self)}")
        whole = {len(self): slice(first, last), len(self) + 1: slice(first, last + 1)}
        steps = slice(first, last)
        return replace(
            self,
            observations=self.observations[first : last + 1],
            actions=self.actions[steps],
            rewards=self.rewards[steps],
            successes=self.successes[steps],
            extras={k: v[whole[len(v)]] if v.ndim and len(v) in whole else v for k, v in self.extras.items()},
        )

    def with_outcome_masked(self) -> Self:
        """Return the same path without its rewards and successes."""
        rewards, successes = np.zeros_like(self.rewards), np.zeros_like(self.successes)
        return replace(self, rewards=rewards, successes=successes, outcome_known=False)


@dataclass(frozen=True, eq=False)
class Episode:
    """A trajectory with what its learner must not see and with what produced it."""

    trajectory: Trajectory
    task: Task
    role: Role
    attempt: int
    """How many trials its policy had in its context; 0 for demonstrations."""
    seed: int
    source: str
    """What acted, for instance `expert` or a method's name and the digest of its checkpoint."""
    goal: np.ndarray
    """(G,) float32, where the expert of this task goes; a training label, never an input."""
    expert_actions: np.ndarray
    """(T, A) float32, what the expert would have done instead of each action; NaN where it was not asked."""

    def __post_init__(self) -> None:
        steps, action_size = self.trajectory.actions.shape
        object.__setattr__(self, "attempt", int(self.attempt))
        object.__setattr__(self, "seed", int(self.seed))
        _freeze(self, "goal", np.float32, (None,))
        _freeze(self, "expert_actions", np.float32, (steps, action_size))

    def between(self, first: int, last: int) -> Self:
        """Return the steps first .. last - 1, see `Trajectory.between`."""
        trajectory = self.trajectory.between(first, last)
        first = max(first, 0)
        labels = self.expert_actions[first : first + len(trajectory)]
        return replace(self, trajectory=trajectory, expert_actions=labels)


@dataclass(frozen=True, eq=False)
class Context:
    """What a method reads about a task: demonstrations, trials, and what else is known."""

    demonstrations: tuple[Trajectory, ...] = ()
    """Successful episodes of an expert, never of the identical task."""
    trials: tuple[Trajectory, ...] = ()
    """The method's own episodes of this task, the newest last."""
    instruction: str | None = None
    """A sentence that says what is wanted."""
    desired_return: float | None = None
    """The sum of rewards that is asked for, in the environment's units."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Further things that are known, by name; a method says in its spec who fills them in."""

    @property
    def demonstration(self) -> Trajectory | None:
        """The first demonstration, or None."""
        return self.demonstrations[0] if self.demonstrations else None

    @property
    def solved(self) -> bool:
        """True if a trial is known to have succeeded."""
        return any(trial.success for trial in self.trials)

    def with_trial(self, trial: Trajectory) -> Self:
        """Return this context after one more trial."""
        return replace(self, trials=(*self.trials, trial))

    def newest(self, trials: int) -> Self:
        """Return this context with at most so many trials, the newest ones."""
        return replace(self, trials=self.trials[max(0, len(self.trials) - trials) :])

    def with_trials(self, change: Callable[[Trajectory], Trajectory]) -> Self:
        """Return this context with each trial changed."""
        return replace(self, trials=tuple(change(trial) for trial in self.trials))
