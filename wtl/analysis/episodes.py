"""The episodes of an evaluation as one pandas table, and the groups that every report makes of it.

The table has one row per episode. Its columns are those of the CSV file, and their meaning is that of
the fields of `EpisodeResult`; no value is missing, an empty `control` stands for the method itself:

* `method`, `control`, `regime`, `split`, `family`, `task`, `demonstration`: object, each a str
* `success_last`, `main`, `hidden_goal`: boolean, `first_success`: Int64, missing in older files
* `protocol`, `configuration`, `entry_digest`: object, a str
* `train_seed`, `seed`, `attempt`, `steps`: int64
* `success`: bool
* `return`: float64, finite, in the units of the environment

Reading and checking the file is the work of `wtl.analysis.results`. Trap: a rate over rows of several
regimes or splits mixes what must not be mixed, so tables and figures keep them apart with `by_setting`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from wtl.analysis.results import COLUMNS, ENTRY_COLUMNS, EpisodeResult, digest_of_entries
from wtl.analysis.statistics import wilson_interval

CurveKey = tuple[str, str]
"""Method and control (empty for the method itself); there is one improvement curve for each."""

POOLED = ("all", "hidden_goal", "visible_goal")
"""The groups of `groups` that are not a family."""

_TYPES = dict.fromkeys(("train_seed", "seed", "attempt", "steps"), "int64") | {"success": "bool", "return": "float64"}
_TYPES |= dict.fromkeys(("success_last", "main", "hidden_goal"), "boolean") | {"first_success": "Int64"}


def to_table(rows: Iterable[EpisodeResult]) -> pd.DataFrame:
    """Return the rows as a table (see above), in their order."""
    values = [row.values for row in rows]
    return pd.DataFrame(values, columns=list(COLUMNS), dtype=object).astype(_TYPES)


SAME_FOR_ALL_SEEDS = tuple(name for name in ENTRY_COLUMNS if name != "train_seed")
"""What names an entry that was played after several trainings."""


def success_rates(episodes: pd.DataFrame, by: str = "attempt") -> pd.DataFrame:
    """Return how often the episodes of each value of the column `by` succeeded, ordered by that value.

    The columns are `by`, `n` (episodes), `successes`, `entries` (different ones, whatever the training seed), `low`
    and `high`: the 95 % Wilson interval of the rate for so many entries, because the same entries played after
    several trainings are not more entries.
    """
    numbered = episodes.assign(entries=episodes.groupby(list(SAME_FOR_ALL_SEEDS), sort=False).ngroup())
    grouped = numbered.groupby(by).agg(
        n=("success", "size"), successes=("success", "sum"), entries=("entries", "nunique")
    )
    counts = grouped.reset_index()
    intervals = [
        wilson_interval(entries * successes / n, entries)
        for n, successes, entries in zip(counts["n"], counts["successes"], counts["entries"], strict=True)
    ]
    return counts.assign(low=[i.low for i in intervals], high=[i.high for i in intervals])


def main_method(episodes: pd.DataFrame) -> str:
    """Return the method that the report is about: the one that the configuration of the run names.

    Files made before it was recorded leave it open; then it is the one with the most attempts of its own, among equals
    one with controls, then the first by name. Raises ValueError if no row stands for a method itself (with an empty
    control).
    """
    own = episodes[episodes["control"] == ""]
    if own.empty:
        raise ValueError("no method was evaluated: every row has a control")
    named = own[own["main"].fillna(False)]
    attempts = (own if named.empty else named).groupby("method")["attempt"].nunique()
    controlled = set(episodes.loc[episodes["control"] != "", "method"])
    return min(attempts.index, key=lambda method: (-attempts[method], method not in controlled, method))


def entries_name(episodes: pd.DataFrame) -> str:
    """Return what says whether two tables are of the same entries, for instance `250 entries, digest 1f0c9a2b77de`.

    The digest is of tasks, starts and demonstrations. Files made before it was recorded have one of the names alone.
    """
    count = len(episodes.drop_duplicates(list(SAME_FOR_ALL_SEEDS)))
    if (episodes["entry_digest"] != "").all():
        return f"{count} entries, digest {digest_of_entries(episodes['entry_digest'])}"
    names = episodes[list(SAME_FOR_ALL_SEEDS)].astype(str).agg("\x1f".join, axis=1)
    return f"{count} entries, digest of their names {digest_of_entries(names)}"


def main_rows(episodes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the main method itself, without its controls."""
    return episodes[(episodes["method"] == main_method(episodes)) & (episodes["control"] == "")]


def curve_name(key: CurveKey) -> str:
    """Return `method` for a method itself, `method.control` for its control."""
    method, control = key
    return f"{method}.{control}" if control else method


def curves(episodes: pd.DataFrame) -> dict[CurveKey, pd.DataFrame]:
    """Return the rows of each method and control; the main method comes first, then they go by name."""
    main = main_method(episodes)
    found: dict[CurveKey, pd.DataFrame] = dict(iter(episodes.groupby(["method", "control"])))
    return dict(sorted(found.items(), key=lambda item: (item[0][0] != main, item[0])))


def groups(
    episodes: pd.DataFrame, hidden_goal_families: frozenset[str], goals_known: bool = True
) -> dict[str, pd.DataFrame]:
    """Return the rows of `all`, `hidden_goal`, `visible_goal` and each family, without empty groups.

    Where it is not known which families hide their goal, those two are left out.
    """
    hidden = episodes["family"].isin(hidden_goal_families)
    found = {"all": episodes}
    if goals_known:
        found |= {"hidden_goal": episodes[hidden], "visible_goal": episodes[~hidden]}
    found |= dict(iter(episodes.groupby("family")))
    return {name: members for name, members in found.items() if len(members)}


def by_setting(episodes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each regime, split and protocol, by a name such as `family-test`.

    The protocol is part of the name where there are several.
    """
    several = episodes["protocol"].nunique() > 1
    grouped = episodes.groupby(["regime", "split", "protocol"])
    return {f"{r}-{s}" + (f" ({p})" if several else ""): members for (r, s, p), members in grouped}


def protocol_of(episodes: pd.DataFrame) -> str:
    """Return how the episodes were played, or what they were played by if there are several protocols."""
    return "; ".join(sorted(episodes["protocol"].unique()))


def by_attempt(episodes: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Return the rows of each attempt, in the order of the attempts."""
    return dict(iter(episodes.groupby("attempt")))
