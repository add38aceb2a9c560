"""HDF5 as robomimic lays it out: one group an episode, `data/demo_N`, with obs, next_obs, actions, rewards, dones.

What robomimic has no place for stands beside it, where its readers pass it by: successes and expert labels as data
sets, the task as attributes. Splits are robomimic's filter keys (`mask`). Source: robomimic 0.3,
https://robomimic.github.io/docs/datasets/overview.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wtl.core.episode import Episode
from wtl.data.formats.spec import ABOUT, Fields, Format, FormatError, ImportSettings, fields_of, joined

_OBSERVATION = "state"
_GYM = 2
"""robomimic's `EnvType.GYM_TYPE`."""
_MASKS = {"train": "train", "validation": "valid", "test": "test"}
"""robomimic's names of the splits."""


def _write(episodes: Iterable[Episode], path: Path) -> None:
    masks: dict[str, list[str]] = {name: [] for name in _MASKS.values()}
    families: dict[str, None] = {}
    steps = 0
    with h5py.File(path, "w-") as file:
        data = file.create_group("data")
        for number, episode in enumerate(episodes):
            fields, name = fields_of(episode), f"demo_{number}"
            demo = data.create_group(name)
            observations = fields["observations"]
            demo.create_dataset(f"obs/{_OBSERVATION}", data=observations[:-1])
            demo.create_dataset(f"next_obs/{_OBSERVATION}", data=observations[1:])
            for array in ("actions", "rewards", "successes", "expert_actions"):
                demo.create_dataset(array, data=fields[array])
            length = len(episode.trajectory)
            demo.create_dataset("dones", data=np.arange(length) == length - 1, dtype=np.int64)
            demo.attrs.update({"num_samples": length, "goal": fields["goal"], "parameters": fields["parameters"]})
            demo.attrs.update({key: fields[key] for key in ("task", *ABOUT)})
            masks[_MASKS[episode.task.split]].append(name)
            families[episode.task.family] = None
            steps += length
        about = {"env_name": ", ".join(families), "env_type": _GYM, "env_kwargs": {}}
        data.attrs.update({"total": steps, "env_args": json.dumps(about)})
        for name, demos in masks.items():
            if demos:
                file.create_dataset(f"mask/{name}", data=np.array(demos, dtype="S"))


def _read(path: str, settings: ImportSettings) -> Iterator[Fields]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(f"{path} cannot be read as HDF5: {str(error).splitlines()[0]}") from error
    with file:
        data = file.get("data")
        if not isinstance(data, h5py.Group):
            raise FormatError(f"{path} is not laid out as robomimic's data are: there is no group `data`")
        splits = _splits(file)
        for name in sorted(data, key=_number):
            try:
                yield _fields(data[name], splits.get(name), settings, f"{name} of {path}")
            except (KeyError, OSError, AttributeError) as error:
                raise FormatError(f"{name} of {path} is damaged or not laid out as robomimic's: {error}") from error


def _fields(demo: Any, split: str | None, settings: ImportSettings, where: str) -> Fields:
    fields: dict[str, Any] = {"split": split}
    fields |= {key: demo.attrs[key] for key in ("task", "goal", "parameters", *ABOUT) if key in demo.attrs}
    arrays = ("actions", "rewards", "successes", "expert_actions")
    fields |= {key: demo[key][()] for key in arrays if key in demo}
    if "obs" in demo:
        before = joined({key: demo["obs"][key][()] for key in demo["obs"]}, settings.observations, where)
        if "next_obs" not in demo:
            raise FormatError(f"{where} has no next_obs, so the observation after its last action is not known")
        after = joined({key: demo["next_obs"][key][-1:] for key in demo["next_obs"]}, settings.observations, where)
        fields["observations"] = np.concatenate([before, after])
    return fields


def _splits(file: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for split, name in _MASKS.items():
        if f"mask/{name}" in file:
            found |= {demo.decode(): split for demo in file[f"mask/{name}"][()].tolist()}
    return found


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdecimal() else -1, name)


FORMAT = Format("hdf5", lambda name: Path(name).suffix in (".hdf5", ".h5"), _read, _write)
