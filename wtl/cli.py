"""The command line: `wtl run CONFIG [key=value ...]` and what goes with it. Heavy imports happen in commands.

Each mistake of a user is one sentence on stderr and exit code 2; nothing on disk is touched by it. Workers that die
again and again are one sentence and exit code 1.
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

from wtl.compute.distributed import ProcessGroup
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
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, for example tasks.family=push-v3")]


@contextlib.contextmanager
def _pipeline(config: str, overrides: list[str] | None) -> Iterator[Pipeline]:
    from wtl.app.config import load_config
    from wtl.app.pipeline import Pipeline

    group = ProcessGroup.from_environment()
    pipeline = Pipeline(load_config(config, overrides or []), console if group.is_main else Console(quiet=True), group)
    group.join()
    try:
        yield pipeline
        group.leave()
    except KeyboardInterrupt:  # typer would turn it into a silent exit code
        console.print("interrupted; the same command goes on where this one stopped")
        raise
    finally:
        pipeline.close()


@app.callback()
def check_processes(context: typer.Context) -> None:
    """Refuse what several processes cannot do together."""
    size = ProcessGroup.from_environment().size
    if size > 1 and context.invoked_subcommand != "stage":
        raise ValueError(
            f"`wtl {context.invoked_subcommand}` is for one process, and {size} were started; "
            "torchrun is for `wtl stage` with the name of a training"
        )


def _present(pipeline: Pipeline) -> None:
    from wtl.app.present import present

    present(pipeline.plan, console)


@app.command()
def run(config: ConfigName, overrides: Overrides = None) -> None:
    """Everything: collect, train, evaluate, report. Complete stages are skipped, cut ones go on."""
    with _pipeline(config, overrides) as pipeline:
        pipeline.run()
        _present(pipeline)


@app.command()
def stages(config: ConfigName, overrides: Overrides = None) -> None:
    """List the stages of a run in order, and which are complete."""
    with _pipeline(config, overrides) as pipeline:
        for step in pipeline.steps():
            typer.echo(f"{'complete' if step.stage.finished() else '-':<10}{step.name}")


@app.command()
def stage(
    config: ConfigName,
    name: Annotated[str, typer.Argument(help="As `wtl stages` lists it, for example imitation/trial.")],
    overrides: Overrides = None,
) -> None:
    """One stage by itself; under torchrun several processes do a training together."""
    with _pipeline(config, overrides) as pipeline:
        trainings = [step.name for step in pipeline.steps() if step.train]
        if pipeline.group.size > 1 and name not in trainings:
            raise ValueError(f"torchrun is for trainings, got {name!r}; they are {', '.join(trainings)}")
        pipeline.run(only=name)


@app.command()
def evaluate(config: ConfigName, overrides: Overrides = None) -> None:
    """Method, controls and other methods on one fixed list of entries; then the report."""
    with _pipeline(config, overrides) as pipeline:
        if pipeline.config.checkpoint:  # nothing but demonstrations comes before
            pipeline.run(only="demonstrations")
        pipeline.run(only="evaluation")
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

    from wtl.analysis.report import load_runs, report_tables, summarise
    from wtl.analysis.tables import print_tables

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
    from wtl.app.present import make_clips

    check_ending(out)
    with _pipeline(config, overrides) as pipeline:
        if pipeline.config.checkpoint:
            pipeline.run(only="demonstrations")
        else:
            pipeline.plan.evaluation.require()
        write_video(make_clips(pipeline.plan, entry, style), out)  # type: ignore[arg-type]
        console.print(f"wrote {out}")


@app.command(name="methods")
def list_methods() -> None:
    """The methods that can be trained and evaluated, with what they read."""
    from rich.table import Table

    from wtl.methods.registry import known_methods

    table = Table("method", "demonstrations", "trials", "what it is")
    for spec in known_methods().values():
        table.add_row(spec.name, spec.reads.demonstrations, "read" if spec.reads.trials else "ignored", spec.summary)
    Console().print(table)


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


@app.command(name="import")
def import_data(
    source: Annotated[str, typer.Argument(help="A parquet or HDF5 file, or the folder or name of a Minari data set.")],
    store: Annotated[Path, typer.Argument(help="The folder that is made, for demonstrations.own=STORE.")],
    format: Annotated[str, typer.Option(help="parquet, hdf5 or minari; by default what the source looks like.")] = "",
    family: Annotated[str, typer.Option(help="The family of all episodes, where the data do not say it.")] = "",
    split: Annotated[str, typer.Option(help="train, validation, test, or dealt: some to each.")] = "",
    observation: Annotated[list[str] | None, typer.Option(help="A part of the observations; repeatable.")] = None,
    solved_reward: Annotated[float | None, typer.Option(help="The reward from which on a step is a success.")] = None,
) -> None:
    """Make an episode store of somebody's episodes: observations, actions, rewards, successes and a task id."""
    from wtl.data.exchange import import_episodes
    from wtl.data.formats.spec import ImportSettings

    settings = ImportSettings(family, split, tuple(observation or ()), solved_reward)
    done = import_episodes(source, store, settings, format)
    _say(f"{store}: {done.count} episodes", *done.notes)


@app.command(name="export")
def export_data(
    source: Annotated[Path, typer.Argument(help="An episode store, or a run that kept its episodes.")],
    target: Annotated[Path, typer.Argument(help="A .parquet or .hdf5 file, or with --format minari a folder.")],
    format: Annotated[str, typer.Option(help="parquet, hdf5 or minari; by default what the ending says.")] = "",
) -> None:
    """Make a file that others read of an episode store, or of a run's attempt histories (evaluation.keep_episodes)."""
    from wtl.data.exchange import export_episodes, export_histories

    if (source / "config.yaml").is_file():
        done, what = export_histories(source, target), "attempt histories"
    else:
        done, what = export_episodes(source, target, format), "episodes"
    _say(f"{target}: {done.count} {what}", *done.notes)


def _say(*sentences: str) -> None:
    for sentence in sentences:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _main_process_speaks_first() -> Iterator[None]:
    """Let the others wait: torchrun stops all when one ends, and what all say is then heard once."""
    try:
        yield
    except Exception:
        if not ProcessGroup.from_environment().is_main:
            time.sleep(3.0)
        raise


def main() -> None:
    """Run the command line: every foreseen mistake is one sentence and exit code 2."""
    # Two cores are the common case; busy-waiting threads would starve the thread that makes batches.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with _main_process_speaks_first():
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
