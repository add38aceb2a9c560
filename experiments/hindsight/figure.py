"""Draws what curves.py measured, and prints the tables of this folder's README.

figure.py EPISODES.csv FIGURE.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wtl.analysis.statistics import paired_difference, wilson_interval

NAMES = {
    "reached": ("goals that were reached", "#0072B2", "o"),
    "none": ("no relabelling", "#D55E00", "s"),
    "random": ("random goals", "#009E73", "D"),
}


def rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Return steps, success and its interval, one row a number of steps; several seeds are one entry a task."""
    found = []
    for _, part in rows.groupby("point"):
        n, own = part["task"].nunique(), part.groupby("task")["success"].mean()
        interval = wilson_interval(own.sum(), n)
        found.append((part["steps"].mean(), own.mean(), interval.low, interval.high, n))
    return pd.DataFrame(found, columns=["steps", "rate", "low", "high", "n"])


def with_points(episodes: pd.DataFrame) -> pd.DataFrame:
    """Return the episodes with the number of their evaluation: 0 is exploration alone."""
    keys = ["family", "arm", "seed"]
    return episodes.assign(point=episodes.groupby(keys)["steps"].rank("dense") - (episodes["arm"] == "exploration"))


def main() -> None:
    """See the module."""
    source, target = sys.argv[1:]
    episodes = with_points(pd.read_csv(source))
    families = list(dict.fromkeys(episodes["family"]))
    figure = Figure(figsize=(3.2 * len(families), 3.4), dpi=130, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(families), sharey=True))
    print("| family | relabelled with | steps | success | minus this one, at the end | p |\n|---|---|---|---|---|---|")
    for axes, family in zip(panels, families, strict=True):
        own = episodes[episodes["family"] == family]
        start = own[own["arm"] == "exploration"]
        best = own[(own["arm"] == "reached") & (own["point"] == own["point"].max())]
        for arm, (name, colour, marker) in NAMES.items():
            rows = own[own["arm"] == arm]
            if rows.empty:
                continue
            curve = rates(pd.concat([start, rows]))
            axes.errorbar(
                curve["steps"] / 1000, curve["rate"], (curve["rate"] - curve["low"], curve["high"] - curve["rate"]),
                color=colour, marker=marker, capsize=3, label=name,
            )  # fmt: skip
            for point in curve.itertuples():
                if point.steps or arm == "reached":
                    print(
                        f"| {family} | {name if point.steps else 'exploration alone'} | {point.steps:,.0f} | "
                        f"{100 * point.rate:.0f} [{100 * point.low:.0f}, {100 * point.high:.0f}] | "
                        + difference(best, rows, arm, point.Index == len(curve) - 1)
                    )
        axes.set(title=family, xlabel="thousand environment steps", ylim=(-0.02, 1.02))
    panels[0].set_ylabel("success on 100 new goals")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(NAMES), fontsize=8)
    figure.savefig(Path(target))


def difference(best: pd.DataFrame, rows: pd.DataFrame, arm: str, last: bool) -> str:
    """Return two cells: success with hindsight minus that of an arm, on the same goals, with its interval; and p."""
    if arm == "reached" or not last:
        return "| |"
    final = rows[rows["point"] == rows["point"].max()]
    pairs = best.merge(final, on=["family", "seed", "task"], suffixes=("", "_other"))
    found = paired_difference(pairs["success_other"], pairs["success"], pairs["family"], pairs["task"])
    points = [100 * value for value in (found.difference, found.low, found.high)]
    p_value = "< .001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
    return f"{points[0]:+.0f} [{points[1]:+.0f}, {points[2]:+.0f}] | {p_value} |"


if __name__ == "__main__":
    main()
