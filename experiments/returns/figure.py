"""Achieved against asked return, and success when asked for the best, from an evaluated run of the preset `returns`.

    python experiments/returns/figure.py gather RUN [NAME=RUN ...]    # asked.csv and data.csv
    python experiments/returns/figure.py draw                         # asked.png and the numbers, from the two files

Returns are shares of the demonstrated return: the expert's, in another task of the family, over the same horizon. What
is asked for when nothing is said is all of it. Rank correlations are over the episodes of one family.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wtl.analysis.results import read_results
from wtl.analysis.statistics import paired_difference, wilson_interval
from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.data.grades import grade_of
from wtl.data.store import EpisodeStore
from wtl.methods.registry import find_method

HERE = Path(__file__).parent
SAMPLES = 200
COLOURS = {
    "decision_transformer": "tab:blue", "upside_down_rl": "tab:orange", "reward_conditioned": "tab:green",
    "rvs": "tab:red", "decision_transformer past actions": "tab:cyan", "shuffled_returns": "tab:gray",
}  # fmt: skip


def evaluated(run: Path, name: str) -> list[dict[str, object]]:
    """Return one row an episode of an evaluation; `name` stands behind the method's."""
    horizon = Plan(load_config(str(run), [])).config.protocol.horizon_steps
    shown = {e.task.name: e.trajectory.total_reward(horizon) for e in EpisodeStore(run / "demonstrations")}
    rows: list[dict[str, object]] = []
    for row in read_results(run / "evaluation" / "episodes.csv"):
        method, _, asked = row.method.partition(", asked ")
        conditioned = find_method(method).reads.desired_return
        label = " ".join(part for part in (method, name, row.control) if part)
        label += f" attempt {row.attempt}" if row.attempt else ""
        rows.append({
            "train_seed": row.train_seed, "method": label, "asked": (asked or "1") if conditioned else "",
            "family": row.family, "task": row.task, "demonstrated": round(shown[row.demonstration], 3),
            "achieved": round(row.total_reward / shown[row.demonstration], 4), "success": int(row.success),
        })  # fmt: skip
    return rows


def gather(run: Path, others: list[tuple[str, Path]]) -> None:
    """Write one row an episode of the evaluations, and one a graded episode, with returns as shares."""
    rows = evaluated(run, "")
    for name, other in others:
        rows += evaluated(other, name)
    pd.DataFrame(rows).drop_duplicates().to_csv(HERE / "asked.csv", index=False)
    horizon = Plan(load_config(str(run), [])).config.protocol.horizon_steps
    means: dict[str, list[float]] = {}
    for episode in EpisodeStore(run / "demonstrations"):
        means.setdefault(episode.task.family, []).append(episode.trajectory.total_reward(horizon))
    graded = [
        {
            "family": e.task.family, "split": e.task.split, "grade": grade_of(e).name,
            "return": round(e.trajectory.total_reward() / float(np.mean(means[e.task.family])), 4),
            "success": int(e.trajectory.success),
        }
        for e in EpisodeStore(run / "graded")
    ]  # fmt: skip
    pd.DataFrame(graded).to_csv(HERE / "data.csv", index=False)


def rank_correlation(rows: pd.DataFrame) -> float:
    """Return Spearman's, of asked and achieved return."""
    return float(rows["asked"].rank().corr(rows["achieved"].rank()))


def correlations(episodes: pd.DataFrame) -> pd.DataFrame:
    """Return, for each method, the mean over families with a bootstrap interval over tasks, and each family's."""
    generator, lines = np.random.default_rng(0), []
    for method, rows in episodes[episodes["asked"].notna()].groupby("method"):
        families = {name: rank_correlation(own) for name, own in rows.groupby("family")}
        tasks = {name: [own for _, own in own_family.groupby("task")] for name, own_family in rows.groupby("family")}
        drawn = []
        for _ in range(SAMPLES):
            picked = [
                rank_correlation(pd.concat([own[i] for i in generator.integers(len(own), size=len(own))]))
                for own in tasks.values()
            ]
            drawn.append(np.mean(picked))
        low, high = np.quantile(drawn, [0.025, 0.975])
        mean, median = np.mean(list(families.values())), np.median(list(families.values()))
        lines.append({"method": method, "mean": mean, "low": low, "high": high, "median": median, **families})
    return pd.DataFrame(lines).round(3)


