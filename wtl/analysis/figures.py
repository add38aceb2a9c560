"""The improvement curve as a picture: success by attempt, the controls, and success by family where there are several.

It draws what `wtl.analysis.episodes` counted and counts nothing itself. An attempt stands where it is on the axis and
nowhere beside it: what was played once only, whatever the attempt, is a level across the panel with its name at the
end, and controls have a panel of their own. Colours are those of Okabe and Ito, which colour-blind readers tell apart
(https://jfly.uni-koeln.de/color/). It uses matplotlib without pyplot: no window, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from wtl.analysis.episodes import (
    CurveKey,
    by_attempt,
    by_setting,
    curve_name,
    curves,
    main_method,
    main_rows,
    success_rates,
)
from wtl.core.files import write_atomically

MAIN_COLOUR = "#0072B2"
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
MARKERS = "sD^vPX*<>hd"
PIXELS_PER_INCH = 130
_LOWEST, _APART = -0.03, 0.052
"""The lower end of the panel of curves, and how far apart names are written, both in units of success."""


def check_ending(path: Path) -> None:
    """Raises ValueError for a file that is not `.png`."""
    if path.suffix != ".png":
        raise ValueError(f"the figure is written as .png, got {path.name}")


def draw_curves(runs: Mapping[str, pd.DataFrame], path: Path, *, title: str = "") -> None:
    """Write a PNG of the improvement curves, and of the families where there is more than one.

    `runs` holds the episodes of each run by its label (`wtl.analysis.episodes` describes the table).
    For one run the figure shows the main method with its band, every other method, and the controls;
    for several, or for one with several regimes or splits, it shows their main methods. Intervals are
    95 % Wilson. Raises ValueError if there are no episodes, or for another ending than `.png`.
    """
    check_ending(path)
    settings = _settings(runs)
    families = sorted({family for episodes in settings.values() for family in episodes["family"]})
    alone = next(iter(settings.values())) if len(settings) == 1 else None
    controls = {} if alone is None else {key: rows for key, rows in curves(alone).items() if key[1]}
    widths = [6.4, *([3.9] if controls else []), *([4.4] if len(families) > 1 else [])]
    height = max(4.6, 1.6 + 0.34 * len(families), 1.8 + 0.3 * len(controls))
    figure = Figure(figsize=(sum(widths), height), dpi=PIXELS_PER_INCH, layout="constrained")
    axes: list[Axes] = list(np.ravel(figure.subplots(1, len(widths), width_ratios=widths)))
    if alone is not None:
        _draw_one_run(axes[0], alone)
    else:
        _draw_runs(axes[0], settings)
    if controls and alone is not None:
        _draw_controls(axes[1], alone, controls)
    if len(families) > 1:
        _draw_families(axes[-1], settings, families)
    _format_curves(axes[0])
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomically(path, picture.getvalue())


def _settings(runs: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the episodes of each run, regime and split; a run with one of each keeps its label."""
    found: dict[str, pd.DataFrame] = {}
    for label, episodes in runs.items():
        settings = by_setting(episodes)
        for setting, members in settings.items():
            found[label if len(settings) == 1 else f"{label} {setting}".strip()] = members
    if not found:
        raise ValueError("there is nothing to draw: no rows")
    return found


def _draw_one_run(axes: Axes, episodes: pd.DataFrame) -> None:
    rates = {key[0]: success_rates(curve) for key, curve in curves(episodes).items() if not key[1]}
    name = main_method(episodes)
    names = [_draw_curve(axes, name, rates.pop(name), MAIN_COLOUR, "o")]
    for index, (other, points) in enumerate(rates.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        if len(points) > 1:
            names.append(_draw_curve(axes, other, points, colour, marker, thin=True))
        else:
            names.append(_draw_level(axes, other, points, colour))
    _write_names(axes, names)


def _draw_runs(axes: Axes, settings: Mapping[str, pd.DataFrame]) -> None:
    names = []
    for index, (label, episodes) in enumerate(settings.items()):
        name = f"{label}: {main_method(episodes)}"
        names.append(_draw_curve(axes, name, success_rates(main_rows(episodes)), _colour(index), _marker(index)))
    _write_names(axes, names)


Name = tuple[float, str, str]
"""The height at which a line ends, what it is called there, and its colour."""


def _draw_curve(axes: Axes, name: str, points: pd.DataFrame, colour: str, marker: str, thin: bool = False) -> Name:
    rates, errors = _rates(points)
    axes.fill_between(points["attempt"], points["low"], points["high"], color=colour, alpha=0.12, linewidth=0)
    axes.errorbar(
        points["attempt"], rates, errors, color=colour, marker=marker, markersize=5 if thin else 7,
        linewidth=1.4 if thin else 2.6, elinewidth=1.0 if thin else 1.4, capsize=3, zorder=4 if thin else 5,
    )  # fmt: skip
    return rates[-1], _label(name, points), colour


def _draw_level(axes: Axes, name: str, points: pd.DataFrame, colour: str) -> Name:
    """Draw what does not depend on the attempt: a dotted line, with its interval as a band."""
    [rate], _ = _rates(points)
    axes.axhspan(points["low"].iloc[0], points["high"].iloc[0], color=colour, alpha=0.07, linewidth=0, zorder=0)
    axes.axhline(rate, color=colour, linestyle=":", linewidth=1.6, zorder=1)
    return rate, _label(name, points), colour


def _write_names(axes: Axes, names: Sequence[Name]) -> None:
    """Write each name at the end of its line, right of the panel, one below another where lines are near."""
    ordered = sorted(names, key=lambda name: -name[0])
    heights = [height for height, _, _ in ordered]
    for i in range(1, len(heights)):
        heights[i] = min(heights[i], heights[i - 1] - _APART)
    if heights[-1] < _LOWEST:  # the pile ends below the panel: what is down there moves up again
        heights[-1] = _LOWEST
        for i in range(len(heights) - 2, -1, -1):
            heights[i] = max(heights[i], heights[i + 1] + _APART)
    beside = axes.get_yaxis_transform()
    for height, (end, text, colour) in zip(heights, ordered, strict=True):
        axes.annotate(
            text, (1.0, end), (1.05, height), xycoords=beside, textcoords=beside, color=colour, fontsize=9,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "relpos": (0, 0.5), "shrinkB": 0},
        )  # fmt: skip


