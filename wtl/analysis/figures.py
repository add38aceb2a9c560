"""The improvement curve as a picture: success by attempt, and by family where there are several.

It draws what `wtl.analysis.episodes` counted and counts nothing itself. Colours are those of Okabe and
Ito, which colour-blind readers tell apart, and no two curves share both colour and marker
(https://jfly.uni-koeln.de/color/). It uses matplotlib without pyplot: no window, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def draw_curves(runs: Mapping[str, pd.DataFrame], path: Path, *, title: str = "") -> None:
    """Write a PNG of the improvement curves, and of the families where there is more than one.

    `runs` holds the episodes of each run by its label (`wtl.analysis.episodes` describes the table).
    For one run the figure shows the main method with its band, every control and every other method;
    for several, or for one with several regimes or splits, it shows their main methods. Intervals are
    95 % Wilson. Raises ValueError if there are no episodes.
    """
    settings = _settings(runs)
    families = sorted({family for episodes in settings.values() for family in episodes["family"]})
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
    rates = {key: success_rates(curve) for key, curve in curves(episodes).items()}
    main = (main_method(episodes), "")
    _draw_main(axes, curve_name(main), rates.pop(main), MAIN_COLOUR, "o")
    # Side by side around the attempt, so that their intervals do not cover one another.
    offsets = np.linspace(-0.16, 0.16, len(rates)) if len(rates) > 1 else [0.1]
    for index, ((key, rate), offset) in enumerate(zip(rates.items(), offsets, strict=False)):
        _draw_other(axes, key, rate, offset, index)


def _draw_runs(axes: Axes, settings: Mapping[str, pd.DataFrame]) -> None:
    for index, (label, episodes) in enumerate(settings.items()):
        name = f"{label}: {main_method(episodes)}"
        _draw_main(axes, name, success_rates(main_rows(episodes)), _colour(index), _marker(index))


def _draw_main(axes: Axes, label: str, points: pd.DataFrame, colour: str, marker: str) -> None:
    rates, errors = _rates(points)
    axes.fill_between(points["attempt"], points["low"], points["high"], color=colour, alpha=0.15, linewidth=0)
    axes.errorbar(
        points["attempt"], rates, errors, color=colour, marker=marker, markersize=7, linewidth=2.6, elinewidth=1.4,
        capsize=4, label=_label(label, points), zorder=5,
    )  # fmt: skip


def _draw_other(axes: Axes, key: CurveKey, points: pd.DataFrame, offset: float, index: int) -> None:
    """Draw a control in colour, dashed; another method in grey, with a dotted line if it has one attempt."""
    rates, errors = _rates(points)
    line = "--" if len(points) > 1 else ("none" if key[1] else ":")
    colour = COLOURS[index % len(COLOURS)] if key[1] else "#666666"
    style: dict[str, Any] = {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markersize": 6}
    axes.errorbar(
        points["attempt"] + offset, rates, errors, **style, linestyle=line, linewidth=1.3, capsize=2.5, elinewidth=1,
        label=_label(curve_name(key), points), zorder=4,
    )  # fmt: skip
    if len(points) == 1 and not key[1]:
        axes.axhline(rates[0], color=colour, linestyle=":", linewidth=0.9, zorder=1)


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
    axes.set(ylim=(-0.03, 1.03), title="success by attempt", ylabel="success, 95 % Wilson interval")
    axes.set_xlabel("attempt (trials before it)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _rates(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the success rates (P,), and how far the interval reaches below and above (2, P)."""
    rates = (points["successes"] / points["n"]).to_numpy()
    return rates, np.array([rates - points["low"], points["high"] - rates]).clip(min=0)


def _label(name: str, points: pd.DataFrame) -> str:
    least, most = points["n"].min(), points["n"].max()
    return f"{name} (n={least})" if least == most else f"{name} (n={least} to {most})"


def _colour(index: int) -> str:
    return (MAIN_COLOUR, *COLOURS)[index % (1 + len(COLOURS))]


def _marker(index: int) -> str:
    return f"o{MARKERS}"[index % (1 + len(MARKERS))]
