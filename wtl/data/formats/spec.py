"""What a format of episodes is, and how an episode becomes plain fields and back.

Someone's own data need observations, actions, rewards, successes and a task id, nothing else; what else is there is
kept. Everything is checked here, so that what is wrong is one sentence with the episode, the task and the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np

from wtl.core.bounds import shown
from wtl.core.episode import Episode, Role, Trajectory
from wtl.core.task import Split, Task

SPLITS: tuple[str, ...] = get_args(Split)
DEALT = "dealt"
"""Of every five tasks three go to the training split, one to validation and one to the test split."""
_DEAL = ("train", "train", "train", "validation", "test")


class FormatError(ValueError):
    """Data that cannot be read or written; the message is one sentence for the user."""


@dataclass(frozen=True)
class ImportSettings:
    """What data from outside do not say of themselves."""

    family: str = ""
    """The family of all episodes; empty where their task ids (`FAMILY/SPLIT/NAME`) or the data say it."""
    split: str = ""
    """The split of all episodes: train, validation, test, or `dealt`; empty where their task ids or the data say it."""
    observations: tuple[str, ...] = ()
    """The parts of an observation that are read, in this order, where it has several (a dictionary)."""
    solved_reward: float | None = None
    """The reward from which on a step counts as solved, where successes are not recorded."""

    def __post_init__(self) -> None:
        if self.split not in ("", *SPLITS, DEALT):
            raise FormatError(f"--split must be one of {', '.join(SPLITS)}, {DEALT}, got {self.split!r}")
        if self.solved_reward is not None and not np.isfinite(self.solved_reward):
            raise FormatError(f"--solved-reward must be a finite number, got {self.solved_reward}")


Fields = Mapping[str, Any]
"""An episode as plain values: `observations`, `actions`, `rewards`, `successes` (arrays) and `task` (its id); perhaps
`expert_actions`, `goal`, `parameters` (arrays), `family`, `split`, `goal_name`, `role`, `attempt`, `seed`, `source`."""
NEEDED = ("observations", "actions", "rewards", "successes")
ABOUT = ("family", "split", "goal_name", "role", "attempt", "seed", "source")
"""The fields that are text or whole numbers, beside `task`."""


@dataclass(frozen=True)
class Format:
    """Somebody's format."""

    name: str
    recognises: Callable[[str], bool]
    """Whether a path, or the name of a data set, is of this format by its looks."""
    read: Callable[[str, ImportSettings], Iterator[Fields]]
    """Yields the episodes of a path. Raises FormatError for what cannot be read."""
    write: Callable[[Iterable[Episode], Path], None]
    """Writes all episodes to a path that does not exist yet. Further arrays of a trajectory are held by no format."""


def fields_of(episode: Episode) -> dict[str, Any]:
    """Return an episode as plain values, complete but for further arrays."""
    trajectory, task = episode.trajectory, episode.task
    return {
        "task": task.name, "family": task.family, "split": task.split, "goal_name": task.goal_name,
        "parameters": np.array(task.parameters, np.float64), "goal": episode.goal,
        "role": episode.role, "attempt": episode.attempt, "seed": episode.seed, "source": episode.source,
        "observations": trajectory.observations, "actions": trajectory.actions, "rewards": trajectory.rewards,
        "successes": trajectory.successes, "expert_actions": episode.expert_actions,
    }  # fmt: skip


class EpisodeReader:
    """Makes checked episodes of fields, one after the other."""

    def __init__(self, path: str, settings: ImportSettings) -> None:
        self._path, self._settings = path, settings
        self._tasks: dict[str, int] = {}

    def episode(self, number: int, fields: Fields) -> Episode:
        """Return episode `number`. Raises FormatError with its number and task for what is missing or wrong."""
        where = f"episode {number} of {self._path}"
        task = self._task(number, fields, where)
        where = f"{where} (task {task.name})"
        trajectory = self._trajectory(fields, where)
        labels = fields.get("expert_actions")
        role = _text(fields, "role", "demonstration")
        if role not in get_args(Role):
            raise FormatError(f"{where}: role must be one of {', '.join(get_args(Role))}, got {role!r}")
        episode = Episode(
            trajectory=trajectory,
            task=task,
            role=role,  # type: ignore[arg-type]
            attempt=_whole(fields, "attempt", where),
            seed=_whole(fields, "seed", where),
            source=_text(fields, "source", Path(self._path).name),
            goal=_floats(fields.get("goal", ()), f"{where}: goal"),
            # Whoever demonstrates is the expert, so what she did is what an expert does.
            expert_actions=trajectory.actions if labels is None else _matrix(labels, f"{where}: expert_actions"),
        )
        return episode

    def _task(self, number: int, fields: Fields, where: str) -> Task:
        name = _text(fields, "task", "")
        parts = name.split("/")
        named = parts if len(parts) > 2 and parts[1] in SPLITS else ["", ""]
        family = self._settings.family or _text(fields, "family", named[0])
        split = self._settings.split or _text(fields, "split", named[1])
        if not family or not split:
            raise FormatError(
                f"{where} has {f'the task id {name!r}' if name else 'no task id'}, which does not say its "
                f"{'split' if family else 'family'}: an id reads FAMILY/SPLIT/NAME, or give --family and --split"
            )
        name = name or f"{family}/own/{number}"
        if split == DEALT:
            split = _DEAL[self._tasks.setdefault(name, len(self._tasks)) % len(_DEAL)]
        if split not in SPLITS:
            raise FormatError(f"{where}: split must be one of {', '.join(SPLITS)}, got {split!r}")
        parameters = _floats(fields.get("parameters", ()), f"{where} (task {name}): parameters")
        if not np.isfinite(parameters).all():
            raise FormatError(f"{where} (task {name}): parameters must be finite, got {parameters.tolist()}")
        return Task(family, split, name, tuple(parameters), _text(fields, "goal_name", name))  # type: ignore[arg-type]

    def _trajectory(self, fields: Fields, where: str) -> Trajectory:
        missing = [name for name in NEEDED if fields.get(name) is None]
        solved = self._settings.solved_reward
        if missing == ["successes"] and solved is not None:
            fields = {**fields, "successes": _floats(fields["rewards"], f"{where}: rewards") >= solved}
        elif missing:
            hint = "; give --solved-reward R if a step with reward R solves the task" if "successes" in missing else ""
            raise FormatError(f"{where} has no {', no '.join(missing)}{hint}")
        return make_trajectory(fields, where)


