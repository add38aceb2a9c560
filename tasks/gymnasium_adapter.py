"""This module makes a task family of any gymnasium environment, so that nobody has to fork the package for one.

A task is an environment with its seed: `reset(seed=...)` must fix everything that differs between tasks, the hidden
goal included. The environment needs flat observations and a box of actions; wrappers of gymnasium make them so.
Trap: `make` is pickled and called inside workers, so it is a function of a module or a `functools.partial`, not a
lambda. Source: https://gymnasium.farama.org/api/env.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from wtl.core.rng import seed_for
from wtl.core.task import FamilySpec, Split, Task

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class GymnasiumStep:
    """A step is what the environment returned for one action."""

    observation: np.ndarray
    """(O,) float64, after the action."""
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


@dataclass(frozen=True)
class GymnasiumFamily:
    """A family is one gymnasium environment; its tasks are seeds.

    An episode ends where the environment terminates or truncates, or after `spec.horizon_steps`. Observations are
    copied, because an environment may reuse its array. Actions arrive within [-1, 1] and are stretched to the bounds
    of the environment's action space.

    For instance `GymnasiumFamily(spec, functools.partial(gymnasium.make, "Pusher-v5"), is_solved=is_near)`.
    """

    spec: FamilySpec
    """Its layout and sizes must be the environment's; whether the goal is hidden, its author has to know."""
    make: Callable[..., gymnasium.Env[Any, Any]]
    """This is called without arguments, or with `render_mode="rgb_array"` where pictures are wanted."""
    is_solved: Callable[[GymnasiumStep], bool] | None = None
    """Says whether the task is solved now; without it `info["success"]` says so, and has to be there at every step."""
    expert: Callable[[gymnasium.Env[Any, Any]], np.ndarray] | None = None
    """The expert's action (A,) in [-1, 1] in the present state of the environment that `make` returned. Without it
    expert labels are NaN, and demonstrations have to be brought along (`demonstrations.own`)."""
    find_goal: Callable[[gymnasium.Env[Any, Any]], np.ndarray] | None = None
    """Where the expert goes (G,), in world coordinates, read after a reset. Without it goals are NaN, and methods
    that are trained on goals cannot be used."""
    reset_options: Callable[[int], dict[str, Any]] | None = None
    """The `options` of the environment's reset, from its seed; without it there are none."""

    def make_environment(self, render: bool = False) -> GymnasiumEnvironment:
        """Return a new environment. Raises ValueError if its spaces do not fit the spec."""
        return GymnasiumEnvironment(self, self.make(render_mode="rgb_array") if render else self.make())

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """Return `count` tasks, whose environment seeds, all below 2**32, no other split has."""
        name = self.spec.name
        first = seed_for(seed, "gymnasium", name) % 2**31
        seeds = [first + len(_SPLITS) * i + _SPLITS.index(split) for i in range(count)]
        names = [f"{name}/{split}/{i}" for i in range(count)]
        return tuple(Task(name, split, own, (float(s),), own) for own, s in zip(names, seeds, strict=True))

    def with_other_start(self, task: Task, seed: int) -> Task:
        """This raises ValueError: a seed fixes start and goal together."""
        raise ValueError(
            f"{self.spec.name} has no other start for the goal of {task.name}, because one seed fixes both; "
            "use regime `family`"
        )

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (G,), where the expert goes; NaN without `find_goal`. Raises ValueError for another size."""
        assert isinstance(environment, GymnasiumEnvironment)
        if self.find_goal is None:
            return np.full(self.spec.goal_size, np.nan)
        return _vector(self.find_goal(environment.inner), self.spec.goal_size, f"{environment.place}: goal")

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """Return (A,), clipped to [-1, 1]; NaN without `expert`. Raises ValueError for another size."""
        assert isinstance(environment, GymnasiumEnvironment)
        if self.expert is None:
            return np.full(self.spec.action_size, np.nan)
        size = self.spec.action_size
        return np.clip(_vector(self.expert(environment.inner), size, f"{environment.place}: expert action"), -1.0, 1.0)


class GymnasiumEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """An environment is somebody's gymnasium environment that is reset with a `Task` of its family."""

    def __init__(self, family: GymnasiumFamily, inner: gymnasium.Env[Any, Any]) -> None:
        spec, space = family.spec, inner.action_space
        self._family, self.inner = family, inner
        self._task: Task | None = None
        self._steps, self._has_ended = 0, True
        if not isinstance(space, gymnasium.spaces.Box) or space.shape != (spec.action_size,):
            raise ValueError(f"{spec.name} expects a box of {spec.action_size} actions, got the space {space}")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ValueError(f"{spec.name} expects bounded actions, got {space}; wrap it in RescaleAction")
        self._low, self._high, self._dtype = np.array(space.low, float), np.array(space.high, float), space.dtype
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (spec.layout.size,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (spec.action_size,), np.float32)

    @property
    def place(self) -> str:
        """The text says where an error happened: family, task and step."""
        task = self._task.name if self._task else "none"
        return f"{self._family.spec.name}, task {task}, step {self._steps}"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Return the first observation, (O,) float64, and the environment's info.

        `options={"task": Task}` is required. Raises ValueError for a task of another family or without a seed.
        """
        task, name = (options or {}).get("task"), self._family.spec.name
        if not isinstance(task, Task) or task.family != name:
            raise ValueError(f"{name} is reset with options={{'task': a task of {name}}}, got {task!r}")
        if len(task.parameters) != 1 or not 0 <= task.parameters[0] < 2**32:
            raise ValueError(f"task {task.name} of {name} must have one parameter, a seed, got {task.parameters}")
        self._task, self._steps, self._has_ended = task, 0, False
        own = int(task.parameters[0])
        reset_options = self._family.reset_options(own) if self._family.reset_options else None
        begun = self.inner.reset(seed=own, options=reset_options)
        if not isinstance(begun, tuple) or len(begun) != 2:
            raise ValueError(f"{self.place}: reset must return (observation, info), got {type(begun).__name__}")
        if seed is not None:
            self.inner.unwrapped.np_random = np.random.default_rng(seed)
            self.inner.action_space.seed(seed)
        return self._observed(begun[0]), dict(begun[1])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return gymnasium's, with `info["success"]`; `action` (A,) lies in [-1, 1].

        Raises:
            ValueError: an action, observation or reward that is not finite, an observation of another size, no success
                in `info`, or a step after the end of the episode.
        """
        if self._has_ended:
            raise ValueError(f"{self.place}: the episode has ended; reset the environment first")
        if not np.isfinite(action).all():
            raise ValueError(f"{self.place}: the action is not finite; a family without `expert` shows nothing itself")
        stretched = self._low + (np.clip(action, -1.0, 1.0).astype(float) + 1.0) / 2.0 * (self._high - self._low)
        returned = self.inner.step(stretched.astype(self._dtype))
        self._steps += 1
        if not isinstance(returned, tuple) or len(returned) != 5:
            raise ValueError(
                f"{self.place}: step must return (observation, reward, terminated, truncated, info), "
                f"got {type(returned).__name__}"
            )
        observation, reward, terminated, truncated, info = returned
        self._has_ended = bool(terminated or truncated)
        if not isinstance(reward, SupportsFloat) or not np.isfinite(float(reward)):
            raise ValueError(f"{self.place}: the reward is not a finite number, got {reward}")
        step = GymnasiumStep(self._observed(observation), float(reward), bool(terminated), bool(truncated), info)
        success = self._success(step)
        return step.observation, step.reward, step.terminated, step.truncated, {**info, "success": success}

    def _observed(self, observation: Any) -> np.ndarray:
        return _vector(observation, self._family.spec.layout.size, f"{self.place}: observation")

    def _success(self, step: GymnasiumStep) -> Any:
        if self._family.is_solved is not None:
            return bool(self._family.is_solved(step))
        if "success" not in step.info:
            known = ", ".join(step.info) or "nothing"
            raise ValueError(f"{self.place}: info holds no `success`, only {known}; give the family `is_solved`")
        return step.info["success"]  # the environment loop says what it may be

    def render(self) -> Any:
        """Return the environment's own picture."""
        return self.inner.render()

    def close(self) -> None:
        """This closes the environment."""
        self.inner.close()


def _vector(value: Any, size: int, what: str) -> np.ndarray:
    """Return a copy, (size,) float64. Raises ValueError for another size or numbers that are not finite."""
    array = np.array(value, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"{what} must have shape ({size},), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} is not finite, got {array.tolist()}")
    return array