def _draw_controls(axes: Axes, episodes: pd.DataFrame, controls: Mapping[CurveKey, pd.DataFrame]) -> None:
    """Draw one line per control at the attempt at which it acts, below the method itself at that attempt."""
    played = by_attempt(main_rows(episodes))
    acts_at = max(attempt for rows in controls.values() for attempt in rows["attempt"])
    several = len({method for method, _ in controls}) > 1
    lines = [
        (f"{main_method(episodes)}, attempt {n}", played[n], MAIN_COLOUR)
        for n in dict.fromkeys((0, acts_at))
        if n in played
    ]
    for key, rows in controls.items():
        last = by_attempt(rows)[rows["attempt"].max()]
        lines.append((curve_name(key) if several else key[1], last, "#444444"))
    for row, (_, members, colour) in enumerate(lines):
        points = success_rates(members)
        rates, errors = _rates(points.tail(1))
        axes.errorbar(rates, [row], xerr=errors, color=colour, marker="o", markersize=6, capsize=3, linestyle="none")
        if colour == MAIN_COLOUR:
            axes.axvline(rates[0], color=colour, linestyle=":", linewidth=0.9, zorder=0)
    axes.set_yticks(range(len(lines)), [name for name, _, _ in lines], fontsize=9)
    axes.set(xlim=(0, 1.02), ylim=(len(lines) - 0.4, -0.6), title=f"controls at attempt {acts_at}", xlabel="success")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_families(axes: Axes, settings: Mapping[str, pd.DataFrame], families: Sequence[str]) -> None:
    bars = _family_bars(settings)
    thickness = 0.8 / len(bars)
    for index, (name, colour, points) in enumerate(bars):
        rates, errors = _rates(points)
        rows = points["family"].map(families.index)
        axes.barh(
            rows + (index - (len(bars) - 1) / 2) * thickness, rates, thickness * 0.92, color=colour, label=name,
            xerr=errors, error_kw={"ecolor": "#444444", "elinewidth": 0.9, "capsize": 2},
        )  # fmt: skip
    axes.set_yticks(range(len(families)), families, fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(families) - 0.4, -0.6), title="by family", xlabel="success")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)


def _family_bars(settings: Mapping[str, pd.DataFrame]) -> list[tuple[str, str, pd.DataFrame]]:
    """Return name, colour and rates by family: of the first and last attempt of one run, of the last of several."""
    several = len(settings) > 1
    bars = []
    for index, (label, episodes) in enumerate(settings.items()):
        attempts = by_attempt(main_rows(episodes))
        first, last = min(attempts), max(attempts)
        for attempt in (last,) if several else dict.fromkeys((first, last)):
            name = f"{label}, attempt {attempt}" if several else f"attempt {attempt}"
            colour = _colour(index) if attempt or several else "#A6C8DE"
            bars.append((name, colour, success_rates(attempts[attempt], by="family")))
    return bars


def _format_curves(axes: Axes) -> None:
    axes.set(ylim=(_LOWEST, 1.03), title="success by attempt", ylabel="success, 95 % Wilson interval")
    axes.set_xlabel("attempt (trials before it)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _rates(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the success rates (P,), and how far the interval reaches below and above (2, P)."""
    rates = (points["successes"] / points["n"]).to_numpy()
    return rates, np.array([rates - points["low"], points["high"] - rates]).clip(min=0)


def _label(name: str, points: pd.DataFrame) -> str:
    """Return a name with the last of its rates and how many episodes that is."""
    last = points.iloc[-1]
    return f"{name} {last['successes'] / last['n']:.0%}, n={last['n']:.0f}"


def _colour(index: int) -> str:
    return (MAIN_COLOUR, *COLOURS)[index % (1 + len(COLOURS))]


def _marker(index: int) -> str:
    return f"o{MARKERS}"[index % (1 + len(MARKERS))]
