"""What success costs in environment steps on the new task: the share of entries solved within so many steps.

An entry is solved at the first success of any attempt; its cost is the steps of the attempts before it and of this one
up to there. An entry that no attempt solved is censored at the steps that it was played, so the share is Kaplan and
Meier's (1958, doi 10.1080/01621459.1958.10501452), with Wilson's interval for the effective number of entries
(Rothman 1978; it has a width where no entry, or every one, is solved). Steps until a share is reached have the
interval of Brookmeyer and Crowley (1982, doi 10.2307/2530286): the steps at which the band holds that share. Trap:
steps of training and those of the demonstration do not count; they are not spent on the new task.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from wtl.analysis.episodes import SAME_FOR_ALL_SEEDS, curve_name, curves, main_method, protocol_of, success_rates
from wtl.analysis.figures import COLOURS, MAIN_COLOUR, MARKERS, PIXELS_PER_INCH, check_ending
from wtl.analysis.runs import RunResults, pools
from wtl.analysis.statistics import Interval, wilson_interval
from wtl.analysis.tables import Cells, Table
from wtl.core.files import write_atomically

SHARES = (0.5, 0.8, 0.9)
"""The shares of entries for which `wtl report --cost` prints the steps."""


def steps_to_success(curve: pd.DataFrame) -> pd.DataFrame:
    """Return what each entry of one curve cost: columns `steps` and `solved`, one row an entry and training seed.

    Older files do not say at which step of an episode the success came; there the end of the episode stands for it, a
    few steps later. Attempts after the first one that succeeded are not needed and do not count.
    """
    entry = [*SAME_FOR_ALL_SEEDS, "train_seed"]
    ordered = curve.sort_values([*entry, "attempt"], kind="stable")
    before = ordered.groupby(entry)["steps"].cumsum() - ordered["steps"]
    own = ordered["first_success"].fillna(ordered["steps"]).astype("int64").where(ordered["success"], ordered["steps"])
    ordered = ordered.assign(cost=before + own)
    solved = ordered[ordered["success"]].groupby(entry)["cost"].min()
    played = ordered.groupby(entry)["cost"].max()
    steps = solved.reindex(played.index)
    return pd.DataFrame({"steps": steps.fillna(played).astype("int64"), "solved": steps.notna()}).reset_index(drop=True)


def solved_within(costs: pd.DataFrame, seeds: int = 1) -> pd.DataFrame:
    """Return the share of entries solved within so many steps, at every number of steps at which it changes.

    The columns are `steps`, `share`, `low`, `high` (95 %, at each number of steps by itself). The last row is where the
    longest entry ended, the first one is step 1 unless an entry was solved there.

    Args:
        costs: as `steps_to_success` returns them.
        seeds: trainings in which each entry was played; they are not more entries.
    """
    steps, solved = costs["steps"].to_numpy(), costs["solved"].to_numpy()
    unsolved, variance = 1.0, 0.0
    found = [(1, 0.0, *_band(1.0, 0.0, len(costs) / seeds, seeds))]
    for step in np.unique(steps):
        at_risk, events = int((steps >= step).sum()), int((solved & (steps == step)).sum())
        if events:
            unsolved *= 1 - events / at_risk
            variance += events / (at_risk * (at_risk - events)) if at_risk > events else math.inf
        if events or step == steps.max():
            found.append((int(step), 1 - unsolved, *_band(unsolved, variance, len(costs) / seeds, seeds)))
    return pd.DataFrame(found, columns=["steps", "share", "low", "high"]).drop_duplicates("steps", keep="last")


def _band(unsolved: float, variance: float, entries: float, seeds: int) -> tuple[float, float]:
    """Return the Wilson interval of the solved share for the number of entries that would have this variance."""
    greenwood = unsolved**2 * variance if unsolved > 0 else 0.0
    effective = unsolved * (1 - unsolved) / greenwood / seeds if greenwood > 0 else entries
    interval = wilson_interval((1 - unsolved) * max(1.0, effective), max(1.0, effective))
    return interval.low, interval.high


def steps_until(within: pd.DataFrame, share: float) -> tuple[float, Interval]:
    """Return the steps until this share is solved, and their 95 % interval; infinity where it was not reached."""

    def first(reached: pd.Series) -> float:
        return float(within.loc[reached, "steps"].min()) if reached.any() else math.inf

    return first(within["share"] >= share), Interval(first(within["high"] >= share), first(within["low"] >= share))


def cost_table(runs: Mapping[str, RunResults]) -> Table:
    """Return the steps until several shares of the entries are solved, by method; controls have one attempt only."""
    lines: list[Cells] = []
    protocols = set()
    for label, method, costs, curve in _costs(runs):
        within = solved_within(costs, _seeds(curve))
        end = int(costs["steps"].max())
        cells = [_steps_text(*steps_until(within, share), end) for share in SHARES]
        last = within.iloc[-1]
        solved = f"{100 * last['share']:.0f} [{100 * last['low']:.0f}, {100 * last['high']:.0f}]"
        lines.append((f"{label}: {method}", str(len(costs)), *cells, f"{end:,}", solved))
        protocols.add(protocol_of(curve))
    header = ("run: method", "n", *(f"steps until {share:.0%} solved" for share in SHARES), "longest", "solved, %")
    notes = (
        "Environment steps on the new task until an entry is solved for the first time, with 95 % intervals; > N: "
        "not reached within N steps (censored). Steps of training and of the demonstration are not counted.",
        "Protocol: " + "; ".join(sorted(protocols)) + ".",
    )
    return Table("cost in environment steps", header, (tuple(lines),), notes)


def _steps_text(steps: float, interval: Interval, end: int) -> str:
    def text(number: float) -> str:
        return f"> {end:,}" if math.isinf(number) else f"{int(number):,}"

    return f"{text(steps)} [{text(interval.low)}, {text(interval.high)}]"


def _seeds(curve: pd.DataFrame) -> int:
    return int(curve["train_seed"].nunique())


def _costs(runs: Mapping[str, RunResults]) -> list[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Return label, method, costs and rows of every method of these runs; those of one setting are pooled."""
    return [
        (pool.title, curve_name(key), steps_to_success(curve), curve)
        for pool in pools(runs)
        for key, curve in curves(pool.rows).items()
        if not key[1]
    ]


