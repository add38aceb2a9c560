"""Bringing episodes in and out: somebody's file or data set becomes an episode store, and a store becomes a file.

Whatever is written appears under its name only when it is whole, and nothing is written over. What a format cannot
hold, and what data do not say, is returned as sentences for the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wtl.core.episode import Episode
from wtl.core.files import naming, scratch_folder
from wtl.data.formats import FORMATS, find_format
from wtl.data.formats.spec import EpisodeReader, Fields, Format, FormatError
from wtl.data.formats.spec import ImportSettings as ImportSettings
from wtl.data.histories import count_controls, read_histories
from wtl.data.store import EpisodeStore, write_store


@dataclass(frozen=True)
class Exchanged:
    """What came of an import or an export."""

    count: int
    """Episodes, or attempt histories."""
    notes: tuple[str, ...]
    """What was left out or filled in, one sentence each."""


def import_episodes(
    source: str | Path,
    directory: str | Path,
    settings: ImportSettings | None = None,
    format: str = "",
) -> Exchanged:
    """Make an episode store of somebody's episodes, for `demonstrations.own=DIRECTORY`.

    Args:
        source: a parquet or HDF5 file, or the folder or name of a Minari data set.
        directory: the store; it must not exist yet.
        settings: what the data do not say of themselves; by default nothing.
        format: `parquet`, `hdf5` or `minari`; by default the one that the source looks like.

    Raises:
        FormatError: the source cannot be read, or an episode is wrong; then nothing is written.
    """
    name, target = str(source), Path(directory)
    chosen = find_format(format) if format else _recognised(name)
    if chosen.name != "minari" and not Path(name).is_file():
        raise FormatError(f"there is no file {name}")
    settings = settings or ImportSettings()
    reader, notes = EpisodeReader(name, settings), _Notes()

    def episodes() -> Iterator[Episode]:
        for number, fields in enumerate(chosen.read(name, settings)):
            episode = reader.episode(number, fields)
            notes.add(fields, episode)
            yield episode

    with _appearing(target) as partial:
        count = write_store(partial, episodes())
        if not count:
            raise FormatError(f"{name} holds no episode")
    return Exchanged(count, notes.sentences(count))


def export_episodes(directory: str | Path, target: str | Path, format: str = "") -> Exchanged:
    """Write the episodes of a store as a parquet or HDF5 file (by its ending), or as a Minari data set (a folder).

    Raises:
        FormatError: the target exists, or the format cannot hold these episodes; then nothing is written.
        StoreError: there is no store in the directory.
    """
    path = Path(target)
    chosen = find_format(format) if format else _by_ending(path)
    store = EpisodeStore(Path(directory))
    extras = sorted({name for record in store.records for name in record.extras})
    if not len(store):
        raise FormatError(f"{directory} holds no episode")
    with _appearing(path) as partial:
        try:
            chosen.write(iter(store), partial)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{chosen.name} cannot hold the episodes of {directory}: {error}") from error
    left_out = f"{chosen.name} holds no further arrays, so {', '.join(extras)} were left out"
    return Exchanged(len(store), (left_out,) if extras else ())


def export_histories(run: str | Path, target: str | Path) -> Exchanged:
    """Write the attempt histories of an evaluated run as parquet, one row for each method and entry.

    Raises:
        FormatError: the run kept no episodes, the target exists, or its ending is not `.parquet`.
    """
    path, kept = Path(target), Path(run) / "evaluation" / "episodes"
    if path.suffix != ".parquet":
        raise FormatError(f"attempt histories are written as parquet: name a file .parquet, got {path.name}")
    if not (kept / "store.json").is_file():
        raise FormatError(f"{run} kept no episodes of its evaluation; evaluate with evaluation.keep_episodes=true")
    find_format("parquet")
    from wtl.data.formats.parquet import write_histories

    store = EpisodeStore(kept)
    histories = list(read_histories(store))
    with _appearing(path) as partial:
        write_histories(histories, partial)
    controls = count_controls(store)
    return Exchanged(len(histories), (f"{controls} episodes of controls stand in no history",) if controls else ())


class _Notes:
    """Counts what episodes from outside did not say."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, fields: Fields, episode: Episode) -> None:
        if fields.get("expert_actions") is None:
            self._count("had no expert labels: what was done stands for what an expert would do")
        if not episode.goal.size:
            self._count("had no goal: it is asked of the environment where the task is known, and else stays unknown")
        if not episode.task.parameters:
            self._count("had no parameters: they are those of the run's task of the same name, if there is one")
        if not episode.trajectory.success:
            self._count("never succeeded: as demonstrations they are left out")
        wide = [name for name in ("observations", "actions") if np.asarray(fields[name]).dtype == np.float64]
        if wide and (np.asarray(fields[wide[0]]).astype(np.float32) != fields[wide[0]]).any():
            self._count("had numbers of double precision, which were rounded to single precision")

    def _count(self, sentence: str) -> None:
        self._counts[sentence] = self._counts.get(sentence, 0) + 1

    def sentences(self, total: int) -> tuple[str, ...]:
        return tuple(f"{count} of {total} episodes {sentence}" for sentence, count in self._counts.items())


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yield a path beside the target that becomes the target if all goes well, and else leaves nothing behind."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FormatError(f"{target} exists already; choose another name or delete it")
    # Absolute, because Minari takes a relative path as one below the folder in which it writes.
    with scratch_folder(target.absolute().parent) as room:
        yield room / target.name
        with naming(target):
            (room / target.name).rename(target)


def _recognised(source: str) -> Format:
    return _first(lambda chosen: chosen.recognises(source), f"{source} is of no known format, or does not exist")


def _by_ending(path: Path) -> Format:
    return _first(
        lambda chosen: path.suffix != "" and chosen.recognises(path.name), f"cannot tell the format from {path.name}"
    )


def _first(fits: Callable[[Format], bool], otherwise: str) -> Format:
    missing = []
    for name in FORMATS:
        try:
            chosen = find_format(name)
        except FormatError as error:
            missing.append(str(error))
            continue
        if fits(chosen):
            return chosen
    hint = f"; {'; '.join(missing)}" if missing else ""
    raise FormatError(f"{otherwise}: give --format, one of {', '.join(FORMATS)}{hint}")
