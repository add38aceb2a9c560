"""An evaluation in TensorBoard: improvement curves, intervals, families, hyper-parameters, pictures.

One TensorBoard run per method and control, below `curves`; the step of every scalar is the attempt
number. The whole of `curves` is written anew beside the old one and swapped in, so that writing
again duplicates nothing, and the training curves in the same directory stay untouched.

Traps, each read in the source of torch 2.15 and TensorBoard 2.21: a margin chart takes its tags in
the order value, low, high (absolute values, all three at the same steps of one run); `add_hparams`
stores a bool as a number; `add_video` logs nothing without moviepy, while an image summary may hold
any encoded image, and TensorBoard serves the bytes of an animated GIF as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wtl.analysis.report import (
    Comparison,
    RunResults,
    against_others,
    gains,
    point,
    report_tables,
    to_markdown,
)
from wtl.analysis.results import Rows, by_setting, curve_name, curves, groups, main_method

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
    rows: Rows,
    hidden_goal_families: frozenset[str],
    *,
    config_yaml: str,
    hyper_parameters: Mapping[str, Value],
    figures: Mapping[str, Path],
    strips: Mapping[str, Path],
) -> Path:
    """Write `log_dir/curves` in place of an older one, and return it.

    `figures` and `strips` are PNG or (animated) GIF files by the name to show. Rows of several regimes
    or splits get a directory each below `curves`. Raises ValueError if there are no rows or a picture
    is neither PNG nor GIF, FileNotFoundError if it is missing; the older curves are then still there.
    """
    if not rows:
        raise ValueError("there is nothing to write to TensorBoard: no rows")
    log_dir = log_dir.resolve()
    target, partial = log_dir / "curves", log_dir.with_name(f".{log_dir.name}.curves.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        settings = by_setting(rows)
        for setting, members in settings.items():
            place = partial if len(settings) == 1 else partial / setting
            _write_setting(place, members, hidden_goal_families)
            with _writer(place / main_method(members)) as writer:
                _write_main(writer, RunResults(tuple(members), hidden_goal_families), config_yaml)
                for kind, pictures in (("figures", figures), ("strips", strips)):
                    for name, path in pictures.items():
                        _add_picture(writer, f"{kind}/{name}", path)
                writer.flush()
                _write_hyper_parameters(writer, members, hyper_parameters)
        _swap(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _writer(directory: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(log_dir=str(directory))


def _write_setting(place: Path, rows: Rows, hidden_goal_families: frozenset[str]) -> None:
    gained, compared = gains(rows), against_others(rows)
    for key, attempts in curves(rows).items():
        with _writer(place / curve_name(key)) as writer:
            _write_curve(writer, attempts, hidden_goal_families)
            mine = [comparison for comparison in gained if comparison.after == key]
            if mine:
                for end in ("value", "low", "high"):
                    writer.add_scalar(f"paired/gain/{end}", 0.0, 0)  # no gain yet: where the margin opens
            for comparison in mine:
                _write_difference(writer, "paired/gain", comparison)
            for comparison in compared:
                if comparison.before == key:
                    _write_difference(writer, "paired/main_minus_this", comparison)


def _write_curve(writer: SummaryWriter, attempts: Mapping[int, Rows], hidden_goal_families: frozenset[str]) -> None:
    for attempt, members in attempts.items():
        for group, grouped in groups(members, hidden_goal_families).items():
            name, here = _NAMES.get(group, f"families/{group}"), point(attempt, grouped)
            writer.add_scalar(f"{name}/success", here["successes"] / here["n"], attempt)
            total = sum(row.total_reward for row in grouped)
            writer.add_scalar(f"{name}/return", total / here["n"], attempt)
            # Episodes end soon after a success, so the return alone falls as a policy gets better.
            writer.add_scalar(f"{name}/reward_per_step", total / sum(row.steps for row in grouped), attempt)
            if group == "all":
                writer.add_scalar("interval/success/low", here["low"], attempt)
                writer.add_scalar("interval/success/high", here["high"], attempt)


def _write_difference(writer: SummaryWriter, name: str, comparison: Comparison) -> None:
    for end, value in (
        ("value", comparison.result.difference),
        ("low", comparison.result.low),
        ("high", comparison.result.high),
    ):
        writer.add_scalar(f"{name}/{end}", value, comparison.after_attempt)


def _write_main(writer: SummaryWriter, run: RunResults, config_yaml: str) -> None:
    """The configuration and the tables as text, and the layout of the custom scalars."""
    indented = "".join(f"    {line}\n" for line in config_yaml.splitlines())  # a code block in Markdown
    writer.add_text("configuration", indented)
    writer.add_text("tables", "\n".join(to_markdown(table) for table in report_tables({"evaluation": run})))
    writer.add_custom_scalars(LAYOUT)


def _write_hyper_parameters(writer: SummaryWriter, rows: Rows, hyper_parameters: Mapping[str, Value]) -> None:
    """`run_name="."` keeps them in the run of the main method instead of one named by the time."""
    main = (main_method(rows), "")
    metrics = {}
    for attempt, members in curves(rows)[main].items():
        here = point(attempt, members)
        metrics[f"final/success_attempt_{attempt}"] = here["successes"] / here["n"]
    for comparison in gains(rows):
        if comparison.after == main:
            metrics[f"final/gain_attempt_{comparison.after_attempt}"] = comparison.result.difference
    shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in hyper_parameters.items()}
    writer.add_hparams(shown, metrics, run_name=".")


def _add_picture(writer: SummaryWriter, tag: str, path: Path) -> None:
    """The file as it is, so that a GIF stays animated."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    content = path.read_bytes()
    width, height = _picture_size(path, content)
    image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), 0)


def _picture_size(path: Path, content: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG or a GIF."""
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if content[:6] in (b"GIF87a", b"GIF89a"):
        return int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")
    raise ValueError(f"{path} must be a PNG or a GIF to be shown in TensorBoard")


def _swap(new: Path, target: Path) -> None:
    """Put a directory in the place of another; whatever is killed, the next call starts clean."""
    old = new.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.replace(old)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)
