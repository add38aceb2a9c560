"""An evaluation in TensorBoard: improvement curves, controls, families, intervals, hyper-parameters, pictures.

There is one TensorBoard run per method, below `curves`; its controls are tags of it, because TensorBoard has seven
colours and runs beyond them share one. The step of every scalar is the attempt number. Tags begin with a number, so
that TensorBoard, which sorts them, shows them in the order in which people look. The whole of `curves` is written anew
beside the old one and swapped in, so that writing again duplicates nothing, and the training curves in the same
directory stay untouched.

There is no curve of returns: episodes end soon after a success, so the return of a policy that gets better falls; the
reward per step does not.

Traps, each read in the source of torch 2.15 and TensorBoard 2.21: a margin chart takes its tags in
the order value, low, high (absolute values, all three at the same steps of one run); `add_hparams`
stores a bool as a number; `add_video` logs nothing without moviepy, while an image summary may hold
any encoded image, and TensorBoard serves the bytes of an animated GIF as they are.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image, UnidentifiedImageError

from wtl.analysis.comparisons import against_others, gains
from wtl.analysis.episodes import POOLED, by_setting, curves, groups, main_method, main_rows, success_rates
from wtl.analysis.events import event_writer
from wtl.analysis.report import report_tables
from wtl.analysis.runs import RunResults
from wtl.analysis.tables import to_markdown
from wtl.core.files import naming, scratch_folder

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter

IMPROVEMENT, CONTROLS, FAMILIES, INTERVALS, FINAL = (
    "1_improvement", "2_controls", "3_families", "5_intervals", "6_final",
)  # fmt: skip
"""The groups of tags, in the order in which they are shown; `wtl.stages.training` writes `4_training`."""

Value = str | int | float | bool

LAYOUT = {
    "improvement": {
        "success by attempt, 95 % Wilson interval": [
            "Margin",
            [f"{IMPROVEMENT}/success", f"{INTERVALS}/success/low", f"{INTERVALS}/success/high"],
        ],
        "gain over attempt 0, same entries, 95 % bootstrap interval": [
            "Margin",
            [f"{INTERVALS}/gain/{end}" for end in ("value", "low", "high")],
        ],
        "main method minus this one, same entries, 95 % bootstrap interval": [
            "Margin",
            [f"{INTERVALS}/main_minus_this/{end}" for end in ("value", "low", "high")],
        ],
    },
    "controls": {"success by control": ["Multiline", [f"{CONTROLS}/.*"]]},
    "families": {"success by family and attempt": ["Multiline", [f"{FAMILIES}/.*"]]},
}
"""The custom scalars page. Multiline tags are regular expressions, margin tags are not."""


def write_tensorboard(
    log_dir: Path,
    rows: pd.DataFrame,
    hidden_goal_families: frozenset[str],
    *,
    config_yaml: str,
    hyper_parameters: Mapping[str, Value],
    pictures: Mapping[str, Path],
) -> Path:
    """Write `log_dir/curves` in place of an older one, and returns it.

    `rows` is the table of `wtl.analysis.episodes`; `pictures` are PNG or (animated) GIF files by the name to show,
    and stand beside the improvement curve. Several regimes or splits get a directory each below `curves`. Raises
    ValueError if there are no rows or a picture is neither PNG nor GIF, FileNotFoundError if it is missing; the older
    curves are then still there.
    """
    if rows.empty:
        raise ValueError("there is nothing to write to TensorBoard: no rows")
    shown = {f"{IMPROVEMENT}/{name}": _picture(path) for name, path in pictures.items()}
    log_dir = log_dir.resolve()
    target = log_dir / "curves"
    # Beside the folder that TensorBoard reads, so that it never sees what is not whole.
    with naming(target), scratch_folder(log_dir.parent) as scratch:
        new = scratch / "curves"
        settings = by_setting(rows)
        for setting, members in settings.items():
            directory = new if len(settings) == 1 else new / setting
            _write_curves(directory, members, hidden_goal_families)
            with event_writer(directory / main_method(members)) as writer:
                _write_texts(writer, RunResults(members, hidden_goal_families), config_yaml)
                for tag, picture in shown.items():
                    _add_picture(writer, tag, picture)
                writer.flush()
                _write_hyper_parameters(writer, members, hyper_parameters)
        log_dir.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.replace(scratch / "old")
        new.replace(target)
    return target


def _write_curves(directory: Path, rows: pd.DataFrame, hidden_goal_families: frozenset[str]) -> None:
    gained, compared = gains(rows), against_others(rows)
    for key, curve in curves(rows).items():
        method, control = key
        with event_writer(directory / method) as writer:
            if control:
                _write_rates(writer, f"{CONTROLS}/{control}", curve, f"{INTERVALS}/{control}")
            else:
                _write_method(writer, curve, hidden_goal_families)
            about = f"{control}/" if control else ""
            gains_here = [] if control else [comparison for comparison in gained if comparison.after == key]
            if gains_here:
                _write_margin(writer, f"{INTERVALS}/gain", 0, 0.0, 0.0, 0.0)  # no gain yet: where the margin opens
            for name, comparisons in (
                ("gain", gains_here),
                (f"{about}main_minus_this", [comparison for comparison in compared if comparison.before == key]),
            ):
                for c in comparisons:
                    result = c.result
                    _write_margin(
                        writer, f"{INTERVALS}/{name}", c.after_attempt, result.difference, result.low, result.high
                    )


def _write_method(writer: SummaryWriter, rows: pd.DataFrame, hidden_goal_families: frozenset[str]) -> None:
    _write_rates(writer, f"{IMPROVEMENT}/success", rows, f"{INTERVALS}/success")
    sums = rows.groupby("attempt").agg(total=("return", "sum"), steps=("steps", "sum"))
    for attempt, reward in (sums["total"] / sums["steps"]).items():
        writer.add_scalar(f"{IMPROVEMENT}/reward_per_step", reward, attempt)
    for group, members in groups(rows, hidden_goal_families).items():
        if group != "all":
            tag = f"{IMPROVEMENT}/success_{group}" if group in POOLED else f"{FAMILIES}/{group}"
            _write_rates(writer, tag, members)


def _write_rates(writer: SummaryWriter, tag: str, rows: pd.DataFrame, interval: str = "") -> None:
    """Write success by attempt, and its 95 % Wilson interval where `interval` names a tag for it."""
    for point in success_rates(rows).itertuples():
        writer.add_scalar(tag, point.successes / point.n, point.attempt)
        if interval:
            writer.add_scalar(f"{interval}/low", point.low, point.attempt)
            writer.add_scalar(f"{interval}/high", point.high, point.attempt)


def _write_margin(writer: SummaryWriter, name: str, attempt: int, value: float, low: float, high: float) -> None:
    for end, number in (("value", value), ("low", low), ("high", high)):
        writer.add_scalar(f"{name}/{end}", number, attempt)


def _write_texts(writer: SummaryWriter, run: RunResults, config_yaml: str) -> None:
    """Write the configuration and the tables as text, and the layout of the custom scalars."""
    indented = "".join(f"    {line}\n" for line in config_yaml.splitlines())  # a code block in Markdown
    writer.add_text("configuration", indented)
    writer.add_text("tables", "\n".join(to_markdown(table) for table in report_tables({"evaluation": run})))
    writer.add_custom_scalars(LAYOUT)


def _write_hyper_parameters(writer: SummaryWriter, rows: pd.DataFrame, hyper_parameters: Mapping[str, Value]) -> None:
    """Write them with the final numbers; `run_name="."` keeps them in the run of the main method."""
    main = main_rows(rows)
    rates = main.groupby("attempt")["success"].mean()
    metrics = {f"{FINAL}/success_attempt_{attempt}": rate for attempt, rate in rates.items()}
    for comparison in gains(main):
        metrics[f"{FINAL}/gain_attempt_{comparison.after_attempt}"] = comparison.result.difference
    shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in hyper_parameters.items()}
    writer.add_hparams(shown, metrics, run_name=".")


def _picture(path: Path) -> Summary.Image:
    """Return the file as it is, so that a GIF stays animated."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "GIF")) as picture:
            width, height = picture.size
    except UnidentifiedImageError:
        raise ValueError(f"{path} must be a PNG or a GIF to be shown in TensorBoard") from None
    return Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)


def _add_picture(writer: SummaryWriter, tag: str, picture: Summary.Image) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), 0)
