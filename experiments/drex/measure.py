"""What rewards from a noise ladder are worth: correlation, best of four, and the operator that reads them.

    python experiments/drex/measure.py play RUN true|ranked|none   # the shipped operator, with these rewards
    python experiments/drex/measure.py play RUN suboptimal         # four attempts of the best rung of the ladder
    python experiments/drex/measure.py gather RUN                  # predictions.csv, then what `summarise` makes
    python experiments/drex/measure.py summarise RUN               # correlations.csv, differences.csv and drex.png

RUN is a run of the preset `drex` with its rankers trained. Nothing here trains.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

import wtl
from wtl.analysis.statistics import paired_difference, wilson_interval
from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.core.episode import Episode, Trajectory
from wtl.data.grades import rung_of
from wtl.data.histories import Part, read_histories, with_part
from wtl.data.store import EpisodeStore
from wtl.methods.checkpoint import load_networks, read_checkpoint
from wtl.methods.drex import RANKER, SPECS, RankedRewards, WithoutRewards, WithRankedRewards
from wtl.methods.drex.network import Ranker
from wtl.play.attempts import play_attempt
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Method

HERE = Path(__file__).parent
RANKERS = tuple(spec.name for spec in SPECS)
ARMS = ("true", "ranked", "none")
SUBOPTIMAL = "suboptimal"
COLUMNS = ("family", "task", "seed", "hidden_goal", "player", "noise", "attempt", "success", "true", *RANKERS)


@dataclass(frozen=True)
class Rankers:
    """The trained rankers of a run."""

    plan: Plan

    def __getitem__(self, name: str) -> RankedRewards:
        spec = next(spec for spec in SPECS if spec.name == name)
        checkpoint = read_checkpoint(self.plan.root / name / "train" / "checkpoint", spec)
        network = load_networks(checkpoint, spec)[RANKER]
        assert isinstance(network, Ranker)
        return RankedRewards(network, self.plan.distribution.spec)


def play(run: Path, arm: str) -> None:
    """Play attempts 0 to 3 of the shipped operator on the run's test tasks, if that is not done yet."""
    directory = run.parent / f"{run.name}-{arm}"
    if (directory / "evaluation" / "episodes.csv").exists():
        return
    operator: Method = wtl.load("ml45")
    if arm == "ranked":
        operator = WithRankedRewards(operator, Rankers(plan_of(run))["drex"])
    elif arm == "none":
        operator = WithoutRewards(operator)
    keep = ["evaluation.methods=[]", "evaluation.keep_episodes=true"]
    results = wtl.evaluate(operator, str(run), keep, name="operator", directory=directory)
    print(arm, results.rows.groupby("attempt")["success"].mean().round(3).to_dict(), flush=True)


def play_suboptimal(run: Path) -> None:
    """Play four attempts of the suboptimal policy at the same entries, as an evaluation keeps them."""
    directory, plan = run.parent / f"{run.name}-{SUBOPTIMAL}" / "evaluation" / "episodes", plan_of(run)
    if (directory / "store.json").exists():
        return
    protocol, stage = plan.config.protocol, plan.evaluation_stage()
    player = Expert(NoiseConfig(plan.config.settings_of("drex").least_noise), SUBOPTIMAL)
    kept: list[Episode] = []
    for family in stage.distribution.families.values():
        entries = [session for session in stage.entries() if session.task.family == family.spec.name]
        places = [Part(entry.task.name, entry.seed, protocol.name) for entry in entries]
        for place, entry in zip(places, entries, strict=True):
            kept += [with_part(shown, place) for shown in entry.demonstrations]
        for number in range(4):
            begun = protocol.sessions(family, entries, number)
            contexts = [entry.context for entry in entries]
            played = play_attempt(family, begun, contexts, player, number, protocol.rollout(), SUBOPTIMAL)
            for place, episode in zip(places, played, strict=True):
                kept.append(with_part(episode, replace(place, method=SUBOPTIMAL, attempt=number)))
        print(SUBOPTIMAL, family.spec.name, flush=True)
    wtl.write_episodes(directory, kept)


