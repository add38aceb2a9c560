"""Parquet: one row an episode, or an attempt history, with nested lists of numbers.

It loads as it is in pandas, polars and the `datasets` of Hugging Face. Trap: floats are written without dictionaries,
which would make one of all NaNs. Source: https://arrow.apache.org/docs/python/parquet.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wtl.core.episode import Episode
from wtl.data.formats.spec import ABOUT, NEEDED, Fields, Format, FormatError, ImportSettings, fields_of
from wtl.data.histories import History

Item = TypeVar("Item")

_ROWS = 50
"""Rows that are written and read together."""
_TEXTS = {"task", "family", "split", "goal_name", "role", "source", "method", "policy", "protocol"}
_COLUMNS = ("task", *ABOUT, "parameters", "goal", *NEEDED, "expert_actions")


def write_histories(histories: Iterable[History], path: Path) -> None:
    """Write one row a history: the task, the method, the demonstrations, and attempts 0 .. K with their rewards."""
    _write_rows(histories, _history_rows, path)


def _write(episodes: Iterable[Episode], path: Path) -> None:
    _write_rows(episodes, _episode_rows, path)


def _write_rows(items: Iterable[Item], rows: Callable[[Sequence[Item]], pa.StructArray], path: Path) -> None:
    iterator = iter(items)
    writer: pq.ParquetWriter | None = None
    try:
        while batch := list(islice(iterator, _ROWS)):
            made = rows(batch)
            if writer is None:
                writer = pq.ParquetWriter(path, pa.schema(list(made.type)), use_dictionary=False, compression="zstd")
            writer.write_batch(pa.RecordBatch.from_struct_array(made))
    finally:
        if writer is not None:
            writer.close()


def _episode_rows(episodes: Sequence[Episode]) -> pa.StructArray:
    every = [fields_of(episode) for episode in episodes]
    columns = {name: _column([fields[name] for fields in every]) for name in _COLUMNS}
    columns["success"] = pa.array([episode.trajectory.success for episode in episodes])
    columns["return"] = pa.array([episode.trajectory.total_reward() for episode in episodes])
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def _history_rows(histories: Sequence[History]) -> pa.StructArray:
    columns = {
        "task": _column([h.task.name for h in histories]),
        "family": _column([h.task.family for h in histories]),
        "split": _column([h.task.split for h in histories]),
        "seed": _column([h.seed for h in histories]),
        "method": _column([h.method for h in histories]),
        "policy": _column([h.policy for h in histories]),
        "protocol": _column([h.protocol for h in histories]),
        "demonstrations": _lists([h.demonstrations for h in histories]),
        "attempts": _lists([h.attempts for h in histories]),
    }
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def _lists(groups: Sequence[Sequence[Episode]]) -> pa.ListArray:
    every = list(chain.from_iterable(groups))
    if not every:  # somebody's type must be known all the same
        raise FormatError("the histories have no demonstrations or attempts at all, so there is nothing to write")
    return pa.ListArray.from_arrays(_offsets([len(group) for group in groups]), _episode_rows(every))


def _column(values: Sequence[Any]) -> pa.Array:
    """Return one value a row: text, whole numbers, or arrays of one or two dimensions as lists."""
    if not isinstance(values[0], np.ndarray):
        return pa.array(values, pa.string() if isinstance(values[0], str) else pa.int64())
    inner = pa.array(np.concatenate([np.ravel(value) for value in values]))
    if values[0].ndim == 2:
        inner = pa.ListArray.from_arrays(_offsets(np.repeat(*_widths(values))), inner)
    return pa.ListArray.from_arrays(_offsets([len(value) for value in values]), inner)


def _widths(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([value.shape[1] for value in values]), np.array([len(value) for value in values])


def _offsets(lengths: Sequence[int] | np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _read(path: str, settings: ImportSettings) -> Iterator[Fields]:
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
            if "observations" not in columns:
                raise FormatError(f"{path} has no column `observations`; it has {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(_ROWS, columns=columns):
                for row in range(batch.num_rows):
                    yield {name: _value(batch.column(name)[row]) for name in columns}
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from error


def _value(scalar: Any) -> Any:
    """Return text or a number as it is, and lists as arrays of one or two dimensions."""
    if not scalar.is_valid or not _is_list(scalar.type):
        return scalar.as_py()
    values = scalar.values
    if not _is_list(values.type):
        return values.to_numpy(zero_copy_only=False)
    widths = set(values.value_lengths().to_pylist())
    if len(widths) > 1 or None in widths:
        raise FormatError("rows of an observation or an action differ in length")
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(values), widths.pop() if widths else 0)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


FORMAT = Format("parquet", lambda name: Path(name).suffix == ".parquet", _read, _write)