def draw_asked(axes: Axes, episodes: pd.DataFrame, data: pd.DataFrame) -> None:
    """Mean achieved return by asked return, with the identity line and the density of returns in the data."""
    density = axes.twinx()
    density.hist(data["return"].clip(-0.05, 1.6), bins=40, density=True, color="tab:gray", alpha=0.2)
    density.set_yticks([])
    axes.plot([0, 1.3], [0, 1.3], color="black", linewidth=0.8, linestyle="--", label="as asked")
    for name, colour in COLOURS.items():
        rows = episodes[(episodes["method"] == name) & episodes["asked"].notna()]
        if len(rows):
            groups = rows.groupby("asked")["achieved"]
            mean, error = groups.mean(), 1.96 * groups.std() / np.sqrt(groups.size())
            axes.errorbar(mean.index, mean, error, color=colour, marker="o", markersize=4, label=name, capsize=2)
    axes.set_xlabel("asked return, as a share (bars: density in the data)")
    axes.set_ylabel("achieved return, share of the demonstrated one")
    axes.legend(fontsize=7, loc="upper left")


def best(episodes: pd.DataFrame) -> pd.DataFrame:
    """Return the success of each method when asked for the demonstrated return, or for nothing."""
    rows = episodes[episodes["asked"].isna() | (episodes["asked"] == 1.0)]
    lines = []
    for method, own in rows.groupby("method"):
        interval = wilson_interval(own["success"].sum(), len(own))
        lines.append({
            "method": method, "n": len(own), "success": own["success"].mean(), "low": interval.low,
            "high": interval.high, "return": own["achieved"].mean(),
        })  # fmt: skip
    return pd.DataFrame(lines).sort_values("success", ascending=False).round(3)


def differences(episodes: pd.DataFrame) -> pd.DataFrame:
    """Return the paired differences of success, each conditioned method minus each that is asked for nothing true."""
    rows = episodes[episodes["asked"].isna() | (episodes["asked"] == 1.0)]
    success = rows.pivot_table(index=["family", "task"], columns="method", values="success")
    others = [name for name in success if "cloning" in name or name == "shuffled_returns"]
    lines = []
    for first in [name for name in COLOURS if name in success and name != "shuffled_returns"]:
        for second in others:
            found = paired_difference(
                success[second], success[first], success.index.get_level_values("family").to_list()
            )  # fmt: skip
            points = [f"{100 * number:+.0f}" for number in (found.difference, found.low, found.high)]
            lines.append({"first": first, "second": second, "points": "{} [{}, {}]".format(*points)})
    return pd.DataFrame(lines)


def draw() -> None:
    """Draw the figure and print the numbers."""
    episodes, data = pd.read_csv(HERE / "asked.csv"), pd.read_csv(HERE / "data.csv")
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_asked(left, episodes, data)
    table = best(episodes)
    places = np.arange(len(table))[::-1]
    right.barh(places, table["success"], color=[COLOURS.get(name, "tab:purple") for name in table["method"]])
    errors = np.stack([table["success"] - table["low"], table["high"] - table["success"]])
    right.errorbar(table["success"], places, xerr=errors, fmt="none", color="black", capsize=2)
    right.set_yticks(places, table["method"], fontsize=7)
    right.set_xlabel("success when asked for the demonstrated return")
    right.set_xlim(0, 1)
    figure.savefig(HERE / "asked.png", dpi=120)
    print(table.to_string(index=False))
    print(differences(episodes).to_string(index=False))
    print(correlations(episodes).to_string(index=False))
    print("not beyond what was demonstrated:")
    print(correlations(episodes[~(episodes["asked"] > 1.0)]).to_string(index=False))
    print(data.groupby("grade", sort=False)[["return", "success"]].mean().round(3).to_string())
    print(data["return"].quantile([0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]).round(3).to_string())


if __name__ == "__main__":
    if sys.argv[1:2] == ["gather"] and len(sys.argv) > 2:
        gather(Path(sys.argv[2]), [(name, Path(path)) for name, path in (pair.split("=", 1) for pair in sys.argv[3:])])
    elif sys.argv[1:] == ["draw"]:
        draw()
    else:
        sys.exit(__doc__)
