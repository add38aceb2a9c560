"""Success against environment steps: worked out by hand, and against Kaplan and Meier's estimate of scipy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from evaluations import HIDDEN, ROW, make_table

from wtl.analysis.cost import attempt_points, cost_table, solved_within, steps_to_success, steps_until, write_cost
from wtl.analysis.episodes import to_table
from wtl.analysis.runs import RunResults


def entry(seed: int, *attempts: tuple[int, int | None]) -> list:
    """Rows of one entry: (steps, first success) of its attempts."""
    return [
        replace(ROW, seed=seed, task=f"reach-v3/test/{seed}", attempt=k, steps=steps, success=first is not None,
                first_success=first)
        for k, (steps, first) in enumerate(attempts)
    ]  # fmt: skip


ROWS = to_table([
    *entry(0, (105, 100), (90, 85)),  # at once: 100 steps; what follows is not needed
    *entry(1, (500, None), (55, 50)),  # 500 in vain, 50 more
    *entry(2, (500, None), (500, None)),  # never: censored at 1000
    *entry(3, (205, 200), (500, None)),
])  # fmt: skip


def test_the_cost_of_an_entry_is_what_was_spent_up_to_its_first_success() -> None:
    costs = steps_to_success(ROWS)
    assert costs["steps"].tolist() == [100, 550, 1000, 200]
    assert costs["solved"].tolist() == [True, True, False, True]
    old = ROWS.assign(first_success=pd.array([None] * len(ROWS), "Int64"))  # then the end of the episode counts
    assert steps_to_success(old)["steps"].tolist() == [105, 555, 1000, 205]


def test_the_share_solved_rises_at_each_success_and_its_band_has_a_width() -> None:
    within = solved_within(steps_to_success(ROWS))
    assert within["steps"].tolist() == [1, 100, 200, 550, 1000]
    assert within["share"].tolist() == [0, 0.25, 0.5, 0.75, 0.75]
    assert (within["low"] < within["high"]).all()
    assert within["high"].iloc[0] == pytest.approx(3.8415 / (4 + 3.8415), abs=1e-3)  # Wilson of 0 in 4
    steps, interval = steps_until(within, 0.5)
    assert (steps, interval.low) == (200, 100) and math.isinf(interval.high)
    assert math.isinf(steps_until(within, 0.9)[0])
    everything = solved_within(pd.DataFrame({"steps": [3, 3], "solved": [True, True]}))
    assert everything["share"].tolist() == [0, 1] and everything["low"].iloc[-1] < 1


def test_the_share_solved_is_kaplan_and_meiers() -> None:
    random = np.random.default_rng(0)
    costs = pd.DataFrame({"steps": random.integers(1, 60, 80), "solved": random.random(80) < 0.6})
    sample = scipy.stats.CensoredData(
        uncensored=costs["steps"][costs["solved"]], right=costs["steps"][~costs["solved"]]
    )
    theirs = scipy.stats.ecdf(sample).cdf
    within = solved_within(costs)
    np.testing.assert_allclose(within["share"], theirs.evaluate(within["steps"].to_numpy()), atol=1e-12)


def test_more_trainings_of_one_list_of_entries_are_not_more_entries() -> None:
    costs = steps_to_success(ROWS)
    one = solved_within(costs)
    three = solved_within(pd.concat([costs] * 3, ignore_index=True), seeds=3)
    pd.testing.assert_frame_equal(one, three)


def test_attempts_stand_where_they_ended_on_average() -> None:
    points = attempt_points(ROWS)
    assert points["steps"].tolist() == [(105 + 500 + 500 + 205) / 4, (195 + 555 + 1000 + 705) / 4]
    assert points["share"].tolist() == [0.5, 0.5]


def test_the_table_says_what_was_not_reached_and_the_numbers_lie_beside_the_figure(tmp_path: Path) -> None:
    runs = {"probe": RunResults(ROWS, HIDDEN)}
    [line] = cost_table(runs).sections[0]
    assert line[0] == "probe, family-test: learner" and line[2] == "200 [100, > 1,000]"
    assert line[4] == "> 1,000 [550, > 1,000]" and line[5] == "1,000"
    write_cost({"probe": RunResults(ROWS, HIDDEN), "all": RunResults(make_table(), HIDDEN)}, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
    numbers = pd.read_csv(tmp_path / "cost.csv")
    own = numbers[numbers["run"] == "probe, family-test"]
    assert own[own["kind"] == "solved within"]["share"].tolist() == [0, 0.25, 0.5, 0.75, 0.75]
    assert own[own["kind"] == "attempt"]["attempt"].tolist() == [0, 1]
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="written as .png"):
        write_cost(runs, tmp_path / "cost.pdf")
