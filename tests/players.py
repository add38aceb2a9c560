"""A family without a simulator and players without a network: what tests of the loop and of the stages play with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from wtl.core.episode import Context, Trajectory
from wtl.core.rng import stream
from wtl.core.task import FamilySpec, ObservationLayout, Task
from wtl.play.policy import Attempt, FromContext, Policy, Session, StepBatch

SPEC = FamilySpec("line", ObservationLayout(2, 2, (0,)), 3, 10, 2, True, 1.0, gripper_index=2)
"""Three action numbers, the last one of which is a gripper."""
Tape = list[tuple[str, ...]]


class LineEnvironment(gymnasium.Env[Any, Any]):
    """Counts its steps and succeeds at the step that its task names; writes down what is done to it."""

    def __init__(self, tape: Tape) -> None:
        self.tape, self.task, self.step_number, self.actions = tape, "", 0, []
        self.seeds: list[Any] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        task = options["task"]
        self.task, self.solved_at, self.step_number, self.actions = task.name, task.parameters[0], 0, []
        self.seeds.append(seed)
        self.tape.append(("reset", self.task))
        return np.zeros(2), {}

    def step(self, action: np.ndarray) -> Any:
        self.step_number += 1
        self.actions.append(action)
        self.tape.append(("step", self.task))
        info = {"success": self.step_number == self.solved_at}
        return np.array([self.step_number, 0.0]), float(self.step_number), False, False, info

    def close(self) -> None:
        self.tape.append(("close", self.task))


class LineFamily:
    """A family that knows no Meta-World."""

    def __init__(
        self, tape: Tape | None = None, spec: FamilySpec = SPEC, make: Callable[[Tape], Any] = LineEnvironment
    ) -> None:
        self.spec, self.tape, self._make = spec, [] if tape is None else tape, make

    def make_environment(self, render: bool = False) -> Any:
        return self._make(self.tape)

    def sample_tasks(self, count: int, seed: int, split: Any) -> tuple[Task, ...]:
        name = self.spec.name
        return tuple(Task(name, split, f"{name}/{split}/{i}", (1.0 + i,), f"{i}") for i in range(count))

    def with_other_start(self, task: Task, seed: int) -> Task:
        raise ValueError("one start only")

    def goal(self, environment: Any) -> np.ndarray:
        self.tape.append(("goal", environment.task))
        return np.ones(2)

    def expert_action(self, environment: Any) -> np.ndarray:
        self.tape.append(("expert", environment.task))
        return np.full(3, 0.25)


def line_family(name: str) -> LineFamily:
    """A family of this name."""
    return LineFamily(spec=replace(SPEC, name=name))


def make_attempt(
    family: Any, tasks: Sequence[Task], seeds: Sequence[int] = (), environments: Any = None, number: int = 0
) -> Attempt:
    """An attempt with empty contexts; seeds are 0, 1, 2, ... unless they are given."""
    sessions = [Session(task, Context(), (), 0) for task in tasks]
    environments = environments or [family.make_environment() for _ in tasks]
    seeds = seeds or range(len(tasks))
    return Attempt(family, environments, sessions, [Context()] * len(tasks), seeds, number)


class FixedPolicy:
    """A player and its policy: a fixed action, and a note of every call."""

    source = "me"

    def __init__(
        self, action: Callable[[np.ndarray], Any] = lambda rows: np.zeros((len(rows), 3)), tape: Any = None
    ) -> None:
        self.action, self.tape = action, [] if tape is None else tape
        self.steps: list[StepBatch] = []

    def policy(self, attempt: Any) -> Policy:
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        self.steps.append(step)
        self.tape.append(("act", *map(str, step.rows)))
        return self.action(step.rows)


@dataclass(frozen=True)
class Directions:
    """A method that goes straight on, in a direction that follows from every number of its context and its seed."""

    action_size: int = 2
    source: str = "directions"

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        """See `Method.adapt`."""
        drawn = [stream(seed, *_numbers(context)).uniform(-1, 1, self.action_size)
                 for context, seed in zip(contexts, seeds, strict=True)]  # fmt: skip
        return _Straight(np.array(drawn))


@dataclass(frozen=True)
class _Straight:
    directions: np.ndarray

    def act(self, step: StepBatch) -> np.ndarray:
        return self.directions[step.rows]


def _numbers(context: Context) -> list[str]:
    return [_digest(t) for t in (*context.demonstrations, *context.trials)] + [str(len(context.demonstrations))]


def _digest(t: Trajectory) -> str:
    return " ".join(str(a.tobytes()) for a in (t.observations, t.actions, t.rewards, t.successes))


def make_directions(spec: FamilySpec) -> FromContext:
    """What workers make of it."""
    return FromContext(Directions(spec.action_size))
