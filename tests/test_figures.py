"""The figure of improvement curves: it is drawn for one run, several, one family and many."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
from evaluations import make_table
from matplotlib.figure import Figure

from wtl.analysis.figures import draw_curves


@pytest.mark.parametrize(
    "runs",
    [
        {"quick": make_table(("reach-v3",))},
        {"ml10": make_table()},
        {"ml10": make_table(), "quick": make_table(("reach-v3",))},
        {"splits": pd.concat([make_table(), make_table(split="train")])},
        {"probe": make_table(("place",), 3, {("learner", ""): {0: 0.4}})},
        {"alike": make_table(("place",), 9, {(name, ""): {0: 0.0} for name in "abcdefgh"} | {("a", ""): {0: 0, 1: 0}})},
    ],
)
def test_the_figure_is_drawn(tmp_path: Path, runs: Mapping[str, pd.DataFrame]) -> None:
    draw_curves(runs, tmp_path / "curves.png", title="a title")
    picture = imageio.imread(tmp_path / "curves.png")[..., :3].astype(int)
    assert picture.shape[0] > 400 and picture.shape[1] > 600
    assert (np.ptp(picture, axis=2) > 40).mean() > 0.002  # colour, not only axes
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="no rows"):
        draw_curves({}, tmp_path / "none.png")


def test_what_was_played_once_is_a_level_and_no_point_stands_beside_its_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), save(figure, *a, **k)))
    draw_curves({"ml10": make_table()}, tmp_path / "curves.png")
    curves, controls, _ = drawn[0].axes
    points = {x for line in curves.get_lines() if line.get_marker() not in (None, "None") for x in line.get_xdata()}
    assert points == {0, 1, 2}
    names = {text.get_text().split()[0]: text for text in curves.texts}
    assert set(names) == {"learner", "cloning", "expert"}
    assert names["learner"].get_text() == "learner 90%, n=40"
    heights = sorted(text.get_position()[1] for text in curves.texts)
    assert min(after - before for before, after in pairwise(heights)) > 0.05
    assert [label.get_text() for label in controls.get_yticklabels()] == [
        "learner, attempt 0", "learner, attempt 1", "blind_retry", "no_demonstration",
    ]  # fmt: skip
