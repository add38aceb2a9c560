"""The command line: `wtl run CONFIG [key=value ...]` and what goes with it. Heavy imports happen in commands.

Each mistake of a user is one sentence on stderr and exit code 2; nothing on disk is touched by it. Bad luck (a full
disk, workers that die again and again) is one sentence and exit code 1. Ctrl-C and SIGTERM are heard at once (exit
codes 130 and 143).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from wtl.compute.distributed import ProcessGroup
from wtl.compute.executor import WorkersDied
from wtl.core.bounds import check
from wtl.core.files import explain, is_bad_luck
from wtl.core.terminal import accept_every_encoding, make_console

if TYPE_CHECKING:
    from wtl.analysis.runs import RunResults
    from wtl.app.pipeline import Pipeline

app = typer.Typer(
    help="Watch-Try-Learn on Meta-World: a policy that watches, tries, reads its own trial, and does better.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for a command line that it cannot read: click's, of which it brings a copy of its own."""
console = make_console(stderr=True)

ConfigName = Annotated[str, typer.Argument(help="A preset (see configs/), a YAML file, or a run directory.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, for example tasks.family=push-v3")]


def _say_whose_code_runs() -> None:
    """Warn in a checkout whose environment was copied with it and runs the code of the original."""
    here, package = Path("wtl").resolve(), Path(__file__).parent
    if (here / "cli.py").is_file() and not here.samefile(package):
        console.print(
            f"this is the code of {package}, not of {here}; `make setup` makes an environment for this folder"
        )


@contextlib.contextmanager
def _pipeline(config: str, overrides: list[str] | None, writes: bool = False) -> Iterator[Pipeline]:
    """Give a pipeline; one that `writes` holds its directory from beginning to end."""
    from wtl.app.config import load_config
    from wtl.app.pipeline import Pipeline

    _say_whose_code_runs()
    group = ProcessGroup.from_environment()
    pipeline = Pipeline(
        load_config(config, overrides or []), console if group.is_main else make_console(quiet=True), group
    )
    group.join()
    try:
        with pipeline.held() if writes else contextlib.nullcontext():
            yield pipeline
        group.leave()
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
    with _pipeline(config, overrides, writes=True) as pipeline:
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
    with _pipeline(config, overrides, writes=True) as pipeline:
        trainings = [step.name for step in pipeline.steps() if step.train]
        if pipeline.group.size > 1 and name not in trainings:
            raise ValueError(f"torchrun is for trainings, got {name!r}; they are {', '.join(trainings)}")
        pipeline.run(only=name)


@app.command()
def graded(config: ConfigName, overrides: Overrides = None) -> None:
    """Graded episodes alone, from random to expert, evenly by family: experts under noise, wrong ones, methods."""
    from rich.table import Table

    with _pipeline(config, overrides, writes=True) as pipeline:
        table = Table("player", "attempt", "episodes", "success in %", "return, 0 lowest to 1 highest of its family")
        for line in pipeline.grade():
            numbers = (line.attempt, line.episodes, f"{100 * line.success:.0f}", f"{line.mean_return:.2f}")
            table.add_row(line.grade.name, *map(str, numbers))
        make_console().print(table)


@app.command()
def evaluate(config: ConfigName, overrides: Overrides = None) -> None:
    """Method, controls and other methods on one fixed list of entries; then the report."""
    with _pipeline(config, overrides, writes=True) as pipeline:
        if pipeline.config.checkpoint:  # nothing but demonstrations comes before
            pipeline.run(only="demonstrations")
        pipeline.run(only="evaluation")
        _present(pipeline)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories or results files; several are compared.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print summary and differences as JSON.")] = False,
    markdown: Annotated[bool, typer.Option(help="Tables that can be pasted.")] = False,
    latex: Annotated[bool, typer.Option(help="Tables for LaTeX, with the package booktabs.")] = False,
    csv: Annotated[bool, typer.Option(help="One row an attempt, curve and group, for programs.")] = False,
    cost: Annotated[bool, typer.Option(help="Success against environment steps on the new task.")] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG (--cost: cost.png).")] = None,
) -> None:
    """Success by attempt with intervals, paired differences and verdicts, of one run or several.

    Runs that differ in their training seed alone are pooled; else the first minus each other is given.
    """
    from wtl.analysis.runs import load_runs

    if figure is not None:
        from wtl.analysis.figures import check_ending, draw_curves

        check_ending(figure)
    if sum((json_output, markdown, latex, csv, cost)) > 1:
        raise ValueError("give one of --json, --markdown, --latex, --csv, --cost")
    results = load_runs(runs)
    if cost:
        _report_cost(results, figure or Path("cost.png"))
        return
    _print_report(results, json_output, csv, "markdown" if markdown else "latex" if latex else "")
    if figure is not None:
        draw_curves({name: r.rows for name, r in results.items()}, figure)


def _print_report(results: Mapping[str, RunResults], as_json: bool, as_csv: bool, language: str) -> None:
    import json

    from wtl.analysis.records import report_csv, report_json
    from wtl.analysis.report import report_tables
    from wtl.analysis.tables import print_tables, to_latex, to_markdown

    if as_json:
        typer.echo(json.dumps(report_json(results), indent=1))
    elif as_csv:
        typer.echo(report_csv(results), nl=False)
    else:
        languages = {"markdown": to_markdown, "latex": to_latex}
        print_tables(report_tables(results), as_text=languages.get(language))


