"""The report of made-up evaluations: summary, comparisons, tables, errors."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from evaluations import HIDDEN, make_rows, make_table
from rich.console import Console

from wtl.analysis.comparisons import against_others, compare, gains
from wtl.analysis.episodes import by_attempt, main_rows
from wtl.analysis.report import RunResults, load_run, load_runs, report_tables, summarise
from wtl.analysis.results import write_results
from wtl.analysis.tables import print_tables


def test_the_summary_has_the_documented_shape() -> None:
    rows = make_table(("reach-v3",))
    summary = json.loads(json.dumps(summarise(rows[rows["method"] == "learner"], HIDDEN)))
    assert list(summary) == ["learner"]
    assert list(summary["learner"]) == ["", "blind_retry", "no_demonstration"]
    assert list(summary["learner"][""]) == ["all", "hidden_goal", "reach-v3"]
    first, second, third = summary["learner"][""]["hidden_goal"]
    assert second == {"attempt": 1, "n": 20, "successes": 14, "low": pytest.approx(0.4810, abs=1e-4),
                      "high": pytest.approx(0.8545, abs=1e-4)}  # fmt: skip
    assert (first["successes"], third["successes"]) == (4, 18)
    assert [p["attempt"] for p in summary["learner"]["no_demonstration"]["all"]] == [1]


def test_groups_partition_the_rows() -> None:
    summary = summarise(make_table(), HIDDEN)["learner"][""]
    assert list(summary) == ["all", "hidden_goal", "visible_goal", "push-v3", "reach-v3"]
    assert summary["all"][0]["n"] == summary["hidden_goal"][0]["n"] + summary["visible_goal"][0]["n"] == 40


def test_gains_are_paired_with_attempt_0() -> None:
    found = {g.name: g.result for g in gains(make_table())}
    assert found.keys() == {
        "learner@1 - learner@0",
        "learner@2 - learner@0",
        "learner.blind_retry@1 - learner.blind_retry@0",
    }
    assert found["learner@1 - learner@0"].difference == pytest.approx(0.5)
    assert (found["learner@1 - learner@0"].n, found["learner@1 - learner@0"].verdict) == (40, "IMPROVED")


def test_others_count_at_the_highest_comparable_attempt() -> None:
    found = {c.name: c.result.difference for c in against_others(make_table())}
    assert found == pytest.approx({
        "learner@1 - learner.blind_retry@1": 0.45, "learner@1 - learner.no_demonstration@1": 0.4,
        "learner@1 - cloning@0": 0.6, "learner@1 - expert@0": -0.3,
    })  # fmt: skip


def test_only_shared_entries_are_compared() -> None:
    rows = make_table(("reach-v3",), shares={("learner", ""): {0: 0.0, 1: 1.0}})
    before, after = rows[:15], rows[20:]
    result = compare((before, after))
    assert result is not None and result.n == 15
    assert compare((rows[:5], rows[30:])) is None
    assert against_others(make_table(shares={("learner", ""): {0: 0.5}})) == ()


def test_the_order_of_the_rows_changes_no_interval() -> None:
    rows = make_table()
    shuffled = rows.sample(frac=1, random_state=0)
    assert (gains(shuffled), against_others(shuffled)) == (gains(rows), against_others(rows))


def printed(runs: Mapping[str, RunResults], markdown: bool) -> str:
    text = io.StringIO()
    print_tables(report_tables(runs), markdown=markdown, console=Console(file=text, width=120))
    return text.getvalue()


def test_the_tables_say_what_was_found() -> None:
    run = RunResults(make_table(), HIDDEN)
    text = printed({"quick": run}, markdown=False)
    assert "↳ no_demonstration" in text
    assert "learner@2 - learner@0" in text
    assert "IMPROVED" in text
    pasted = printed({"quick": run}, markdown=True)
    assert "| method, ↳ control | n | attempt 0 | attempt 1 | attempt 2 |\n| --- | --- |" in pasted
    assert "| learner | 40 | 20 [10, 35] | 70 [55, 82] | 90 [77, 96] |\n" in pasted
    assert "| learner@1 - learner@0 | 40 | +50 |" in pasted
    assert "| visible_goal | 20 |" in pasted
    hidden = pasted[pasted.index("families that hide their goal") :]
    assert (
        "| learner@1 - learner@0 | 20 | +50 |" in hidden and "visible" not in hidden
    )  # the same differences, of reach alone
    assert "runs compared" not in pasted


def test_one_family_needs_no_table_by_family_and_an_open_question_says_what_would_close_it() -> None:
    rows = make_table(("reach-v3",), 10, {("learner", ""): {0: 0.5, 1: 0.6}})
    pasted = printed({"probe": RunResults(rows, HIDDEN)}, markdown=True)
    assert "by family" not in pasted
    assert "| UNDERPOWERED (about " in pasted


def test_runs_and_splits_are_not_mixed() -> None:
    both = RunResults(pd.concat([make_table(), make_table(split="train")]), HIDDEN)
    pasted = printed({"a": both, "b": RunResults(make_table(entries=30), HIDDEN)}, markdown=True)
    for line in ("a, family-test: learner | 40", "a, family-train: learner | 40", "b, family-test: learner | 60"):
        assert f"| {line} |" in pasted
    assert "family-train: mean" not in pasted


def test_runs_of_one_setting_have_a_mean() -> None:
    worse = {("learner", ""): {0: 0.1, 1: 0.4}}
    runs = {"a": RunResults(make_table(), HIDDEN), "b": RunResults(make_table(shares=worse), HIDDEN)}
    mean = "| family-test: mean of 2 runs (least to most) |  | 15 (10 to 20) | 55 (40 to 70) |  |  |"
    pasted = printed(runs, markdown=True)
    assert mean in pasted  # one has no attempt 2
    hidden = pasted[pasted.index("runs compared, families that hide their goal") :]
    assert "| a, family-test: learner | 20 |" in hidden


def test_runs_on_other_tasks_have_no_mean() -> None:
    families = ("push-v3", "pick-place-v3")
    runs = {family: RunResults(make_table((family,)), HIDDEN) for family in families}
    assert "mean of" not in printed(runs, markdown=True)


def test_runs_on_the_same_tasks_are_pooled_task_by_task() -> None:
    """Three runs are no more tasks than one: what is the same in all of them is no surer than in one."""
    rows = make_table()
    before, after = (by_attempt(main_rows(rows))[attempt] for attempt in (0, 1))
    one, three = compare((before, after)), compare(*[(before, after)] * 3)
    assert one is not None and three is not None and three.n == 3 * one.n
    assert (three.difference, three.low, three.high) == pytest.approx((one.difference, one.low, one.high), abs=0.03)


def make_run(run: Path, families: object) -> Path:
    write_results(run / "evaluation" / "episodes.csv", make_rows())
    (run / "evaluation" / "families.json").write_text(json.dumps(families))
    return run


FAMILIES = {"reach-v3": {"hidden_goal": True}, "push-v3": {"hidden_goal": False}}


def test_a_run_is_found_by_its_directory_or_its_evaluation(tmp_path: Path) -> None:
    run = make_run(tmp_path / "quick", FAMILIES)
    loaded, nested = load_run(run), load_run(run / "evaluation")
    assert loaded.hidden_goal_families == nested.hidden_goal_families == HIDDEN
    pd.testing.assert_frame_equal(loaded.rows, nested.rows)
    assert len(loaded.rows) == len(make_rows())
    other = make_run(tmp_path / "elsewhere" / "quick", FAMILIES)
    third = make_run(tmp_path / "ml10", FAMILIES)
    assert list(load_runs([run, third])) == ["quick", "ml10"]
    assert list(load_runs([run, other])) == [str(run), str(other)]


def test_a_run_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run directory .*wtl run CONFIG"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="episodes.csv; run `wtl evaluate`"):
        load_run(tmp_path)
    run = make_run(tmp_path / "quick", {"reach-v3": {"hidden_goal": True}})
    with pytest.raises(ValueError, match="must name push-v3"):
        load_run(run)
    for broken in ('["reach-v3"]', '{"a": true}', '{"a": {}}', "{", '{"a": {"hidden_goal": 1}}'):
        (run / "evaluation" / "families.json").write_text(broken)
        with pytest.raises(ValueError, match="families.json must hold"):
            load_run(run)
    make_run(run, FAMILIES)
    write_results(run / "evaluation" / "episodes.csv", [])
    with pytest.raises(ValueError, match="holds no episodes"):
        load_run(run)
    (run / "evaluation" / "families.json").unlink()
    with pytest.raises(FileNotFoundError, match="families.json"):
        load_run(run)