def attempt_points(curve: pd.DataFrame) -> pd.DataFrame:
    """Return where the attempts stand: columns `attempt`, `steps`, `share`, `low`, `high`.

    `steps` is the mean of what was spent when the attempt ended, `share` the success of this attempt alone.
    """
    entry = [*SAME_FOR_ALL_SEEDS, "train_seed"]
    ordered = curve.sort_values([*entry, "attempt"], kind="stable")
    spent = ordered.assign(spent=ordered.groupby(entry)["steps"].cumsum()).groupby("attempt")["spent"].mean()
    rates = success_rates(curve)
    return pd.DataFrame({
        "attempt": rates["attempt"], "steps": rates["attempt"].map(spent), "share": rates["successes"] / rates["n"],
        "low": rates["low"], "high": rates["high"],
    })  # fmt: skip


def write_cost(runs: Mapping[str, RunResults], path: Path) -> None:
    """Write the figure as PNG, and its numbers as CSV beside it. Raises ValueError for another ending."""
    check_ending(path)
    parts = []
    figure = Figure(figsize=(8.4, 4.8), dpi=PIXELS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    found = _costs(runs)
    mains = {(pool.title, main_method(pool.rows)) for pool in pools(runs)}
    colours = iter((MAIN_COLOUR, *COLOURS) * len(found))
    markers = iter(f"o{MARKERS}" * len(found))
    end = max(int(costs["steps"].max()) for _, _, costs, _ in found)
    for label, method, costs, curve in found:
        within, points = solved_within(costs, _seeds(curve)), attempt_points(curve)
        name = f"{label}: {method}"
        _draw(axes, name, within, points, (next(colours), next(markers), (label, method) in mains, end))
        for kind, table in (("solved within", within), ("attempt", points)):
            parts.append(table.assign(run=label, method=method, kind=kind))
    _format(axes)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    columns = ["run", "method", "kind", "attempt", "steps", "share", "low", "high"]
    text = pd.concat(parts, ignore_index=True).astype({"attempt": "Int64"})[columns].to_csv(index=False)
    write_atomically(path, picture.getvalue())
    write_atomically(path.with_suffix(".csv"), text.encode())


def _draw(axes: Axes, name: str, within: pd.DataFrame, points: pd.DataFrame, style: tuple[str, str, bool, int]) -> None:
    """Draw the share solved within so many steps as a line with its band, and the attempts as marks with theirs."""
    colour, marker, is_main, end = style
    last = within.iloc[-1:].assign(steps=end)  # a method that stops trying stays where it is
    line = pd.concat([within, last], ignore_index=True)
    axes.step(
        line["steps"], line["share"], where="post", color=colour, linewidth=2.4 if is_main else 1.4,
        linestyle="-" if is_main else "--", label=name,
    )  # fmt: skip
    axes.fill_between(line["steps"], line["low"], line["high"], step="post", color=colour, alpha=0.13, linewidth=0)
    errors = np.array([points["share"] - points["low"], points["high"] - points["share"]]).clip(min=0)
    axes.errorbar(
        points["steps"], points["share"], errors, color=colour, marker=marker, linestyle="none", capsize=3, markersize=6
    )
    for point in points.itertuples():
        axes.annotate(
            str(point.attempt), (point.steps, point.share), xytext=(4, -10), textcoords="offset points", fontsize=8,
            color=colour,
        )  # fmt: skip


def _format(axes: Axes) -> None:
    axes.set(xscale="log", ylim=(-0.03, 1.03), title="success against environment steps on the new task")
    axes.set_xlabel("environment steps on the new task (log)")
    axes.set_ylabel("line: solved at least once within so many steps\nmark k: success of attempt k alone")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
