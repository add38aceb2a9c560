"""The improvement curve as a picture: success by attempt, and by family where there are several.

It draws what `wtl.analysis.report` counted and counts nothing itself. Colours are those of Okabe and Ito,
which colour-blind readers tell apart, and no two curves share both colour and marker
(https://jfly.uni-koeln.de/color/). Uses matplotlib without pyplot: no window, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from wtl.analysis.report import Point, point
from wtl.analysis.results import (
    POOLED,
    CurveKey,
    Rows,
    by_attempt,
    by_setting,
    curve_name,
    curves,
    groups,
    main_method,
    main_rows,
)
from wtl.core.files import write_atomically

MAIN_COLOUR = "#0072B2"
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
MARKERS = "sD^vPX*<>hd"
PIXELS_PER_INCH = 130


def draw_curves(runs: Mapping[str, Rows], path: Path, *, title: str = "") -> None:
    """Write a PNG of the improvement curves, and of the families where there is more than one.

    Of one run: the main method with its band, every control and every other method. Of several, or
    of one with several regimes or splits: their main methods. Intervals are 95 % Wilson. Raises
    ValueError if there are no rows.
    """
    settings = _settings(runs)
    families = sorted({row.family for rows in settings.values() for row in rows})
    panels = 2 if len(families) > 1 else 1
    height = 4.6 if panels == 1 else max(4.6, 1.6 + 0.34 * len(families))
    figure = Figure(figsize=(7.6 + 5.4 * (panels - 1), height), dpi=PIXELS_PER_INCH, layout="constrained")
    axes: Sequence[Axes] = np.ravel(figure.subplots(1, panels, width_ratios=(7.6, 5.4)[:panels]))  # type: ignore[assignment]
    if len(settings) == 1:
        _draw_one_run(axes[0], next(iter(settings.values())))
    else:
        _draw_runs(axes[0], settings)
    if panels == 2:
        _draw_families(axes[1], settings, families)
    _dress_curves(axes[0])
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomically(path, picture.getvalue())


def _settings(runs: Mapping[str, Rows]) -> dict[str, Rows]:
    """The rows of each run, regime and split; a run with one of each keeps its label."""
    found: dict[str, Rows] = {}
    for label, rows in runs.items():
        settings = by_setting(rows)
        for setting, members in settings.items():
            found[label if len(settings) == 1 else f"{label} {setting}".strip()] = members
    if not found:
        raise ValueError("there is nothing to draw: no rows")
    return found


def _draw_one_run(axes: Axes, rows: Rows) -> None:
    main = (main_method(rows), "")
    others = [key for key in curves(rows) if key != main]
    places = np.linspace(-0.16, 0.16, len(others)) if len(others) > 1 else [0.1]
    shift = dict(zip(others, places, strict=False))
    for index, (key, attempts) in enumerate(curves(rows).items()):
        points = [point(attempt, members) for attempt, members in attempts.items()]
        if key == main:
            _draw_main(axes, curve_name(key), points, MAIN_COLOUR, "o")
        else:
            _draw_other(axes, key, points, shift[key], index - 1)


def _draw_runs(axes: Axes, settings: Mapping[str, Rows]) -> None:
    for index, (label, rows) in enumerate(settings.items()):
        points = [point(attempt, members) for attempt, members in by_attempt(main_rows(rows)).items()]
        _draw_main(axes, f"{label}: {main_method(rows)}", points, _colour(index), _marker(index))


def _draw_main(axes: Axes, label: str, points: Sequence[Point], colour: str, marker: str) -> None:
    attempts, rates, errors = _numbers(points)
    axes.fill_between(attempts, rates - errors[0], rates + errors[1], color=colour, alpha=0.15, linewidth=0)
    axes.errorbar(
        attempts, rates, errors, color=colour, marker=marker, markersize=7, linewidth=2.6, elinewidth=1.4,
        capsize=4, label=_label(label, points), zorder=5,
    )  # fmt: skip


def _draw_other(axes: Axes, key: CurveKey, points: Sequence[Point], shift: float, index: int) -> None:
    """A control in colour, dashed; another method in grey, with a dotted line if it has one attempt."""
    attempts, rates, errors = _numbers(points)
    line = "--" if len(points) > 1 else ("none" if key[1] else ":")
    colour = COLOURS[index % len(COLOURS)] if key[1] else "#666666"
    style: dict[str, Any] = {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markersize": 6}
    axes.errorbar(
        attempts + shift, rates, errors, **style, linestyle=line, linewidth=1.3, capsize=2.5, elinewidth=1,
        label=_label(curve_name(key), points), zorder=4,
    )  # fmt: skip
    if len(points) == 1 and not key[1]:
        axes.axhline(rates[0], color=colour, linestyle=":", linewidth=0.9, zorder=1)


def _draw_families(axes: Axes, settings: Mapping[str, Rows], families: Sequence[str]) -> None:
    """Bars of the first and the last attempt of one run, or of the last attempt of several."""
    bars: list[tuple[str, str, Mapping[str, Point]]] = []
    for index, (label, rows) in enumerate(settings.items()):
        attempts = list(by_attempt(main_rows(rows)).items())
        shown = attempts[-1:] if len(settings) > 1 else [attempts[0], *attempts[1:][-1:]]
        for attempt, members in shown:
            title = f"{label}, attempt {attempt}" if len(settings) > 1 else f"attempt {attempt}"
            colour = _colour(index) if attempt or len(settings) > 1 else "#A6C8DE"
            grouped = groups(members, frozenset())
            in_family = {name: point(attempt, grouped[name]) for name in grouped if name not in POOLED}
            bars.append((title, colour, in_family))
    thickness = 0.8 / len(bars)
    for index, (name, colour, points) in enumerate(bars):
        present = [family for family in families if family in points]
        _, rates, errors = _numbers([points[family] for family in present])
        places = np.array([families.index(f) for f in present]) + (index - (len(bars) - 1) / 2) * thickness
        axes.barh(
            places, rates, thickness * 0.92, color=colour, label=name, xerr=errors,
            error_kw={"ecolor": "#444444", "elinewidth": 0.9, "capsize": 2},
        )  # fmt: skip
    axes.set_yticks(range(len(families)), families, fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(families) - 0.4, -0.6), title="by family", xlabel="success")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)


def _dress_curves(axes: Axes) -> None:
    axes.set(ylim=(-0.03, 1.03), title="success by attempt", ylabel="success, 95 % Wilson interval")
    axes.set_xlabel("attempt (trials before it)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _numbers(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attempts (P,), success rates (P,), and how far the interval reaches below and above (2, P)."""
    attempts = np.array([p["attempt"] for p in points], dtype=np.float64)
    rates = np.array([p["successes"] / p["n"] for p in points])
    errors = np.array([[r - p["low"], p["high"] - r] for r, p in zip(rates, points, strict=True)]).T
    return attempts, rates, errors.clip(min=0)


def _label(name: str, points: Sequence[Point]) -> str:
    sizes = sorted({p["n"] for p in points})
    return f"{name} (n={sizes[0]})" if len(sizes) == 1 else f"{name} (n={sizes[0]} to {sizes[-1]})"


def _colour(index: int) -> str:
    return (MAIN_COLOUR, *COLOURS)[index % (1 + len(COLOURS))]


def _marker(index: int) -> str:
    return f"o{MARKERS}"[index % (1 + len(MARKERS))]