def plan_of(run: Path) -> Plan:
    return Plan(load_config(str(run), [f"directory={run}"]))


def mean_reward(trajectory: Trajectory) -> float:
    return float(trajectory.rewards.mean(dtype=np.float64))


def predictions(plan: Plan) -> Iterator[dict[str, object]]:
    """One row an episode on goals that no ranker saw: the whole ladder, then every arm of the operator."""
    trained = Rankers(plan)
    rankers = {name: trained[name] for name in RANKERS}
    shown = plan.shown()
    families = plan.distribution.families

    def row(e: Episode, reference: Trajectory, player: str, seed: int, attempt: int) -> dict[str, object]:
        about = {
            "family": e.task.family, "task": e.task.name, "seed": seed,
            "hidden_goal": int(families[e.task.family].spec.hidden_goal), "player": player, "noise": rung_of(e),
            "attempt": attempt, "success": int(e.trajectory.success), "true": mean_reward(e.trajectory),
        }  # fmt: skip
        return about | {name: ranker.mean_reward(e.trajectory, reference) for name, ranker in rankers.items()}

    for e in EpisodeStore(plan.graded.directory):
        if e.task.split == "validation":
            yield row(e, shown.choose(e.task, 1, 0)[0].trajectory, "expert", e.seed, 0)
    for arm in (*ARMS, SUBOPTIMAL):
        for history in read_histories(EpisodeStore(Path(f"{plan.root}-{arm}") / "evaluation" / "episodes")):
            for attempt, e in enumerate(history.attempts):
                yield row(e, history.demonstrations[0].trajectory, arm, history.seed, attempt)


# What follows reads predictions.csv alone.


def parts(rows: pd.DataFrame, least_noise: float) -> dict[str, pd.DataFrame]:
    """The sets over which a correlation is taken."""
    expert, later = rows[rows["player"] == "expert"], rows[(rows["player"] == "true") & (rows["attempt"] > 0)]
    fewer = expert[expert["noise"] < least_noise - 1e-9]
    ladder = expert.drop(fewer.index)
    return {
        "ladder": ladder,
        "better experts": fewer,
        "better experts and later attempts": pd.concat([fewer, later]),
        "all": pd.concat([expert, later]),
    }


def correlations(rows: pd.DataFrame, least_noise: float) -> list[dict[str, object]]:
    """One row a family, a set and a ranker."""
    found: list[dict[str, object]] = []
    for part, episodes in parts(rows, least_noise).items():
        for family, own in episodes.groupby("family"):
            for ranker in RANKERS:
                constant = min(np.ptp(own["true"]), np.ptp(own[ranker])) < 1e-9
                r = 0.0 if constant else float(stats.pearsonr(own["true"], own[ranker]).statistic)
                rho = 0.0 if constant else float(stats.spearmanr(own["true"], own[ranker]).statistic)
                about = {"family": family, "hidden_goal": own["hidden_goal"].iloc[0], "n": len(own)}
                found.append({"set": part, "ranker": ranker, **about, "pearson": r, "spearman": rho})
    return found


