"""The figure of improvement curves: it is drawn for one run, several, one family and many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
from evaluations import make_table

from wtl.analysis.figures import draw_curves


@pytest.mark.parametrize(
    "runs",
    [
        {"quick": make_table(("reach-v3",))},
        {"ml10": make_table()},
        {"ml10": make_table(), "quick": make_table(("reach-v3",))},
        {"splits": pd.concat([make_table(), make_table(split="train")])},
        {"probe": make_table(("place",), 3, {("learner", ""): {0: 0.4}})},
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
