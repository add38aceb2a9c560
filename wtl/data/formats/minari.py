"""Minari's data sets, which most published demonstrations are: a folder, or a name in Minari's own storage.

Successes and expert labels stand among the `infos`, which have an entry for the reset too; the task among the metadata
of each episode. Actions are stretched to [-1, 1] from the bounds of the data set's action space. Trap: a data set that
does not say its spaces would make Minari build the environment that it names, which runs code; it is refused. Source:
Minari 0.5, https://minari.farama.org.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from wtl.core.episode import Episode
from wtl.data.formats.spec import ABOUT, Fields, Format, FormatError, ImportSettings, fields_of, joined

_METADATA = "metadata.json"
_AT_ONCE = 100
"""Episodes that are handed to Minari together; it rewrites its metadata each time."""
_ROUNDING = 1e-6


def _folder(name: str) -> Path | None:
    """Return the folder with the metadata of a data set, given by its path or its name; None if there is none."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")).expanduser()
    candidates = (Path(name), Path(name) / "data", root / name / "data")
    return next((path for path in candidates if (path / _METADATA).is_file()), None)


def _write(episodes: Iterable[Episode], path: Path) -> None:
    episodes = iter(episodes)
    first = next(episodes)
    observation, action = first.trajectory.observations.shape[1], first.trajectory.actions.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.mkdir()
        storage = MinariStorage.new(
            path / "data",
            gymnasium.spaces.Box(-np.inf, np.inf, (observation,), np.float32),
            gymnasium.spaces.Box(-1.0, 1.0, (action,), np.float32),
        )
        name = re.sub(r"[^-_\w]", "-", path.name)
        name = name if re.search(r"-v\d+$", name) else f"{name}-v0"
        storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__})
        buffers: list[EpisodeBuffer] = []
        about: list[dict[str, Any]] = []
        for episode in chain([first], episodes):
            sizes = episode.trajectory.observations.shape[1], episode.trajectory.actions.shape[1]
            if sizes != (observation, action):
                raise FormatError(
                    f"a Minari data set has one size of observations and actions, here ({observation}, {action}), and "
                    f"{episode.task.name} has {sizes}; export each by itself, or as parquet or hdf5"
                )
            fields = fields_of(episode)
            buffers.append(_buffer(fields))
            about.append({key: fields[key] for key in ("task", "goal", "parameters", *ABOUT)})
            if len(buffers) == _AT_ONCE:
                _flush(storage, buffers, about)
        _flush(storage, buffers, about)


def _buffer(fields: Fields) -> EpisodeBuffer:
    steps, action_size = fields["actions"].shape
    nothing = np.full((1, action_size), np.nan, np.float32)
    return EpisodeBuffer(
        observations=fields["observations"],
        actions=fields["actions"],
        rewards=fields["rewards"],
        terminations=np.zeros(steps, bool),
        truncations=np.arange(steps) == steps - 1,
        infos={
            "success": np.concatenate([[False], fields["successes"]]),
            "expert_action": np.concatenate([nothing, fields["expert_actions"]]),
        },
    )


def _flush(storage: MinariStorage, buffers: list[EpisodeBuffer], about: list[dict[str, Any]]) -> None:
    first = storage.total_episodes
    storage.update_episodes(buffers)
    storage.update_episode_metadata(about, range(first, first + len(about)))
    buffers.clear()
    about.clear()


def _read(name: str, settings: ImportSettings) -> Iterator[Fields]:
    folder = _folder(name)
    if folder is None:
        raise FormatError(f"there is no Minari data set at {name!r}: give its folder, or the name of a downloaded one")
    try:
        about = json.loads((folder / _METADATA).read_text())
        if not {"observation_space", "action_space"} <= about.keys():
            raise FormatError(f"the Minari data set {name} does not say its spaces, so it cannot be read safely")
        storage = MinariStorage.read(folder)
        space = storage.action_space
        everything = range(storage.total_episodes)
        metadata = storage.get_episode_metadata(everything)
        for number, (episode, own) in enumerate(zip(storage.get_episodes(everything), metadata, strict=True)):
            yield _fields(episode, own, space, settings, f"episode {number} of {name}")
    except FormatError:
        raise
    except (OSError, KeyError, ValueError, AssertionError, TypeError, AttributeError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"the Minari data set {name} cannot be read: {reason}") from error


def _fields(episode: dict[str, Any], own: dict[str, Any], space: Any, settings: ImportSettings, where: str) -> Fields:
    infos, steps = episode["infos"] or {}, len(episode["rewards"])
    fields: dict[str, Any] = {key: own[key] for key in ("task", "goal", "parameters", *ABOUT) if key in own}
    observations = episode["observations"]
    if isinstance(observations, dict):
        observations = joined(_flat(observations), settings.observations, where)
    else:
        observations = np.asarray(observations).reshape(len(observations), -1)
    fields |= {"observations": observations, "actions": _stretched(episode["actions"], space, where)}
    fields["rewards"] = episode["rewards"]
    for key, theirs in (("successes", "success"), ("expert_actions", "expert_action")):
        if theirs in infos:
            fields[key] = np.asarray(infos[theirs])[-steps:]  # the reset has an entry too
    return fields


def _flat(parts: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for key, part in parts.items():
        found |= _flat(part, f"{prefix}{key}/") if isinstance(part, dict) else {f"{prefix}{key}": np.asarray(part)}
    return found


def _stretched(actions: Any, space: Any, where: str) -> np.ndarray:
    """Return the actions (T, A) in [-1, 1]; where these are the bounds already, as they are."""
    if not isinstance(space, gymnasium.spaces.Box):
        raise FormatError(f"{where}: actions must be a box of numbers, got the space {space}")
    array = np.asarray(actions).reshape(len(actions), -1)
    low, high = space.low.ravel().astype(float), space.high.ravel().astype(float)
    if ((low == -1.0) & (high == 1.0)).all() or not (np.isfinite(low) & np.isfinite(high)).all():
        return array
    unit = 2.0 * (array - low) / (high - low) - 1.0
    return np.where(np.abs(unit) <= 1.0 + _ROUNDING, np.clip(unit, -1.0, 1.0), unit)


FORMAT = Format("minari", lambda name: _folder(name) is not None, _read, _write)
