"""What came of a run: tables, figure, video, TensorBoard."""

from __future__ import annotations

import json

import pandas as pd
from rich.console import Console

from wtl.analysis.figures import draw_curves
from wtl.analysis.records import report_json
from wtl.analysis.report import report_tables
from wtl.analysis.runs import load_run
from wtl.analysis.tables import print_tables
from wtl.analysis.tensorboard import write_tensorboard
from wtl.analysis.video import Clip, Style, write_video
from wtl.app.config import to_yaml
from wtl.app.plan import Plan
from wtl.app.progress import progress_of
from wtl.core.files import write_atomically
from wtl.stages.film import Film


def make_clips(plan: Plan, console: Console, entry: int = 0, style: Style = "auto") -> list[Clip]:
    """Return the demonstration and all attempts of one entry of the evaluation, as pictures, with a bar meanwhile.

    Raises:
        ValueError: there is no such entry.
    """
    c = plan.config
    entries = plan.evaluation_stage().entries()
    if not 0 <= entry < len(entries):
        raise ValueError(f"entry {entry} does not exist; the evaluation has entries 0 .. {len(entries) - 1}")
    family = plan.distribution.families[entries[entry].task.family]
    player = plan.make_player(plan.main)(family.spec)
    attempts = c.evaluation.attempts if plan.main.spec.reads.trials else 0
    with progress_of(f"video of entry {entry}", console) as progress:
        return Film(family, entries[entry], c.protocol, style).record(player, attempts, progress)


def present(plan: Plan, console: Console) -> None:
    """Show tables in the terminal; write `report.json`, the figure, a video, and TensorBoard's curves."""
    c = plan.config
    plan.evaluation.require()
    results = load_run(plan.root)
    content = report_json({plan.root.name: results})
    write_atomically(plan.root / "report.json", json.dumps(content, indent=1).encode())
    figure, strip = plan.root / "improvement.png", plan.root / "strip.gif"
    draw_curves({plan.root.name: results.rows}, figure, title=_title(plan))
    made = (plan.evaluation.directory / "manifest.json").stat().st_mtime
    movie = strip.with_suffix(".mp4")
    if any(not path.is_file() or path.stat().st_mtime < made for path in (strip, movie)):
        clips = make_clips(plan, console, _telling_entry(plan, results.rows), c.video)
        with console.status("writing the video"):
            write_video(clips, strip)
            write_video(clips, movie)
    write_tensorboard(
        plan.root / "tensorboard",
        results.rows,
        results.hidden_goal_families,
        config_yaml=to_yaml(c),
        hyper_parameters=_hyper_parameters(plan),
        pictures={"success_figure": figure, "film": strip},
    )
    print_tables(report_tables({plan.root.name: results}))
    console.print(
        f"figure {figure}, video {movie}, episodes {plan.evaluation.directory}/episodes.csv\n"
        f"improvement curves: wtl tensorboard {plan.root}"
    )


def _title(plan: Plan) -> str:
    t = plan.config.tasks
    name = f"{t.benchmark} {t.family}" if t.benchmark == "ML1" else t.benchmark
    c = plan.config
    return f"{name}, {c.evaluation.split} tasks, regime {c.regime}; {c.protocol.name}"


def _hyper_parameters(plan: Plan) -> dict[str, str | int | float]:
    c = plan.config
    evaluated: dict[str, str | int | float] = {"benchmark": c.tasks.benchmark, "regime": c.regime, "seed": c.seed}
    evaluated["method"] = plan.main.spec.name
    if c.checkpoint:  # of its training this run knows nothing
        return evaluated | {"checkpoint": c.checkpoint}
    return evaluated | {"goals_per_family": c.tasks.goals_per_family} | dict(plan.main.spec.headline(plan.main.config))


def _telling_entry(plan: Plan, rows: pd.DataFrame) -> int:
    """Return the first entry that failed at attempt 0 and succeeded at attempt 1, else the first of all."""
    own = rows[(rows.method == plan.main.spec.name) & (rows.control == "")]
    succeeded = {(r.task, r.seed, r.attempt): r.success for r in own.itertuples()}
    for number, session in enumerate(plan.evaluation_stage().entries()):
        before, after = (succeeded.get((session.task.name, session.seed, attempt)) for attempt in (0, 1))
        if after and not before:
            return number
    return 0
