"""The one environment loop of the repository, batched.

Collection, evaluation, videos and the official benchmark play through it. Each episode of a batch is counted once
and none is cut when another one finishes, so short episodes are not favoured. What a policy may see of rewards
while an episode runs is decided here and nowhere else (`RolloutSettings.feedback`). Free of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from wtl.core.episode import Episode, Role, Trajectory
from wtl.core.task import Task
from wtl.play.policy import Attempt, Player, Policy, StepBatch

Feedback = Literal["end", "step"]
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
        ValueError: the player cannot read a context, or gives an action that is not finite; or an environment gives
            an observation or a reward that is not finite, or does not say whether the task is solved.
    """
    return roll_out(attempt, player.policy(attempt), settings, player.source, observer)


def roll_out(
    attempt: Attempt, policy: Policy, settings: RolloutSettings, source: str, observer: Observer | None = None
) -> list[Episode]:
    """Return one episode of every session: all rows go in step, with one policy call a step. See `play`."""
    tasks = [session.task for session in attempt.sessions]
    records = _begin(attempt, tasks, settings)
    rows = np.arange(len(tasks))
    present = np.stack([record.observations[0] for record in records])
    rewards, successes = np.full(len(tasks), np.nan), np.full(len(tasks), np.nan)
    if observer:
        for row in rows.tolist():
            observer(row, 0, attempt.environments[row])
    number = 0
    while len(rows):
        labels = np.full((len(rows), attempt.family.spec.action_size), np.nan)
        if settings.ask_expert:
            labels = attempt.expert.actions(number, rows)
        actions = policy.act(StepBatch(present[rows], rows, number, rewards[rows], successes[rows]))
        _check_actions(actions, tasks, rows, number, source)
        actions = np.clip(actions, -1.0, 1.0).astype(np.float32)
        for row, action, label in zip(rows.tolist(), actions, labels, strict=True):
            observation, reward, success, over = _step(attempt, row, action, number)
            present[row] = observation
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


def _begin(attempt: Attempt, tasks: list[Task], settings: RolloutSettings) -> list[_Recorder]:
    family = attempt.family
    horizons = np.broadcast_to(settings.horizon_steps, len(tasks)).clip(max=family.spec.horizon_steps)
    records = []
    for row, (task, seed) in enumerate(zip(tasks, attempt.seeds, strict=True)):
        environment = attempt.environments[row]
        observation, _ = environment.reset(seed=seed % 2**31, options={"task": task})
        if not np.isfinite(observation).all():
            raise ValueError(f"the environment gave an observation that is not finite at the reset to task {task.name}")
        records.append(_Recorder(np.array(observation), np.array(family.goal(environment)), int(horizons[row])))
    return records


def _step(attempt: Attempt, row: int, action: np.ndarray, number: int) -> tuple[np.ndarray, float, bool, bool]:
    # Copies both ways: an environment may work in what it is given and hand out the same array every time.
    observation, reward, terminated, truncated, info = attempt.environments[row].step(action.copy())
    where = f"step {number} of task {attempt.sessions[row].task.name}"
    if not (np.isfinite(observation).all() and np.isfinite(float(reward))):
        raise ValueError(f"the environment gave an observation or a reward that is not finite at {where}")
    if "success" not in info:
        raise ValueError(f'the environment did not say whether the task is solved (info["success"]) at {where}')
    return np.array(observation), float(reward), bool(info["success"]), bool(terminated or truncated)


def _check_actions(actions: np.ndarray, tasks: list[Task], rows: np.ndarray, number: int, source: str) -> None:
    finite = np.isfinite(actions).all(axis=1)
    if not finite.all():
        bad = tasks[int(rows[~finite][0])]
        raise ValueError(f"{source} gave an action that is not finite at step {number} of task {bad.name}")
