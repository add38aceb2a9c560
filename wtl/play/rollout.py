"""The one environment loop of the repository, batched, and the protocols it plays with.

A method is a function from contexts to an actor (`Improver`); collection, evaluation, videos and
the official benchmark see only that. Each episode of a batch is counted once and none is cut when
another one finishes, so short episodes are not favoured. Free of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from wtl.core.episode import Context, Episode, Role, Trajectory
from wtl.core.rng import stream
from wtl.core.task import Task, TaskFamily

Observer = Callable[[int, gymnasium.Env[Any, Any]], None]
"""Called with a row and its environment after reset and after every step (videos are made so)."""


class Actor(Protocol):
    """A batch of behaviours, one a row, each already adapted to its context."""

    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """observations (R, O) of the rows (R,) still running -> actions (R, A) within [-1, 1]."""
        ...


class Improver(Protocol):
    """A method: contexts in, behaviour out. It never sees a task."""

    @property
    def source(self) -> str:
        """What this is, recorded with every episode it makes."""
        ...

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Actor:
        """Adapt to one context a row. Raises ValueError for contexts it cannot read."""
        ...


@dataclass(frozen=True)
class Noise:
    """Ornstein-Uhlenbeck noise added to executed actions; the gripper is spared, grasps would break."""

    scale: float = 0.0
    """Standard deviation in units of the action."""
    correlation: float = 0.9
    """Of two successive steps."""
    spare_last: bool = True
    """Leave the last action (Meta-World's gripper) alone."""


@dataclass(frozen=True)
class Demonstrator:
    """The expert itself as an actor, noise in what is executed, none in the label."""

    noise: Noise = Noise()
    varied: bool = True
    """Draw each episode's noise scale from 0 to `noise.scale`, so that clean paths are among them."""


@dataclass(frozen=True)
class Ending:
    """When an episode ends."""

    horizon_steps: int
    after_success_steps: int | None = 5
    """Steps still taken after the first success; None plays the whole horizon."""


class EnvironmentPool:
    """Environments kept between batches, of one family at a time: each costs about 20 MB."""

    def __init__(self, make: Callable[[TaskFamily], gymnasium.Env[Any, Any]] | None = None) -> None:
        self._make = make or (lambda family: family.make_environment())
        self._family: str | None = None
        self._environments: list[gymnasium.Env[Any, Any]] = []

    def take(self, family: TaskFamily, count: int) -> list[gymnasium.Env[Any, Any]]:
        """`count` environments of a family."""
        if family.spec.name != self._family:
            self.close()
            self._family = family.spec.name
        while len(self._environments) < count:
            self._environments.append(self._make(family))
        return self._environments[:count]

    def close(self) -> None:
        """Free all environments."""
        for environment in self._environments:
            environment.close()
        self._environments, self._family = [], None


class _Recorder:
    """The growing arrays of one episode."""

    def __init__(self, observation: np.ndarray, state: np.ndarray, goal: np.ndarray) -> None:
        self.goal = goal
        self.observations, self.states = [observation], [state]
        self.actions: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.rewards: list[float] = []
        self.successes: list[bool] = []
        self._solved_at: int | None = None
        self.closed = False

    def add(
        self,
        observation: np.ndarray,
        state: np.ndarray,
        action: np.ndarray,
        label: np.ndarray,
        reward: float,
        success: bool,
    ) -> None:
        if success and self._solved_at is None:
            self._solved_at = len(self.successes)
        self.observations.append(observation)
        self.states.append(state)
        self.actions.append(action)
        self.labels.append(label)
        self.rewards.append(reward)
        self.successes.append(success)

    def ended(self, after_success_steps: int | None) -> bool:
        if self.closed:
            return True
        if self._solved_at is None or after_success_steps is None:
            return False
        return len(self.successes) > self._solved_at + after_success_steps

    def episode(self, task: Task, role: Role, attempt: int, seed: int, source: str) -> Episode:
        trajectory = Trajectory(
            np.stack(self.observations), np.stack(self.actions), np.array(self.rewards), np.array(self.successes)
        )
        return Episode(
            trajectory, task, role, attempt, seed, source, self.goal, np.stack(self.labels), np.stack(self.states)
        )


class _NoiseProcess:
    """Each row's noise from its own stream; drawn for the whole horizon at once, which gives the same numbers."""

    def __init__(
        self, noises: Sequence[Noise], seeds: Sequence[int], steps: int, action_size: int, varied: bool
    ) -> None:
        generators = [stream(seed, "noise") for seed in seeds]
        scales = [n.scale * (g.random() if varied else 1.0) for n, g in zip(noises, generators, strict=True)]
        self._scale = np.array(scales)[:, None] * np.ones(action_size)
        self._scale[[n.spare_last for n in noises], -1] = 0.0
        normal_BTA = np.stack([g.standard_normal((steps + 1, action_size)) for g in generators])
        self._correlation = np.array([n.correlation for n in noises])[:, None]
        self._value, self._kicks = (
            normal_BTA[:, 0],
            np.sqrt(1.0 - self._correlation[..., None] ** 2) * normal_BTA[:, 1:],
        )

    def step(self, step: int, rows: np.ndarray) -> np.ndarray:
        """(R, A) the noise of this step; every step must be asked for, in order."""
        self._value = self._correlation * self._value + self._kicks[:, step]
        return self._scale[rows] * self._value[rows]


def roll_out(
    family: TaskFamily,
    environments: Sequence[gymnasium.Env[Any, Any]],
    tasks: Sequence[Task],
    seeds: Sequence[int],
    actor: Actor | Demonstrator,
    *,
    ending: Ending,
    noise: Noise | Sequence[Noise] = Noise(),
    role: Role = "trial",
    attempt: int = 0,
    source: str = "expert",
    ask_expert: bool = True,
    keep_states: bool = True,
    observer: Observer | None = None,
) -> list[Episode]:
    """Play one episode of every task, all rows in step, one policy call a step.

    Args:
        environments: one a task, of this family.
        tasks, seeds: B each; a row's randomness depends on its own seed only.
        actor: B rows of behaviour, or the expert.
        noise: added to what a policy executes, alike or one a row; a demonstrator brings its own.
        ask_expert: label every step with what the expert would do; without it the labels of a policy's episode are NaN.

    Returns:
        B episodes, in the order of the tasks.

    Raises:
        ValueError: a policy's action is not finite.
    """
    expert = isinstance(actor, Demonstrator)
    horizon = min(ending.horizon_steps, family.spec.horizon_steps)
    own = actor.noise if isinstance(actor, Demonstrator) else noise
    noises = [own] * len(tasks) if isinstance(own, Noise) else own
    varied = isinstance(actor, Demonstrator) and actor.varied
    process = _NoiseProcess(noises, seeds, horizon, family.spec.action_size, varied)
    nothing = np.zeros(0)
    records: list[_Recorder] = []
    for row, task in enumerate(tasks):
        observation, _ = environments[row].reset(options={"task": task})
        records.append(_Recorder(observation, nothing, family.goal(environments[row])))
        if observer:
            observer(row, environments[row])
    rows = np.arange(len(tasks))
    present = np.stack([record.observations[0] for record in records])
    for step in range(horizon):
        if ask_expert or expert:
            labels = np.stack([family.expert_action(environments[row]) for row in rows.tolist()])
        else:
            labels = np.full((len(rows), family.spec.action_size), np.nan)
        actions = labels if isinstance(actor, Demonstrator) else actor.act(present[rows], rows)
        if not expert and not np.isfinite(actions).all():
            bad = tasks[int(rows[~np.isfinite(actions).all(axis=1)][0])]
            raise ValueError(f"{source} gave an action that is not finite at step {step} of task {bad.name}")
        actions = np.clip(actions + process.step(step, rows), -1.0, 1.0).astype(np.float32)
        for row, action, label in zip(rows.tolist(), actions, labels, strict=True):
            observation, reward, terminated, truncated, info = environments[row].step(action)
            present[row] = observation
            records[row].add(observation, nothing, action, label, float(reward), bool(info["success"]))
            records[row].closed = terminated or truncated
            if observer:
                observer(row, environments[row])
        rows = rows[[not records[row].ended(ending.after_success_steps) for row in rows.tolist()]]
        if len(rows) == 0:
            break
    return [
        record.episode(task, role, attempt, seed, source)
        for record, task, seed in zip(records, tasks, seeds, strict=True)
    ]
