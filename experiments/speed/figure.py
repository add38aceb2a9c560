"""This module draws stock, fast and EnvPool of every family: one line a family, the slowest below."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from results import Speeds, ratios

from wtl.analysis.figures import COLOURS, MAIN_COLOUR, PIXELS_PER_INCH
from wtl.core.files import write_atomically

_MARKS = {"stock": ("o", "#666666"), "fast": ("o", MAIN_COLOUR), "envpool": ("D", COLOURS[0])}


def draw_speeds(speeds: Speeds, path: Path) -> None:
    """This writes a PNG; families are sorted by the speed of fast stepping."""
    families = sorted(speeds, key=lambda family: speeds[family]["fast"])
    heights = {family: height for height, family in enumerate(families)}
    figure = Figure(figsize=(8.2, 1.6 + 0.2 * len(families)), dpi=PIXELS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    ends = np.array([[speeds[family]["stock"], speeds[family]["fast"]] for family in families]).T
    axes.hlines(range(len(families)), *ends, color="#BBCCDD", linewidth=2, zorder=1)
    for name, (marker, colour) in _MARKS.items():
        own = {family: speeds[family][name] for family in families if name in speeds[family]}
        if own:
            label = "EnvPool (MuJoCo 3.6)" if name == "envpool" else name
            rows = [heights[family] for family in own]
            axes.scatter(list(own.values()), rows, s=26, marker=marker, color=colour, label=label, zorder=2)
    found = ratios(speeds, "fast", "stock")
    title = f"fast over stock: median {found.median:.2f}, {found.least:.2f} to {found.most:.2f}" if found else ""
    axes.set(title=title, xlabel="steps per CPU second", xlim=(0, None), ylim=(-0.8, len(families) - 0.2))
    axes.set_yticks(range(len(families)), families, fontsize=7.5)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomically(path, picture.getvalue())