def _report_cost(results: Mapping[str, RunResults], figure: Path) -> None:
    from wtl.analysis.cost import cost_table, write_cost
    from wtl.analysis.tables import print_tables

    write_cost(results, figure)
    print_tables([cost_table(results)])
    console.print(f"wrote {figure} and {figure.with_suffix('.csv')}", markup=False, highlight=False)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="A run directory, a results file, or a folder of experiments/.")],
    overrides: Overrides = None,
    groups: Annotated[int, typer.Option(min=1, help="Groups of two or three entries of each family.")] = 1,
) -> None:
    """Play a sample of a table's entries again and say whether it reproduces; exit code 1 if it does not."""
    from wtl.analysis.tables import print_tables
    from wtl.app.verify import verify as verified

    reproduces = True
    for verification in verified(path, groups, overrides or [], console):
        print_tables([verification.table()])
        reproduces = reproduces and verification.reproduces
    if not reproduces:
        raise typer.Exit(1)


@app.command()
def tensorboard(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, shown beside one another.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The first port to try.")] = 6006,
) -> None:
    """Start TensorBoard and print the address at which the improvement curves stand as measured, without smoothing."""
    import signal

    from wtl.app.board import tensorboard as started

    with started(runs, port) as (address, _):
        typer.echo(f"{address}\nCtrl-C stops it")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


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
        write_video(make_clips(pipeline.plan, console, entry, style), out)  # type: ignore[arg-type]
        console.print(f"wrote {out}")


@app.command(name="methods")
def list_methods() -> None:
    """The methods that can be trained and evaluated, with what they read."""
    from rich.table import Table

    from wtl.methods.registry import known_methods

    table = Table("method", "demonstrations", "trials", "what it is")
    for spec in known_methods().values():
        table.add_row(spec.name, spec.reads.demonstrations, "read" if spec.reads.trials else "ignored", spec.summary)
    make_console().print(table)


@app.command(name="tasks")
def list_tasks() -> None:
    """Families, benchmark splits, and which families hide their goal."""
    from rich.table import Table

    from wtl.tasks import toy
    from wtl.tasks.metaworld import splits

    table = Table("family", "goal", *splits.BENCHMARKS, title="Meta-World families (ML1: any of them, train and test)")
    for family in splits.ALL_FAMILIES:
        marks = [
            " ".join(name for name, members in zip(("train", "test"), pair, strict=True) if family in members)
            for pair in splits.BENCHMARKS.values()
        ]
        table.add_row(family, "hidden" if family in splits.HIDDEN_GOAL else "visible", *marks)
    out = make_console()
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
        console.print(sentence, soft_wrap=True)


_PATIENCE_S = 20.0
"""How long the others wait for it: on a busy machine a process takes seconds to come as far."""


@contextlib.contextmanager
def _main_process_speaks_first() -> Iterator[None]:
    """Let the others wait: torchrun stops all when one ends, and what all say is then heard once."""
    try:
        yield
    except Exception:
        if not ProcessGroup.from_environment().is_main:
            time.sleep(_PATIENCE_S)
        raise


@contextlib.contextmanager
def _signals_are_heard() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM speak at once and end the command on its usual way out, with the workers stopped.

    A second one ends it on the spot. A signal that was ignored, as `nohup` does, stays so.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for other in heard:
            signal.signal(other, lambda again, _: os._exit(128 + again))
        word = "interrupted" if number == signal.SIGINT else "terminated"
        if ProcessGroup.from_environment().is_main:  # written past all buffers, in which it may be the interruption
            os.write(2, f"\n{word}; the same command goes on where this one stopped\n".encode())
        raise SystemExit(128 + number)

    heard = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(sentence: object, code: int) -> SystemExit:
    """Say what went wrong, on one line; return the end of the program."""
    console.print(Text.assemble(("error:", "bold red"), f" {' '.join(str(sentence).splitlines())}"), soft_wrap=True)
    return SystemExit(code)


def main() -> None:
    """Run the command line: every foreseen mistake is one sentence and exit code 2."""
    # Two cores are the common case; busy-waiting threads would starve the thread that makes batches.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    accept_every_encoding()
    try:
        with _signals_are_heard(), _main_process_speaks_first():
            for argument in sys.argv[1:]:  # it may name a file; what key=value may hold is up to its key
                if "=" not in argument:
                    check(str, argument, "an argument")
            raise SystemExit(app(standalone_mode=False) or 0)
    except UsageError as error:
        message = error.format_message()  # type: ignore[attr-defined]
        if "\n" in message:  # the help, for a command without anything
            console.print(message)
            raise SystemExit(2) from None
        raise _fail(f"{message.rstrip('.')}; `wtl --help` and `wtl COMMAND --help` say what there is", 2) from None
    except (ValueError, FloatingPointError) as error:
        raise _fail(error, 2) from None
    except OSError as error:
        raise _fail(explain(error), 1 if is_bad_luck(error) else 2) from None
    except WorkersDied as error:
        hint = "if memory is short, set workers lower. The same command goes on where this one stopped"
        raise _fail(f"{error}; {hint}", 1) from None