def make_trajectory(fields: Fields, where: str) -> Trajectory:
    """Return a trajectory of somebody's arrays, checked. Raises FormatError for what is wrong with them."""
    if _is_empty(fields["actions"]):
        raise FormatError(f"{where} has no step")
    successes = _floats(fields["successes"], f"{where}: successes")
    if not np.isin(successes, (0.0, 1.0)).all():
        raise FormatError(f"{where}: successes must be true or false")
    observations, actions = (_matrix(fields[n], f"{where}: {n}") for n in ("observations", "actions"))
    rewards, steps = _floats(fields["rewards"], f"{where}: rewards"), len(actions)
    for name, array, expected in (
        ("observations", observations, steps + 1), ("rewards", rewards, steps), ("successes", successes, steps),
    ):  # fmt: skip
        if len(array) != expected:
            last = ", the last one after the last action" if name == "observations" else ""
            raise FormatError(f"{where} has {steps} actions and {len(array)} {name}, expected {expected}{last}")
    with np.errstate(over="ignore"):  # found by `check_numbers`
        trajectory = Trajectory(observations, actions, rewards, successes.astype(bool))
    check_numbers(trajectory, where)
    return trajectory


def check_numbers(trajectory: Trajectory, where: str) -> None:
    """Raises FormatError for a number that is not finite or an action outside [-1, 1], with its step."""
    for name in ("observations", "actions", "rewards"):
        array = getattr(trajectory, name)
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            raise FormatError(f"{where}: {name} hold a number that is not finite at step {int(finite.argmin())}")
    outside = np.abs(trajectory.actions).max(axis=1) > 1.0
    if outside.any():
        step = int(outside.argmax())
        largest = trajectory.actions[step][np.abs(trajectory.actions[step]).argmax()]
        raise FormatError(f"{where}: actions must lie in [-1, 1], got {largest:g} at step {step}; rescale them")


def _is_empty(value: Any) -> bool:
    try:
        return np.size(value) == 0
    except (ValueError, RuntimeError):  # no array at all, which is found elsewhere
        return False


def _text(fields: Fields, name: str, default: str) -> str:
    value = fields.get(name)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return default if value is None else str(value)


def _whole(fields: Fields, name: str, where: str) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    try:
        number = int(value)
        if number < 0 or (not isinstance(value, str) and number != value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise FormatError(f"{where}: {name} must be a whole number from 0 on, got {shown(value)}") from None
    return number


def _floats(value: Any, what: str, dimensions: int = 1) -> np.ndarray:
    try:
        array = np.asarray([] if value is None else value)
        if array.dtype.kind == "O" and all(isinstance(entry, Real) for entry in array.flat):
            array = array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):  # the last is torch's
        array = np.asarray("")
    if array.dtype.kind not in "biuf":  # texts, times and complex numbers would be turned into numbers without a word
        raise FormatError(f"{what} are no numbers in rows of equal length")
    if array.ndim == 2 and dimensions == 1 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != dimensions:
        expected = "one number a step" if dimensions == 1 else "one row of numbers a step"
        raise FormatError(f"{what} must hold {expected}, got the shape {array.shape}")
    return array


def _matrix(value: Any, what: str) -> np.ndarray:
    return _floats(value, what, dimensions=2)


def joined(parts: Mapping[str, np.ndarray], names: tuple[str, ...], where: str) -> np.ndarray:
    """Return the parts of the observations of an episode beside one another, (T + 1, O).

    Raises:
        FormatError: an unknown part, or several parts and no choice.
    """
    known = ", ".join(parts)
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise FormatError(f"{where}: observations have no part {unknown[0]!r}; they have {known}")
    if not names and len(parts) != 1:
        raise FormatError(f"{where}: observations have the parts {known}; choose with --observation NAME, in order")
    chosen = [np.asarray(parts[name]) for name in names or parts]
    return np.concatenate([part.reshape(len(part), -1) for part in chosen], axis=1)
