"""The command line: `wtl run CONFIG [key=value ...]` and every stage by itself. Heavy imports happen in commands.

Each mistake of a user is one sentence on stderr and exit code 2; nothing on disk is touched by it. Workers
that die again and again are one sentence and exit code 1.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from wtl.compute.distributed import Team
from wtl.compute.executor import WorkersDied

if TYPE_CHECKING:
    from wtl.app.pipeline import Pipeline

app = typer.Typer(
    help="Watch-Try-Learn on Meta-World: a policy that watches, tries, reads its own trial, and does better.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console(stderr=True)

ConfigName = Annotated[str, typer.Argument(help="A preset (see configs/), a YAML file, or a run directory.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, for example retrial.train.steps=1000")]
TOGETHER = ("train-trial", "train-retrial", "train-baselines")
"""Commands that several processes may do together, under torchrun."""
Round = Annotated[int | None, typer.Option("--round", min=0, help="Only this round of meta-training.")]


@contextlib.contextmanager
def _pipeline(config: str, overrides: list[str] | None) -> Iterator[Pipeline]:
    from wtl.app.config import load_config
    from wtl.app.pipeline import Pipeline

    team = Team.from_environment()
    pipeline = Pipeline(load_config(config, overrides or []), console if team.leads else Console(quiet=True), team)
    team.join()
    try:
        yield pipeline
        team.leave()
    except KeyboardInterrupt:  # typer would turn it into a silent exit code
        console.print("interrupted; the same command goes on where this one stopped")
        raise
    finally:
        pipeline.close()


@app.callback()
def check_processes(context: typer.Context) -> None:
    size = Team.from_environment().size
    if size > 1 and context.invoked_subcommand not in TOGETHER:
        raise ValueError(
            f"`wtl {context.invoked_subcommand}` is for one process, and {size} were started; "
            f"torchrun is for {', '.join(TOGETHER)}"
        )


def _present(pipeline: Pipeline) -> None:
    from wtl.app.present import present

    present(pipeline.plan, console)


@app.command()
def run(config: ConfigName, overrides: Overrides = None) -> None:
    """Everything: collect, train, evaluate, report. Complete stages are skipped, cut ones go on."""
    with _pipeline(config, overrides) as pipeline:
        pipeline.all_stages()
        _present(pipeline)


@app.command()
def collect_demos(config: ConfigName, overrides: Overrides = None) -> None:
    """Stage: expert demonstrations of every task."""
    with _pipeline(config, overrides) as pipeline:
        pipeline.collect_demos()


@app.command()
def train_trial(config: ConfigName, overrides: Overrides = None) -> None:
    """Stage: the trial policy, which has watched and not yet tried."""
    with _pipeline(config, overrides) as pipeline:
        pipeline.train_trial()


def _rounds(pipeline: Pipeline, only: int | None) -> range:
    rounds = pipeline.config.retrial.rounds
    if only is not None and only >= rounds:
        raise ValueError(f"--round {only} does not exist: retrial.rounds is {rounds}, so rounds are 0 .. {rounds - 1}")
    return range(rounds) if only is None else range(only, only + 1)


@app.command()
def collect_trials(config: ConfigName, overrides: Overrides = None, only: Round = None) -> None:
    """Stage: trials of the policies so far on training tasks, labelled by the expert."""
    with _pipeline(config, overrides) as pipeline:
        for number in _rounds(pipeline, only if only is not None else 0):
            pipeline.collect_trials(number)


@app.command()
def train_retrial(config: ConfigName, overrides: Overrides = None, only: Round = None) -> None:
    """Stage: the retrial policy, the learned improvement operator (default: all rounds whose trials are there)."""
    with _pipeline(config, overrides) as pipeline:
        for number in _rounds(pipeline, only):
            if only is None and number and not pipeline.plan.trials(number).finished():
                break
            pipeline.train_retrial(number)


@app.command()
def train_baselines(config: ConfigName, overrides: Overrides = None) -> None:
    """Stage: the baselines that are trained (cloning without context, MIL)."""
    with _pipeline(config, overrides) as pipeline:
        pipeline.train_baselines()


@app.command()
def evaluate(config: ConfigName, overrides: Overrides = None) -> None:
    """Stage: method, controls and baselines on one fixed list of entries; then the report."""
    with _pipeline(config, overrides) as pipeline:
        if pipeline.config.trained:  # nothing but demonstrations comes before
            pipeline.collect_demos()
        pipeline.evaluate()
        _present(pipeline)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; several are compared.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    markdown: Annotated[bool, typer.Option(help="Tables that can be pasted.")] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG.")] = None,
) -> None:
    """Success by attempt with intervals, paired differences and verdicts, of one run or several."""
    import json

    from wtl.analysis.report import load_runs, print_tables, report_tables, summarise

    results = load_runs(runs)
    if json_output:
        summaries = {name: summarise(r.rows, r.hidden_goal_families) for name, r in results.items()}
        content = next(iter(summaries.values())) if len(summaries) == 1 else summaries
        typer.echo(json.dumps(content, indent=1))
    else:
        print_tables(report_tables(results), markdown=markdown)
    if figure:
        from wtl.analysis.figures import draw_curves

        draw_curves({name: r.rows for name, r in results.items()}, figure)


@app.command()
def video(
    config: ConfigName,
    overrides: Overrides = None,
    entry: Annotated[int, typer.Option(min=0, help="Number in evaluation/entries.json.")] = 0,
    out: Annotated[Path, typer.Option(help="An .mp4 or .gif file.")] = Path("video.mp4"),
    style: Annotated[str, typer.Option(help="auto, camera or sketch.")] = "auto",
) -> None:
    """Demonstration, trial and retrials of one entry of the evaluation, side by side."""
    if style not in ("auto", "camera", "sketch"):
        raise ValueError(f"--style must be auto, camera or sketch, got {style!r}")
    from wtl.analysis.video import check_ending, write_video
    from wtl.app.present import clips

    check_ending(out)
    with _pipeline(config, overrides) as pipeline:
        if pipeline.config.trained:
            pipeline.collect_demos()
        else:
            pipeline.plan.evaluation.require()
        write_video(clips(pipeline.plan, entry, style), out)  # type: ignore[arg-type]
        console.print(f"wrote {out}")


@app.command(name="tasks")
def list_tasks() -> None:
    """Families, benchmark splits, and which families hide their goal."""
    from rich.table import Table

    from tasks import toy
    from tasks.metaworld import splits

    table = Table("family", "goal", *splits.BENCHMARKS, title="Meta-World families (ML1: any of them, train and test)")
    for family in splits.ALL_FAMILIES:
        marks = [
            " ".join(name for name, members in zip(("train", "test"), pair, strict=True) if family in members)
            for pair in splits.BENCHMARKS.values()
        ]
        table.add_row(family, "hidden" if family in splits.HIDDEN_GOAL else "visible", *marks)
    out = Console()
    out.print(table)
    out.print(f"toy: {', '.join(toy.COLOURS)} (the goal is one of {2 * toy.CANDIDATES} visible candidates)")


@contextlib.contextmanager
def _the_first_speaks() -> Iterator[None]:
    """A mistake ends every process of a team, and torchrun stops all when one ends: what all say is heard once."""
    try:
        yield
    except Exception:
        if not Team.from_environment().leads:
            time.sleep(3.0)
        raise


def main() -> None:
    """Entry point: every foreseen mistake is one sentence and exit code 2."""
    # Two cores are the common case; busy-waiting threads would starve the thread that makes batches.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with _the_first_speaks():
            app(standalone_mode=True)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where this one stopped")
        raise SystemExit(130) from None
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        console.print(f"[bold red]error:[/bold red] {error}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
    except WorkersDied as error:
        sentence = f"{error}; if memory is short, set workers lower. The same command goes on where this one stopped"
        console.print(f"[bold red]error:[/bold red] {sentence}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
