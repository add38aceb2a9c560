"""What came of a run: tables, figure, video, TensorBoard."""

from __future__ import annotations

import json

import pandas as pd
from rich.console import Console

from wtl.analysis.episodes import main_rows
from wtl.analysis.figures import draw_curves
from wtl.analysis.report import load_run, report_tables, summarise
from wtl.analysis.tables import print_tables
from wtl.analysis.tensorboard import write_tensorboard
from wtl.analysis.video import Clip, Style, record, write_video
from wtl.app.config import to_yaml
from wtl.app.plan import Plan
from wtl.core.files import write_atomically
from wtl.data.store import EpisodeStore
from wtl.play.rollout import Ending
from wtl.stages.evaluate import make_entries


def clips(plan: Plan, entry: int = 0, style: Style = "auto") -> list[Clip]:
    """Demonstration and all attempts of one entry of the evaluation, as pictures."""
    c = plan.config
    entries = make_entries(plan.distribution, plan.shelf, c.evaluation, c.evaluation_seed)
    if not 0 <= entry < len(entries.sessions):
        raise ValueError(f"entry {entry} does not exist; the evaluation has entries 0 .. {len(entries.sessions) - 1}")
    session = entries.sessions[entry]
    shown = next((e for e in EpisodeStore(plan.demos.directory) if e.task.name == session.demonstration_name), None)
    return record(
        plan.distribution.families[session.task.family],
        session,
        shown,
        plan.operator(c.retrial.rounds).improvers(c.evaluation.attempts),
        ending=Ending(c.evaluation.horizon_steps, c.evaluation.after_success_steps),
        exploration=c.exploration,
        style=style,
    )


def present(plan: Plan, console: Console) -> None:
    """Tables in the terminal, `report.json`, the figure, a video, and TensorBoard's curves."""
    c = plan.config
    plan.evaluation.require()
    results = load_run(plan.root)
    summary = summarise(results.rows, results.hidden_goal_families)
    write_atomically(plan.root / "report.json", json.dumps(summary, indent=1).encode())
    figure, strip = plan.root / "improvement.png", plan.root / "strip.gif"
    draw_curves({plan.root.name: results.rows}, figure, title=_title(plan))
    made = (plan.evaluation.directory / "manifest.json").stat().st_mtime
    movie = strip.with_suffix(".mp4")
    if any(not path.is_file() or path.stat().st_mtime < made for path in (strip, movie)):
        pictured = clips(plan, _telling_entry(plan, results.rows), c.video)
        write_video(pictured, strip)
        write_video(pictured, movie)
    write_tensorboard(
        plan.root / "tensorboard",
        results.rows,
        results.hidden_goal_families,
        config_yaml=to_yaml(c),
        hyper_parameters=_hyper_parameters(plan),
        figures={"improvement": figure},
        strips={"demonstration, trial, retrials": strip},
    )
    print_tables(report_tables({plan.root.name: results}))
    console.print(
        f"figure {figure}, video {movie}, episodes {plan.evaluation.directory}/episodes.csv\n"
        f"improvement curves: tensorboard --logdir {plan.root / 'tensorboard'}"
    )


def _title(plan: Plan) -> str:
    t = plan.config.tasks
    name = f"{t.benchmark} {t.family}" if t.benchmark == "ML1" else t.benchmark
    return f"{name}, {plan.config.evaluation.split} tasks, regime {plan.config.regime}"


def _hyper_parameters(plan: Plan) -> dict[str, str | int | float]:
    c = plan.config
    retrial = c.retrial
    evaluated: dict[str, str | int | float] = {"benchmark": c.tasks.benchmark, "regime": c.regime, "seed": c.seed}
    if c.trained:  # of its training this run knows nothing
        return evaluated | {"trained": c.trained}
    return evaluated | {
        "goals_per_family": c.tasks.goals_per_family,
        "rounds": retrial.rounds,
        "operator": c.operator,
        "width": c.following.shift.width if plan.follows else retrial.policy.network.width,
        "steps": retrial.train.steps,
        "learning_rate": retrial.train.learning_rate,
        "contexts": retrial.train.batch.contexts,
        "queries": retrial.train.batch.queries,
        "frames": retrial.train.batch.frames,
    }


def _telling_entry(plan: Plan, rows: pd.DataFrame) -> int:
    """The first entry that failed at attempt 0 and succeeded at attempt 1, else the first of all."""
    succeeded = {(r.task, r.seed, r.attempt): r.success for r in main_rows(rows).itertuples()}
    entries = make_entries(plan.distribution, plan.shelf, plan.config.evaluation, plan.config.evaluation_seed)
    for number, session in enumerate(entries.sessions):
        before, after = (succeeded.get((session.task.name, session.seed, attempt)) for attempt in (0, 1))
        if after and not before:
            return number
    return 0
