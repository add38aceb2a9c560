"""A results table played again on a sample of its entries: does it reproduce?

A table is rerun from the configuration that lies beside it: `config.yaml` of a run directory, with the demonstrations
and the trained methods there, or `NAME.yaml` beside a committed `NAME.csv`, which names a checkpoint; demonstrations
are then made anew, in a folder that is removed. Trap: only whole groups of partners are played, because a control
shows one entry the trials of another; and networks that act in batches may differ in the last bit with their size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from wtl.analysis.episodes import CurveKey, curve_name, to_table
from wtl.analysis.results import KEY_COLUMNS, read_results
from wtl.analysis.runs import results_file
from wtl.analysis.tables import Cells, Table
from wtl.app.config import RunConfig, load_config
from wtl.app.pipeline import Pipeline
from wtl.app.progress import progress_of


@dataclass(frozen=True, eq=False)
class Verification:
    """What came of playing a part of a table again."""

    name: str
    pairs: pd.DataFrame
    """One row an episode: method, control, and success, return and steps, `_table` and `_again`; `same_entry` is False
    where the digests say that task, start or demonstration is another one."""
    left_out: tuple[str, ...]
    """Methods and controls of the table that were not played again."""

    @property
    def same_outcome(self) -> pd.Series:
        """Whether each episode succeeded or failed as it did then."""
        return self.pairs["success_table"] == self.pairs["success_again"]

    @property
    def same_bits(self) -> pd.Series:
        """Whether each episode was as long, and its return the same to the last bit."""
        same = [self.pairs[f"{name}_table"] == self.pairs[f"{name}_again"] for name in ("return", "steps")]
        return self.same_outcome & same[0] & same[1]

    @property
    def reproduces(self) -> bool:
        """True if no episode ended otherwise."""
        return bool(self.same_outcome.all())

    @property
    def words(self) -> str:
        """The answer, in one sentence."""
        n, ended, bits = len(self.pairs), int((~self.same_outcome).sum()), int((~self.same_bits).sum())
        if ended:
            return f"{self.name} does NOT reproduce: {ended} of {n} episodes ended otherwise"
        if bits:
            return f"{self.name} reproduces in outcome: all {n} episodes, {bits} of them with another return or length"
        return f"{self.name} reproduces: all {n} episodes are the same to the last bit"

    def table(self) -> Table:
        """Return one line for each method and control."""
        lines: list[Cells] = []
        keys = [(str(method), str(control)) for method, control in self.pairs[["method", "control"]].to_numpy()]
        checked = self.pairs.assign(bits=self.same_bits, outcome=self.same_outcome, curve=keys)
        for key in dict.fromkeys(keys):
            rows = checked[checked["curve"] == key]
            rates = (f"{100 * rows[f'success_{side}'].mean():.0f}" for side in ("table", "again"))
            lines.append((curve_name(key), str(len(rows)), str(rows["bits"].sum()), str(rows["outcome"].sum()), *rates))
        notes = [f"{self.words}."]
        if self.left_out:
            notes.append(f"Not played again, because the configuration does not name them: {', '.join(self.left_out)}.")
        if not self.pairs["same_entry"].all():
            notes.append("Some entries are not those of the table: their digests differ.")
        header = ("method.control", "episodes", "same bits", "same success", "success then, %", "success now, %")
        return Table(f"{self.name}: a sample of its entries, played again", header, (tuple(lines),), tuple(notes))


def tables_of(path: Path) -> list[tuple[Path, Path]]:
    """Return the tables of a folder, or one table, each with the configuration from which it can be played again.

    Raises:
        FileNotFoundError: there is no table, or no configuration beside it.
    """
    if path.is_dir() and (path / "config.yaml").is_file():
        return [(results_file(path), path / "config.yaml")]
    candidates = sorted(path.glob("*.csv")) if path.is_dir() else [results_file(path)]
    found = [(table, table.with_suffix(".yaml")) for table in candidates if table.with_suffix(".yaml").is_file()]
    if not found:
        raise FileNotFoundError(
            f"{path} cannot be verified: expected a run directory with config.yaml, or a NAME.csv with the NAME.yaml "
            "beside it from which it can be played again"
        )
    return found


def verify(path: Path, groups: int, overrides: list[str], console: Console) -> Iterator[Verification]:
    """Play `groups` groups of two or three entries of each family again, for every table of a folder.

    Args:
        overrides: `key=value`, for instance `workers=2`.

    Raises:
        FileNotFoundError: see `tables_of`.
        ValueError: nothing in the table is what the configuration would play, or it needs a training first.
    """
    if any(override.startswith("directory=") for override in overrides):
        raise ValueError(f"a table is verified where it lies, in {path}; leave `directory` out")
    for table, configuration in tables_of(path):
        if configuration.name == "config.yaml":
            config = load_config(str(configuration), [*overrides, f"directory={configuration.parent}"])
            yield _verify(table, config, groups, console)
        else:
            with tempfile.TemporaryDirectory() as folder:
                config = load_config(str(configuration), [*overrides, f"directory={folder}"])
                yield _verify(table, config, groups, console)


def _verify(table: Path, config: RunConfig, groups: int, console: Console) -> Verification:
    then = to_table(read_results(table))
    if config.protocol.name not in set(then["protocol"]):
        raise ValueError(f"{table} was not played under {config.protocol.name!r}, which its configuration says")
    pipeline = Pipeline(config, console)
    try:
        plan = pipeline.plan
        missing = [step.name for step in pipeline.steps() if step.train and not step.stage.finished()]
        if missing:
            raise ValueError(
                f"{table} cannot be played again: not trained here are {', '.join(missing)}; name a checkpoint in its "
                "configuration (`checkpoint: FOLDER`)"
            )
        pipeline.run(only="demonstrations")
        with tempfile.TemporaryDirectory() as folder, progress_of("verify", console) as progress:
            rows = plan.evaluation_stage().sample(
                plan.contestants(), Path(folder), pipeline.executor, progress, groups=groups
            )
    finally:
        pipeline.close()
    return _paired(table, then, to_table(rows))


def _paired(table: Path, then: pd.DataFrame, now: pd.DataFrame) -> Verification:
    # The protocol stands in the row, not in the key: a file may hold several.
    keys = [*KEY_COLUMNS, "protocol"]
    pairs = then.merge(now, on=keys, suffixes=("_table", "_again"))
    if pairs.empty:
        raise ValueError(f"{table} holds no entry that its configuration would play: other tasks, seeds or methods")
    played = {_key(row) for row in pairs[["method", "control"]].itertuples()}
    all_keys = {_key(row) for row in then[["method", "control"]].itertuples()}
    digests = pairs["entry_digest_table"], pairs["entry_digest_again"]
    same = (digests[0] == "") | (digests[0] == digests[1])
    return Verification(
        str(table), pairs.assign(same_entry=same), tuple(curve_name(key) for key in sorted(all_keys - played))
    )


def _key(row: object) -> CurveKey:
    return str(row.method), str(row.control)  # type: ignore[attr-defined]