def best_of_four(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """One row an entry: success of a random one of the four, and of the one that each ranker puts first."""
    found = []
    for (family, task, _), own in rows[rows["player"] == arm].groupby(["family", "task", "seed"]):
        picked = {name: own.loc[own[name].idxmax(), "success"] for name in (*RANKERS, "true")}
        hidden = own["hidden_goal"].iloc[0]
        one = {"family": family, "task": task, "hidden_goal": hidden, "random": own["success"].mean()}
        found.append(one | picked | {"any": own["success"].max()})
    return pd.DataFrame(found)


def difference(label: str, before: pd.DataFrame, after: pd.DataFrame) -> dict[str, object]:
    """`before` and `after` hold family, task and value, an entry a row."""
    both = before.merge(after, on=["family", "task"], suffixes=("_0", "_1")).sort_values(["family", "task"])
    d = paired_difference(both["value_0"], both["value_1"], both["family"].tolist(), both["task"].tolist())
    return {
        "what": label, "n": d.n, "before": both["value_0"].mean(), "after": both["value_1"].mean(),
        "difference": d.difference, "low": d.low, "high": d.high, "p_value": d.p_value, "verdict": d.verdict,
    }  # fmt: skip


def values(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[["family", "task"]].assign(value=rows[name].astype(float))


def differences(rows: pd.DataFrame) -> list[dict[str, object]]:
    """Best of four against a random one of the four; attempt 3 minus 0 of each arm; and arms against one another."""
    found = []
    for arm in (SUBOPTIMAL, *ARMS):
        best = best_of_four(rows, arm)
        who = "the suboptimal policy" if arm == SUBOPTIMAL else f"the operator, {arm} rewards"
        for name in (*RANKERS, "true", "any"):
            label = f"best of 4 by {name} - a random one, attempts of {who}"
            found.append(difference(label, values(best, "random"), values(best, name)))

    def attempt(arm: str, number: int, hidden: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
        chosen = (rows["player"] == arm) & (rows["attempt"] == number) & rows["hidden_goal"].isin(hidden)
        return values(rows[chosen], "success")

    for arm in ARMS:
        found.append(difference(f"operator, {arm} rewards, attempt 3 - 0", attempt(arm, 0), attempt(arm, 3)))
        for label, hidden in (("hidden", (1,)), ("visible", (0,))):
            pair = attempt(arm, 0, hidden), attempt(arm, 3, hidden)
            found.append(difference(f"operator, {arm} rewards, attempt 3 - 0, {label} goals", *pair))
    for first, second in (("ranked", "none"), ("true", "ranked"), ("true", "none")):
        pair = attempt(second, 3), attempt(first, 3)
        found.append(difference(f"operator, attempt 3, {first} - {second} rewards", *pair))
    return found


# The figure.


def draw(rows: pd.DataFrame, table: pd.DataFrame, least_noise: float) -> None:
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_predictions(axes[0, 0], rows, least_noise)
    _draw_correlations(axes[0, 1], table)
    _draw_best(axes[1, 0], rows)
    _draw_operator(axes[1, 1], rows)
    figure.savefig(HERE / "drex.png", dpi=100)


def _draw_predictions(axes: Axes, rows: pd.DataFrame, least_noise: float) -> None:
    sets = parts(rows, least_noise)
    everything = sets["all"]
    own = everything.groupby("family")["drex"]
    standard = (everything["drex"] - own.transform("mean")) / own.transform("std")
    seen, better = sets["ladder"], sets["better experts"]
    later = everything.drop(seen.index).drop(better.index)
    labels = (("ladder, as seen in training", seen, "tab:gray"), ("less noise than any seen", better, "tab:blue"),
              ("later attempts of the operator", later, "tab:orange"))  # fmt: skip
    for label, part, colour in labels:
        axes.scatter(part["true"], standard[part.index], s=7, alpha=0.6, color=colour, label=label)
    axes.set_xlabel("true return / steps")
    axes.set_ylabel("predicted return (standardised by family)")
    axes.set_title("D-REX on new goals, 12 families")
    axes.legend(fontsize=8)


def _draw_correlations(axes: Axes, table: pd.DataFrame) -> None:
    shown = table[table["set"] == "better experts and later attempts"]
    order = shown[shown["ranker"] == "drex"].sort_values("pearson")["family"].tolist()
    for ranker, marker, colour in zip(RANKERS, "os^", ("tab:blue", "tab:green", "tab:gray"), strict=True):
        own = shown[shown["ranker"] == ranker].set_index("family")["pearson"]
        axes.plot(own[order], range(len(order)), marker, color=colour, label=f"{ranker}, median {own.median():.2f}")
    hidden = shown.set_index("family")["hidden_goal"].to_dict()
    axes.set_yticks(range(len(order)), [f"{name} *" if hidden[name] else name for name in order], fontsize=8)
    axes.axvline(0.7, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(-1, 1)
    axes.set_ylim(bottom=-4.0)  # room for the legend
    axes.set_xlabel("Pearson correlation with the true return")
    axes.set_title("Episodes of better players than any seen (* hidden goal)")
    axes.legend(fontsize=8, loc="lower left")


def _draw_best(axes: Axes, rows: pd.DataFrame) -> None:
    best = best_of_four(rows, SUBOPTIMAL)
    names = ("random", "shuffled_drex", "drex", "ssrr", "true", "any")
    rates = [best[name].mean() for name in names]
    bounds = [wilson_interval(best[name].sum(), len(best)) for name in names]
    errors = [[max(0.0, r - b.low) for r, b in zip(rates, bounds, strict=True)],
              [max(0.0, b.high - r) for r, b in zip(rates, bounds, strict=True)]]  # fmt: skip
    axes.bar(range(len(names)), rates, yerr=errors, color=["lightgray", "gray", "tab:blue", "tab:green", "k", "k"])
    axes.set_xticks(range(len(names)), ["a random one", "shuffled", "drex", "ssrr", "true return", "any of the 4"])
    axes.set_ylim(0, 1)
    axes.set_ylabel("success")
    axes.set_title(f"One of four attempts of the suboptimal policy, chosen by (n = {len(best)})")


def _draw_operator(axes: Axes, rows: pd.DataFrame) -> None:
    for arm, colour in zip(ARMS, ("black", "tab:blue", "tab:gray"), strict=True):
        own = rows[rows["player"] == arm].groupby("attempt")["success"]
        rates, bounds = own.mean(), [wilson_interval(s, n) for s, n in zip(own.sum(), own.count(), strict=True)]
        axes.plot(rates.index, rates, "o-", color=colour, label="no rewards" if arm == "none" else f"{arm} rewards")
        axes.fill_between(rates.index, [b.low for b in bounds], [b.high for b in bounds], color=colour, alpha=0.12)
    axes.set_xticks(range(4))
    axes.set_ylim(0, 1)
    axes.set_xlabel("attempt")
    axes.set_ylabel("success")
    axes.set_title("The shipped operator by what its trials say of their rewards")
    axes.legend(fontsize=8)


def gather(run: Path) -> None:
    plan = plan_of(run)
    with (HERE / "predictions.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in predictions(plan):
            table.writerow({name: f"{x:.5g}" if isinstance(x, float) else x for name, x in row.items()})
    summarise(plan.config.settings_of("drex").least_noise)


def summarise(least_noise: float) -> None:
    """Make correlations.csv, differences.csv and the figure from predictions.csv."""
    rows = pd.read_csv(HERE / "predictions.csv")
    table = pd.DataFrame(correlations(rows, least_noise))
    table.round(3).to_csv(HERE / "correlations.csv", index=False, lineterminator="\n")
    pd.DataFrame(differences(rows)).round(4).to_csv(HERE / "differences.csv", index=False, lineterminator="\n")
    draw(rows, table, least_noise)
    medians = table.groupby(["set", "ranker"])[["pearson", "spearman"]].median()
    print(medians.round(3).to_string())
    print(pd.read_csv(HERE / "differences.csv").to_string())


def main() -> None:
    match sys.argv[1:]:
        case ["play", run, arm] if arm in ARMS:
            play(Path(run), arm)
        case ["play", run, "suboptimal"]:
            play_suboptimal(Path(run))
        case ["gather", run]:
            gather(Path(run))
        case ["summarise", run]:
            summarise(plan_of(Path(run)).config.settings_of("drex").least_noise)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
