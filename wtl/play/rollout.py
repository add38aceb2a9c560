"""The one environment loop of the repository, batched.

Collection, evaluation, videos and the official benchmark play through it. Each episode of a batch is counted once
and none is cut when another one finishes, so short episodes are not favoured. What a policy may see of rewards
while an episode runs is decided here and nowhere else (`RolloutSettings.feedback`). Free of torch.

What an environment returns is copied and checked here, at once, so that a mistake is named with its task and step
and not some stages later. One seed gives one set of episodes: each reset is seeded, and so are, for the time of a
batch, the global generators of numpy and Python, from which some environments draw.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from wtl.core.episode import Episode, Role, Trajectory
from wtl.core.task import Task
from wtl.play.noise import Disturbance
from wtl.play.policy import Attempt, Player, Policy, StepBatch

Feedback = Literal["end", "step"]
_TRUTHS = (bool, np.bool_)
Observer = Callable[[int, int, gymnasium.Env[Any, Any]], None]
"""Called with a row, the steps taken so far and the environment, after reset and after every step."""


@dataclass(frozen=True)
class RolloutSettings:
    """How a batch of episodes is played and what is recorded of it."""

    horizon_steps: int | tuple[int, ...]
    """The longest episode: one number, or one a row. No episode is longer than its family's horizon."""
    after_success_steps: int | None = 5
    """Steps still taken after the first success; None plays the whole horizon."""
    feedback: Feedback = "end"
    """When a policy learns what its actions earned: after the episode, as in Watch-Try-Learn, or at the next step."""
    action_noise: float = 0.0
    """Standard deviation of time-correlated noise in what the world executes, in units of the action."""
    position_noise: float = 0.0
    """Standard deviation of noise in observed positions, in their units; experts see the true ones."""
    ask_expert: bool = False
    """Whether every step is labelled with what the expert would do; if not, the labels are NaN."""
    role: Role = "trial"
    """What the episodes are recorded as."""


class _Recorder:
    """The growing arrays of one episode."""

    def __init__(self, observation: np.ndarray, goal: np.ndarray, horizon_steps: int) -> None:
        self.goal, self.horizon_steps = goal, horizon_steps
        self.observations = [observation]
        self.actions: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.rewards: list[float] = []
        self.successes: list[bool] = []
        self.over = False
        self._solved_at: int | None = None

    def add(self, observation: np.ndarray, action: np.ndarray, label: np.ndarray, reward: float, success: bool) -> None:
        if success and self._solved_at is None:
            self._solved_at = len(self.successes)
        self.observations.append(observation)
        self.actions.append(action)
        self.labels.append(label)
        self.rewards.append(reward)
        self.successes.append(success)

    def ended(self, after_success_steps: int | None) -> bool:
        steps = len(self.successes)
        if self.over or steps >= self.horizon_steps:
            return True
        solved = self._solved_at is not None and after_success_steps is not None
        return solved and steps > self._solved_at + after_success_steps  # type: ignore[operator]

    def episode(self, task: Task, role: Role, attempt: int, seed: int, source: str) -> Episode:
        trajectory = Trajectory(
            np.stack(self.observations), np.stack(self.actions), np.array(self.rewards), np.array(self.successes)
        )
        return Episode(trajectory, task, role, attempt, seed, source, self.goal, np.stack(self.labels))


def play(
    attempt: Attempt, player: Player, settings: RolloutSettings, observer: Observer | None = None
) -> list[Episode]:
    """Return one episode of every session, in the order of the sessions, played by this player.

    Raises:
        ValueError: the player cannot read a context, or gives actions of another size or that are not finite; or an
            environment gives an observation of another size, an observation or a reward that is not finite, or does
            not say whether the task is solved.
    """
    return roll_out(attempt, player.policy(attempt), settings, player.source, observer)


def roll_out(
    attempt: Attempt, policy: Policy, settings: RolloutSettings, source: str, observer: Observer | None = None
) -> list[Episode]:
    """Return one episode of every session: all rows go in step, with one policy call a step. See `play`."""
    with _global_generators_seeded(attempt.seeds[0] if attempt.seeds else 0):
        return _roll_out(attempt, policy, settings, source, observer)


@contextmanager
def _global_generators_seeded(seed: int) -> Iterator[None]:
    """Seed the generators that numpy and Python share among all, and leave them afterwards as they were."""
    numpys, pythons = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)


def _roll_out(
    attempt: Attempt, policy: Policy, settings: RolloutSettings, source: str, observer: Observer | None
) -> list[Episode]:
    tasks, action_size = [session.task for session in attempt.sessions], attempt.family.spec.action_size
    if not callable(getattr(policy, "act", None)):
        raise ValueError(f"{source} must adapt to a policy, an object with act(step), got {_brief(policy)}")
    disturbance = Disturbance(attempt, settings.action_noise, settings.position_noise)
    records = _begin(attempt, tasks, settings, disturbance)
    rows = np.arange(len(tasks))
    present = np.stack([record.observations[0] for record in records])
    rewards, successes = np.full(len(tasks), np.nan), np.full(len(tasks), np.nan)
    if observer:
        for row in rows.tolist():
            observer(row, 0, attempt.environments[row])
    number = 0
    while len(rows):
        labels = np.full((len(rows), action_size), np.nan)
        if settings.ask_expert:
            labels = attempt.expert.actions(number, rows)
        actions = policy.act(StepBatch(present[rows], rows, number, rewards[rows], successes[rows]))
        if wrong := _wrong_actions(actions, labels.shape, [tasks[row].name for row in rows.tolist()]):
            raise ValueError(f"{source} gave {wrong} at step {number}")
        actions = np.clip(np.asarray(actions), -1.0, 1.0).astype(np.float32)
        executed = disturbance.executed(actions, number, rows)
        for row, action, done, label in zip(rows.tolist(), actions, executed, labels, strict=True):
            observation, reward, success, over = _step(attempt, row, done, number, present.shape[1])
            observation = present[row] = disturbance.observed(observation, row)
            records[row].add(observation, action, label, reward, success)
            records[row].over = over
            if settings.feedback == "step":
                rewards[row], successes[row] = reward, success
            if observer:
                observer(row, number + 1, attempt.environments[row])
        number += 1
        rows = rows[[not records[row].ended(settings.after_success_steps) for row in rows.tolist()]]
    return [
        record.episode(task, settings.role, attempt.number, seed, source)
        for record, task, seed in zip(records, tasks, attempt.seeds, strict=True)
    ]


