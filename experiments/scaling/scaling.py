"""Held-out success against the number of training families, and against parameters.

    python experiments/scaling/scaling.py subset COUNT SEED   # settings of a run on some of ML45's training families
    python experiments/scaling/scaling.py gather RUN...       # scaling.csv and scaling.png from evaluated runs

Subsets of one seed are nested. A run is one point for each attempt; its families and
parameters are read from its own files.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wtl.analysis.episodes import main_rows, success_rates
from wtl.analysis.runs import load_run
from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.methods.checkpoint import load_networks, read_checkpoint
from wtl.tasks.metaworld.splits import ML45_TEST, ML45_TRAIN

HERE = Path(__file__).parent
COLUMNS = ("run", "families", "parameters", "seed", "attempt", "n", "successes", "low", "high")


def subset(count: int, seed: int) -> str:
    """`key=value` settings, on one line."""
    chosen = np.random.default_rng(seed).permutation(ML45_TRAIN)[:count]
    return f"seed={seed} tasks.benchmark=custom tasks.train=[{','.join(chosen)}] tasks.test=[{','.join(ML45_TEST)}]"


def points(run: Path) -> list[dict[str, object]]:
    """One row an attempt."""
    plan = Plan(load_config(str(run), [f"directory={run}"]))
    directory = plan.checkpoint(plan.main)
    assert directory is not None, f"{run} trains nothing"
    networks = load_networks(read_checkpoint(directory, plan.main.spec), plan.main.spec)
    about = {
        "run": run.name,
        "families": sum(
            not name.startswith("procedural-") for name in {task.family for task in plan.distribution.train}
        ),
        "parameters": sum(p.numel() for network in networks.values() for p in network.parameters()),
        "seed": plan.config.seed,
    }
    rates = success_rates(main_rows(load_run(run).rows))
    return [about | row for row in rates.round({"low": 4, "high": 4}).to_dict("records")]


def draw(axes: Axes, rows: list[dict[str, str]], by: str) -> None:
    """Attempt 0 and the last one, a mark a run."""
    last = max(int(row["attempt"]) for row in rows)
    sizes = sorted({int(row[by]) for row in rows})
    for attempt, colour in ((0, "tab:gray"), (last, "tab:blue")):
        mine = [row for row in rows if int(row["attempt"]) == attempt]
        rates = np.array([100 * int(row["successes"]) / int(row["n"]) for row in mine])
        low, high = (np.array([100 * float(row[end]) for row in mine]) for end in ("low", "high"))
        # Runs of one size stand side by side.
        beside = [1.04 ** sum(other[by] == row[by] for other in mine[:i]) for i, row in enumerate(mine)]
        at = np.array([int(row[by]) for row in mine]) * np.array(beside)
        style: dict[str, Any] = {"fmt": "o", "color": colour, "capsize": 2, "label": f"attempt {attempt}"}
        axes.errorbar(at, rates, (rates - low, high - rates), **style)
        means = [rates[[int(row[by]) == size for row in mine]].mean() for size in sizes]
        axes.plot(sizes, means, color=colour, alpha=0.5)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_xlabel(by if by == "parameters" else "training families")
    axes.grid(alpha=0.3)


def gather(runs: list[Path]) -> None:
    """Write the table and the figure."""
    rows = [row for run in runs for row in points(run)]
    with (HERE / "scaling.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    read = list(csv.DictReader((HERE / "scaling.csv").open()))
    most = max(int(row["families"]) for row in read)
    usual = max({row["parameters"] for row in read}, key=[row["parameters"] for row in read].count)
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw(left, [row for row in read if row["parameters"] == usual], "families")
    draw(right, [row for row in read if int(row["families"]) == most], "parameters")
    left.set_ylabel("success on ML45's test families, %")
    left.legend(loc="lower right", title="95 % Wilson intervals, a mark a run")
    figure.savefig(HERE / "scaling.png", metadata={"Software": None})


if __name__ == "__main__":
    if sys.argv[1] == "subset":
        print(subset(int(sys.argv[2]), int(sys.argv[3])))
    else:
        gather([Path(run) for run in sys.argv[2:]])
