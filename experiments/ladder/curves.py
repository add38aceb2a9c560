"""Success against the number of applications of the operator, for each cap: `curves.csv`, `grades.csv`, `ladder.png`.

    python experiments/ladder/curves.py RUN...   # evaluated runs of the preset ladder, one a cap

`claims.csv` has what is compared entry for entry, `reasons.csv` what went wrong: was the right candidate approached,
how near, how fast?
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wtl.analysis.episodes import success_rates
from wtl.analysis.runs import load_run
from wtl.analysis.statistics import paired_difference
from wtl.app.config import load_config
from wtl.data.grades import Capped, summarise
from wtl.data.histories import read_histories
from wtl.data.store import EpisodeStore

HERE = Path(__file__).parent
STYLES = {
    "ladder": ("worse to better", "#0072B2", "o"),
    "ladder_random_order": ("the same pairs in random order", "#D55E00", "s"),
    "ladder_best_rung": ("cloning of the best rung, no trial", "#009E73", "^"),
}


def cap_of(run: Path) -> float:
    """Return the cap of a run."""
    config = load_config(str(run), [])
    return float(config.settings_of(config.method).cap)


def rates(run: Path) -> pd.DataFrame:
    """Return one row for each method and attempt of a run."""
    episodes, parts = load_run(run).rows, []
    for method, own in episodes[episodes["control"] == ""].groupby("method", sort=False):
        points = success_rates(own)
        points["mean_return"] = own.groupby("attempt")["return"].mean().to_numpy()
        parts.append(points.assign(cap=cap_of(run), method=method))
    columns = ["cap", "method", "attempt", "n", "successes", "low", "high", "mean_return"]
    return pd.concat(parts)[columns].round({"low": 4, "high": 4, "mean_return": 2})


def grades(runs: list[Path]) -> pd.DataFrame:
    """Return the success of every rung on each family's training tasks, and the caps under which it is learned from."""
    episodes = [e for e in EpisodeStore(runs[0] / "graded") if e.task.split == "train"]
    rows = []
    for family in dict.fromkeys(e.task.family for e in episodes):
        own = [e for e in episodes if e.task.family == family]
        kept = {cap_of(run): {line.grade for line in summarise(Capped(cap_of(run))(own))} for run in runs}
        for line in summarise(own):
            caps = " ".join(f"{cap:g}" for cap, grades in kept.items() if line.grade in grades)
            rows.append((family, line.grade.noise, line.episodes, round(line.success, 4), caps))
    return pd.DataFrame(rows, columns=["family", "noise", "episodes", "success", "caps"])


def best_rung(rungs: pd.DataFrame, cap: float) -> float:
    """Return the success of the best rung that a cap leaves, the mean of the families."""
    kept = rungs[[f"{cap:g}" in caps.split() for caps in rungs["caps"]]]
    return float(kept.groupby("family")["success"].max().mean())


def reasons(run: Path) -> pd.DataFrame:
    """Return what the attempts of a run did: a row for each method and attempt."""
    rows = []
    for history in read_histories(EpisodeStore(run / "evaluation" / "episodes")):
        for attempt, episode in enumerate(history.attempts):
            seen = episode.trajectory.observations
            hand, candidates = seen[:, :2], seen[0, 2:].reshape(-1, 2)
            away = np.linalg.norm(hand[:, None] - candidates, axis=-1).min(axis=0)
            rewarded = int(np.linalg.norm(candidates - episode.goal, axis=-1).argmin())
            speed = float(np.linalg.norm(episode.trajectory.actions, axis=-1).mean())
            rows.append((history.method, attempt, away.argmin() == rewarded, away[rewarded], speed))
    columns = ["method", "attempt", "right_candidate", "nearest", "speed"]
    means = pd.DataFrame(rows, columns=columns).groupby(["method", "attempt"], sort=False).mean().round(3).reset_index()
    means.insert(0, "cap", cap_of(run))
    return means


def draw(axes: Axes, curves: pd.DataFrame, cap: float, rungs: pd.DataFrame) -> None:
    """Draw the curves of one cap."""
    for method, (label, colour, marker) in STYLES.items():
        points = curves[(curves["cap"] == cap) & (curves["method"] == method)]
        if len(points) == 1:  # a method that reads no trial is a level
            points = pd.concat([points.assign(attempt=attempt) for attempt in range(int(curves["attempt"].max()) + 1)])
        success = points["successes"] / points["n"]
        errors = np.array([success - points["low"], points["high"] - success]).clip(min=0)
        style: dict[str, Any] = {"color": colour, "marker": marker, "capsize": 3, "label": label}
        axes.errorbar(points["attempt"], success, errors, **style)
    axes.axhline(cap, color="black", linestyle="--", linewidth=1.2, label="cap")
    axes.axhline(
        best_rung(rungs, cap), color="black", linestyle=":", linewidth=1.2, label="best rung that is learned from"
    )
    axes.set_title(f"cap {cap:.0%}")
    axes.set_xlabel("applications of the operator")
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y", alpha=0.3)


def main(runs: list[Path]) -> None:
    """Write tables and figure."""
    curves, rungs = pd.concat([rates(run) for run in runs]), grades(runs)
    curves.to_csv(HERE / "curves.csv", index=False, lineterminator="\n")
    pd.concat([claims(runs, cap) for cap in sorted({cap_of(run) for run in runs})]).to_csv(
        HERE / "claims.csv", index=False, lineterminator="\n"
    )
    pd.concat([reasons(run) for run in runs]).to_csv(HERE / "reasons.csv", index=False, lineterminator="\n")
    rungs.to_csv(HERE / "grades.csv", index=False, lineterminator="\n")
    figure = Figure(figsize=(12, 4.4), dpi=110, layout="constrained")
    caps = sorted({cap_of(run) for run in runs})
    panels = figure.subplots(1, len(caps), sharey=True, squeeze=False)[0]
    for axes, cap in zip(panels, caps, strict=True):
        draw(axes, curves, cap, rungs)
    panels[0].set_ylabel("success on new goals, 95 % Wilson interval")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(HERE / "ladder.png", metadata={"Software": None})


def claims(runs: list[Path], cap: float) -> pd.DataFrame:
    """Return what is compared entry for entry: the last application with others and with other pairs."""
    episodes = pd.concat([load_run(run).rows for run in runs if cap_of(run) == cap])
    episodes, last = episodes[episodes["control"] == ""], int(episodes["attempt"].max())

    def outcome(method: str, attempt: int) -> pd.Series:
        own = episodes[(episodes["method"] == method) & (episodes["attempt"] == attempt)]
        return own.set_index(["task", "seed"])["success"].astype(float).sort_index()

    rows = []
    for high, low in (
        (("ladder", last), ("ladder", 0)),
        (("ladder", last), ("ladder", 1)),
        (("ladder", 1), ("ladder_random_order", 1)),
        (("ladder", last), ("ladder_random_order", last)),
        (("ladder", last), ("ladder_best_rung", 0)),
    ):
        after, before = outcome(*high), outcome(*low)
        assert (after.index == before.index).all()
        tasks = after.index.get_level_values("task").tolist()
        found = paired_difference(before.tolist(), after.tolist(), [task.split("/")[0] for task in tasks], tasks)
        rows.append(
            {
                "cap": cap,
                "what": f"{high[0]} {high[1]} - {low[0]} {low[1]}",
                "difference": round(found.difference, 4),
                "low": round(found.low, 4),
                "high": round(found.high, 4),
                "p": round(found.p_value, 4),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