def _begin(attempt: Attempt, tasks: list[Task], settings: RolloutSettings, disturbance: Disturbance) -> list[_Recorder]:
    spec = attempt.family.spec
    horizons = np.broadcast_to(settings.horizon_steps, len(tasks)).clip(max=spec.horizon_steps)
    records = []
    for row, (task, seed) in enumerate(zip(tasks, attempt.seeds, strict=True)):
        environment, where = attempt.environments[row], f"the reset to task {task.name}"
        begun = environment.reset(seed=seed % 2**31, options={"task": task})
        if not isinstance(begun, tuple) or len(begun) != 2:
            raise ValueError(f"the environment must return (observation, info) at {where}, got {_brief(begun)}")
        observation = disturbance.observed(_observed(begun[0], spec.layout.size, where), row)
        goal = np.array(attempt.family.goal(environment))
        if goal.shape != (spec.goal_size,):
            raise ValueError(f"the goal must have shape ({spec.goal_size},), got {goal.shape} at {where}")
        records.append(_Recorder(observation, goal, int(horizons[row])))
    return records


def _step(
    attempt: Attempt, row: int, action: np.ndarray, number: int, size: int
) -> tuple[np.ndarray, float, bool, bool]:
    """Return the observation (O,), the reward, the success and whether the episode is over."""
    # Copies both ways: an environment may work in what it is given and hand out the same array every time.
    try:
        returned = attempt.environments[row].step(action.copy())
    except Exception as error:
        error.add_note(f"This happened at step {number} of task {attempt.sessions[row].task.name}.")
        raise
    try:
        observation, reward, terminated, truncated, info = returned
        seen, earned, success = np.array(observation, np.float64), float(reward), info["success"]
        if (
            len(seen) == size
            and seen.ndim == 1
            and math.isfinite(earned)
            and np.isfinite(seen).all()
            and isinstance(success, _TRUTHS)
        ):
            return seen, earned, bool(success), bool(terminated or truncated)
    except (TypeError, ValueError, KeyError, IndexError):
        pass  # what is wrong is found out below
    return _explained(returned, size, f"step {number} of task {attempt.sessions[row].task.name}")


def _explained(returned: Any, size: int, where: str) -> tuple[np.ndarray, float, bool, bool]:
    """Return what a step returned, where it can be read after all, or say what is wrong with it."""
    if not isinstance(returned, tuple) or len(returned) != 5:
        raise ValueError(
            f"the environment must return (observation, reward, terminated, truncated, info), got {_brief(returned)} "
            f"at {where}"
        )
    observation, reward, terminated, truncated, info = returned
    seen = _observed(observation, size, where)
    earned = _number(reward)
    if not math.isfinite(earned):
        raise ValueError(f"the environment gave a reward that is not a finite number, {_brief(reward)}, at {where}")
    if not isinstance(info, Mapping) or "success" not in info:
        raise ValueError(f'the environment did not say whether the task is solved (info["success"]) at {where}')
    success = _number(info["success"])
    if success not in (0.0, 1.0):
        raise ValueError(f'info["success"] must be true or false, got {_brief(info["success"])} at {where}')
    return seen, earned, bool(success), bool(terminated or truncated)


def _observed(observation: Any, size: int, where: str) -> np.ndarray:
    """Return a copy of an observation, (O,) float64. Raises ValueError for anything else."""
    try:
        seen = np.array(observation, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"an observation must be {size} numbers, got {_brief(observation)} at {where}") from None
    if seen.shape != (size,):
        raise ValueError(f"an observation must have shape ({size},), got {seen.shape} at {where}")
    if not np.isfinite(seen).all():
        raise ValueError(f"the environment gave an observation that is not finite at {where}")
    return seen


def _number(value: Any) -> float:
    """Return a number, also one in an array of its own; NaN for anything else."""
    array = np.asarray(value)
    return float(array.item()) if array.size == 1 and array.dtype.kind in "biuf" else math.nan


def _brief(value: Any) -> str:
    if isinstance(value, tuple | dict):
        return f"{type(value).__name__} of {len(value)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _wrong_actions(actions: Any, shape: tuple[int, ...], tasks: list[str]) -> str:
    """Return what is wrong with the actions (R, A) of these tasks, or an empty string."""
    try:
        made = np.asarray(actions)
    except (TypeError, ValueError, RuntimeError) as error:  # the last is torch's
        return f"{_brief(actions)} in place of actions ({' '.join(str(error).split())})"
    if made.dtype.kind not in "biuf":
        return f"{_brief(actions)} in place of actions"
    if made.shape != shape:
        return f"actions of shape {made.shape}, expected {shape}, one row for each episode that still runs,"
    finite = np.isfinite(made).all(axis=1)
    return "" if finite.all() else f"an action that is not finite to task {tasks[int(finite.argmin())]}"
