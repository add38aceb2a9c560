"""Evaluations as they lie on disk, and which of them are one: runs that differ in their training seed alone.

A results file stands by itself: it says who is the main method, which families hide their goal, and has digests of the
configuration and of the entries. Older files do not; what they lack is then read from beside them (`settings.json`,
`families.json`), or left open. Trap: two older files look alike if they differ in something that no column holds, such
as the size of a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wtl.analysis.episodes import SAME_FOR_ALL_SEEDS, by_setting, main_method, to_table
from wtl.analysis.results import read_results
from wtl.core.records import check_files


@dataclass(frozen=True, eq=False)
class RunResults:
    """The evaluation of one run."""

    rows: pd.DataFrame
    """Its episodes; `wtl.analysis.episodes` describes the table."""
    hidden_goal_families: frozenset[str]
    """Names of the families whose first observation does not give the goal away."""
    goals_known: bool = True
    """False where neither the file nor its folder says which families hide their goal."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Runs of one setting that differ in their training seed alone; most often it is one run."""

    label: str
    setting: str
    """Regime and split, for instance `family-test`."""
    members: Mapping[str, pd.DataFrame]
    """The rows of each run, by its label."""
    hidden_goal_families: frozenset[str]
    goals_known: bool

    @property
    def rows(self) -> pd.DataFrame:
        """The rows of all of them."""
        return pd.concat(self.members.values(), ignore_index=True)

    @property
    def title(self) -> str:
        """Label and setting, for instance `ml45 (3 seeds), family-test`."""
        seeds = f" ({len(self.members)} seeds)" if len(self.members) > 1 else ""
        return f"{self.label}{seeds}, {self.setting}"


def load_run(path: Path) -> RunResults:
    """Return the evaluation of a run directory, of its `evaluation` directory, or of any results file.

    Raises FileNotFoundError if there is none, ValueError if something cannot be read; both say what to do.
    """
    file = results_file(path)
    folder = file.parent
    check_files(folder)
    rows = to_table(read_results(file))
    if rows.empty:
        raise ValueError(f"{file} holds no episodes; evaluate again")
    if rows["main"].isna().all() and file.name == "episodes.csv" and (named := _named_first(folder)):
        rows["main"] = (rows["method"] == named).astype("boolean")
    known = dict(rows[["family", "hidden_goal"]].dropna().itertuples(index=False))
    unknown = sorted(set(rows["family"]) - known.keys())
    if unknown and (folder / "families.json").is_file():
        known |= _read_families(folder / "families.json")
        unknown = sorted(set(rows["family"]) - known.keys())
        if unknown:
            raise ValueError(f"{folder / 'families.json'} must name {', '.join(unknown)}; evaluate again")
    hidden = frozenset(str(name) for name, is_hidden in known.items() if is_hidden)
    return RunResults(rows, hidden, goals_known=not unknown)


def results_file(path: Path) -> Path:
    """Return the results file of a run directory, an evaluation directory, or of a file, which is its own.

    Raises FileNotFoundError if there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run directory or results file {path}; make one with `wtl run CONFIG`")
    folder = path / "evaluation" if (path / "evaluation").is_dir() else path
    if not (folder / "episodes.csv").is_file():
        raise FileNotFoundError(f"{path} is not evaluated: no {folder / 'episodes.csv'}; run `wtl evaluate`")
    return folder / "episodes.csv"


def load_runs(paths: Iterable[Path]) -> dict[str, RunResults]:
    """Return `load_run` of each, by the name of its directory or file, or by its path where two names are the same."""
    given = list(paths)
    names = [_name(path.resolve()) for path in given]
    clash = len(set(names)) < len(names)
    return {str(path) if clash else name: load_run(path) for path, name in zip(given, names, strict=True)}


def _name(path: Path) -> str:
    """Return `ml45` for `runs/ml45/evaluation/episodes.csv`, `seed1` for `experiments/ml45/seed1.csv`."""
    if path.is_file() and path.name == "episodes.csv":
        path = path.parent
    if path.name == "evaluation":
        path = path.parent
    return path.stem if path.is_file() else path.name


def pools(runs: Mapping[str, RunResults]) -> list[Pool]:
    """Return each regime, split and protocol of these runs, those together that differ in their seed alone.

    Such runs have the same configuration but for the seed, the same main method and the same entries, and no training
    seed in common.
    """
    found: dict[Any, list[tuple[str, str, RunResults, pd.DataFrame]]] = {}
    for label, run in runs.items():
        for setting, rows in by_setting(run.rows).items():
            entries = frozenset(rows[list(SAME_FOR_ALL_SEEDS)].itertuples(index=False, name=None))
            facts = (frozenset(rows[name]) for name in ("protocol", "configuration"))
            alike, seeds = (setting, *facts, main_method(rows), entries), set(rows["train_seed"])
            number = 0
            while any(seeds & set(other["train_seed"]) for *_, other in found.get((alike, number), [])):
                number += 1
            found.setdefault((alike, number), []).append((label, setting, run, rows))
    return [
        Pool(
            label=", ".join(label for label, *_ in members),
            setting=members[0][1],
            members={label: rows for label, _, _, rows in members},
            hidden_goal_families=members[0][2].hidden_goal_families,
            goals_known=all(run.goals_known for _, _, run, _ in members),
        )
        for members in found.values()
    ]


def _read_families(path: Path) -> dict[str, bool]:
    """Return whether each family hides its goal, from `{"reach-v3": {"hidden_goal": true}, ...}`."""
    try:
        content = json.loads(path.read_text())
        families = {name: about["hidden_goal"] for name, about in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        families = {"": None}
    if not all(isinstance(hidden, bool) for hidden in families.values()):
        raise ValueError(f'{path} must hold {{"FAMILY": {{"hidden_goal": true}}, ...}}; evaluate again')
    return families


def _named_first(folder: Path) -> str:
    """Return the run's own method from the settings of its evaluation; empty where there are none."""
    path = folder / "settings.json"
    if not path.is_file():
        return ""
    try:
        return str(json.loads(path.read_text())["settings"]["methods"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        raise ValueError(f'{path} must hold {{"settings": {{"methods": [...]}}}}; evaluate again') from None
