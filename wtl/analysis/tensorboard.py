"""An evaluation in TensorBoard: improvement curves, intervals, families, hyper-parameters, pictures.

There is one TensorBoard run per method and control, below `curves`, named as in every table
(`method`, `method.control`); the step of every scalar is the attempt number. The whole of `curves` is
written anew beside the old one and swapped in, so that writing again duplicates nothing, and the
training curves in the same directory stay untouched.

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
from wtl.analysis.episodes import by_setting, curve_name, curves, groups, main_method, main_rows, success_rates
from wtl.analysis.report import report_tables
from wtl.analysis.runs import RunResults
from wtl.analysis.tables import to_markdown
from wtl.core.files import naming, scratch_folder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_NAMES = {"all": "improvement"} | {g: f"improvement/{g}" for g in ("hidden_goal", "visible_goal")}

Value = str | int | float | bool

LAYOUT = {
    "improvement": {
        "success by attempt, 95 % Wilson interval": [
            "Margin",
            ["improvement/success", "interval/success/low", "interval/success/high"],
        ],
        "gain over attempt 0, same entries, 95 % bootstrap interval": [
            "Margin",
            ["paired/gain/value", "paired/gain/low", "paired/gain/high"],
        ],
        "main method minus this one, same entries, 95 % bootstrap interval": [
            "Margin",
            ["paired/main_minus_this/value", "paired/main_minus_this/low", "paired/main_minus_this/high"],
        ],
    },
    "families": {"success by family and attempt": ["Multiline", ["families/.*/success"]]},
}
"""The custom scalars page. Multiline tags are regular expressions, margin tags are not."""


def write_tensorboard(
    log_dir: Path,
    rows: pd.DataFrame,
    hidden_goal_families: frozenset[str],
    *,
    config_yaml: str,
    hyper_parameters: Mapping[str, Value],
    figures: Mapping[str, Path],
    strips: Mapping[str, Path],
) -> Path:
    """Write `log_dir/curves` in place of an older one, and returns it.

    `rows` is the table of `wtl.analysis.episodes`; `figures` and `strips` are PNG or (animated) GIF
    files by the name to show. Several regimes or splits get a directory each below `curves`. Raises
    ValueError if there are no rows or a picture is neither PNG nor GIF, FileNotFoundError if it is
    missing; the older curves are then still there.
    """
    if rows.empty:
        raise ValueError("there is nothing to write to TensorBoard: no rows")
    log_dir = log_dir.resolve()
    # Beside the folder that TensorBoard reads, so that it never sees what is not whole.
    with scratch_folder(log_dir.parent) as scratch:
        new, target = scratch / "curves", log_dir / "curves"
        settings = by_setting(rows)
        for setting, members in settings.items():
            directory = new if len(settings) == 1 else new / setting
            _write_curves(directory, members, hidden_goal_families)
            with _writer(directory / main_method(members)) as writer:
                _write_texts(writer, RunResults(members, hidden_goal_families), config_yaml)
                for kind, pictures in (("figures", figures), ("strips", strips)):
                    for name, path in pictures.items():
                        _add_picture(writer, f"{kind}/{name}", path)
                writer.flush()
                _write_hyper_parameters(writer, members, hyper_parameters)
        with naming(target):
            log_dir.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target.replace(scratch / "old")
            new.replace(target)
    return target


def _writer(directory: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(log_dir=str(directory))


def _write_curves(directory: Path, rows: pd.DataFrame, hidden_goal_families: frozenset[str]) -> None:
    gained, compared = gains(rows), against_others(rows)
    for key, curve in curves(rows).items():
        with _writer(directory / curve_name(key)) as writer:
            for group, members in groups(curve, hidden_goal_families).items():
                _write_group(writer, group, members)
            gains_here = [comparison for comparison in gained if comparison.after == key]
            if gains_here:
                _write_margin(writer, "paired/gain", 0, 0.0, 0.0, 0.0)  # no gain yet: where the margin opens
            for name, comparisons in (
                ("paired/gain", gains_here),
                ("paired/main_minus_this", [comparison for comparison in compared if comparison.before == key]),
            ):
                for c in comparisons:
                    _write_margin(writer, name, c.after_attempt, c.result.difference, c.result.low, c.result.high)


def _write_group(writer: SummaryWriter, group: str, rows: pd.DataFrame) -> None:
    """Write success, return and reward per step of a group of one curve; the interval where it is `all`."""
    name = _NAMES.get(group, f"families/{group}")
    sums = rows.groupby("attempt").agg(total=("return", "sum"), steps=("steps", "sum"))
    for point in success_rates(rows).set_index("attempt").join(sums).itertuples():
        attempt, total = point.Index, point.total
        writer.add_scalar(f"{name}/success", point.successes / point.n, attempt)
        writer.add_scalar(f"{name}/return", total / point.n, attempt)
        # Episodes end soon after a success, so the return alone falls as a policy gets better.
        writer.add_scalar(f"{name}/reward_per_step", total / point.steps, attempt)
        if group == "all":
            writer.add_scalar("interval/success/low", point.low, attempt)
            writer.add_scalar("interval/success/high", point.high, attempt)


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
    metrics = {f"final/success_attempt_{attempt}": rate for attempt, rate in rates.items()}
    for comparison in gains(main):
        metrics[f"final/gain_attempt_{comparison.after_attempt}"] = comparison.result.difference
    shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in hyper_parameters.items()}
    writer.add_hparams(shown, metrics, run_name=".")


def _add_picture(writer: SummaryWriter, tag: str, path: Path) -> None:
    """Write the file as it is, so that a GIF stays animated."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "GIF")) as picture:
            width, height = picture.size
    except UnidentifiedImageError:
        raise ValueError(f"{path} must be a PNG or a GIF to be shown in TensorBoard") from None
    image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), 0)
