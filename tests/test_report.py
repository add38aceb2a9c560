"""The report of made-up evaluations: summary, comparisons, tables, errors."""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from evaluations import HIDDEN, SHARES, make_rows, make_table
from rich.console import Console

from wtl.analysis import comparisons
from wtl.analysis.comparisons import against_controls, against_others, compare, gains
from wtl.analysis.episodes import by_attempt, main_rows, to_table
from wtl.analysis.records import report_csv, report_json, summarise
from wtl.analysis.report import report_tables
from wtl.analysis.results import EpisodeResult, write_results
from wtl.analysis.runs import RunResults, load_run, load_runs, pools
from wtl.analysis.statistics import paired_difference
from wtl.analysis.tables import Table, print_tables, to_latex, to_markdown


@pytest.fixture(autouse=True)
def few_bootstrap_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are the business of `test_statistics.py`."""
    monkeypatch.setattr(comparisons, "paired_difference", functools.partial(paired_difference, samples=500))


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


def test_controls_count_at_their_attempt_and_other_methods_at_the_last_one() -> None:
    found = {c.name: c.result.difference for c in against_others(make_table())}
    assert found == pytest.approx({
        "learner@1 - learner.blind_retry@1": 0.45, "learner@1 - learner.no_demonstration@1": 0.4,
        "learner@2 - cloning@0": 0.8, "learner@2 - expert@0": -0.1,
    })  # fmt: skip


RIVAL = {("rival", ""): {0: 0.3, 1: 0.5}, ("rival", "blind_retry"): {1: 0.3}}


def test_a_method_is_compared_with_its_own_controls_and_no_other_ones() -> None:
    rows = make_table(shares={**SHARES, **RIVAL})
    names = {c.name: c.result.difference for c in (*against_others(rows), *against_controls(rows))}
    assert names["rival@1 - rival.blind_retry@1"] == pytest.approx(0.2)
    assert names["learner@1 - rival@1"] == pytest.approx(0.2)  # the last attempt that both played
    assert not [name for name in names if "learner" in name and "rival.blind_retry" in name]


def test_only_shared_entries_are_compared() -> None:
    rows = make_table(("reach-v3",), shares={("learner", ""): {0: 0.0, 1: 1.0}})
    before, after = rows[:15], rows[20:]
    result = compare(before, after)
    assert result is not None and result.n == 15
    assert compare(rows[:5], rows[30:]) is None
    assert against_others(make_table(shares={("learner", ""): {0: 0.5}})) == ()


def test_the_order_of_the_rows_changes_no_interval() -> None:
    rows = make_table()
    shuffled = rows.sample(frac=1, random_state=0)
    assert (gains(shuffled), against_others(shuffled)) == (gains(rows), against_others(rows))


def printed(runs: Mapping[str, RunResults], markdown: bool) -> str:
    text = io.StringIO()
    print_tables(report_tables(runs), as_text=to_markdown if markdown else None, console=Console(file=text, width=120))
    return text.getvalue()


def test_the_tables_say_what_was_found() -> None:
    run = RunResults(make_table(), HIDDEN)
    text = printed({"quick": run}, markdown=False)
    assert "↳ no_demonstration" in text
    assert " 2 - 0 " in text
    assert "IMPROVED" in text
    pasted = printed({"quick": run}, markdown=True)
    assert "| method, ↳ control | n | attempt 0 | attempt 1 | attempt 2 |\n| --- | --- |" in pasted
    assert "| learner | 40 | 20 [10, 35] | 70 [55, 82] | 90 [77, 96] |\n" in pasted
    assert "| 1 - 0 | 40 | +50 |" in pasted
    assert "| visible_goal | 20 |" in pasted
    hidden = pasted[pasted.index("families that hide their goal") :]
    assert "| 1 - 0 | 20 | +50 |" in hidden and "visible" not in hidden  # the same differences, of reach alone
    assert "hidden_goal: nothing visible at the start gives the goal away (reach-v3)" in pasted
    assert "40 entries, digest of their names" in pasted
    assert "runs compared" not in pasted


def test_one_family_needs_no_table_by_family_and_an_open_question_says_what_would_close_it() -> None:
    rows = make_table(("reach-v3",), 10, {("learner", ""): {0: 0.5, 1: 0.6}})
    pasted = printed({"probe": RunResults(rows, HIDDEN)}, markdown=True)
    assert "by family" not in pasted
    assert re.search(r"\| undecided \(needs about \d+ tasks\) \|", pasted)


def test_runs_and_splits_are_not_mixed() -> None:
    both = RunResults(pd.concat([make_table(), make_table(split="train")]), HIDDEN)
    pasted = printed({"a": both, "b": RunResults(make_table(entries=30), HIDDEN)}, markdown=True)
    for line in ("a, family-test: learner | 40", "a, family-train: learner | 40", "b, family-test: learner | 60"):
        assert f"| {line} |" in pasted
    assert "mean of" not in pasted


def of_seed(seed: int, rows: list[EpisodeResult], **others: Any) -> RunResults:
    return RunResults(to_table([replace(row, train_seed=seed, **others) for row in rows]), HIDDEN)


WORSE = {("learner", ""): {0: 0.1, 1: 0.4}}


def test_runs_that_differ_in_the_seed_alone_are_pooled() -> None:
    runs = {"a": of_seed(0, make_rows()), "b": of_seed(1, make_rows(shares=WORSE))}
    pasted = printed(runs, markdown=True)
    assert "| a, b: mean of 2 seeds (least to most) |  | 15 (10 to 20) | 55 (40 to 70) |  |" in pasted  # 2 is a's alone
    assert "| learner | 40 x 2 seeds | 15 [7, 29] | 55 [40, 69] | 90 [77, 96] |" in pasted
    assert "same entries**" not in pasted
    hidden = pasted[pasted.index("families that hide their goal") :]
    assert "| 1 - 0 | 20 | +40 |" in hidden


@pytest.mark.parametrize("other", [{"train_seed": 0}, {"train_seed": 1, "configuration": "other"},
                                   {"train_seed": 1, "protocol": "redrawn"},
                                   {"train_seed": 1, "method": "rival"}])  # fmt: skip
def test_runs_that_differ_otherwise_are_never_averaged(other: dict[str, Any]) -> None:
    """The same seed, another configuration, protocol or method: the first minus the second, entry by entry."""
    rows = [replace(row, **other) for row in make_rows(shares=WORSE)]
    pasted = printed({"a": RunResults(make_table(), HIDDEN), "b": RunResults(to_table(rows), HIDDEN)}, markdown=True)
    assert "mean of" not in pasted
    assert "**a, family-test minus b, family-test: differences of success, same entries**" in pasted
    assert re.search(r"\| all \| 70 \[55, 82\] \| 40 \[26, 55\] \| 40 \| \+30 \| \[\+1\d, \+4\d\] \|", pasted)
    assert "| all, attempt 0 | 20 [10, 35] | 10 [4, 23] | 40 | +10 |" in pasted
    assert ("The protocols differ" in pasted) == ("protocol" in other)


def test_runs_on_other_entries_have_no_difference() -> None:
    runs = {family: RunResults(make_table((family,)), HIDDEN) for family in ("push-v3", "pick-place-v3")}
    pasted = printed(runs, markdown=True)
    assert "mean of" not in pasted and "They have no entry in common" in pasted


def test_a_longer_and_a_shorter_run_are_compared_on_what_both_played() -> None:
    runs = {"long": RunResults(make_table(entries=30), HIDDEN), "short": RunResults(make_table(entries=20), HIDDEN)}
    pasted = printed(runs, markdown=True)
    assert re.search(r"\| all \| 100 \[91, 100\] \| 90 \[77, 96\] \| 40 \| \+10 \|", pasted)


def test_other_starts_or_demonstrations_under_the_same_names_are_noticed() -> None:
    """The digest of an entry covers what its name does not."""
    runs = {
        name: of_seed(0, make_rows(), configuration=name, entry_digest=digest)
        for name, digest in (("a", "1"), ("b", "2"))
    }
    assert "starts or demonstrations are not: their digests differ" in printed(runs, markdown=True)
    assert "40 entries, digest 6b86b273ff34." in printed({"a": runs["a"]}, markdown=True)


def test_more_seeds_are_not_more_tasks() -> None:
    rows = make_rows()
    one = to_table(rows)
    three = pd.concat([of_seed(seed, rows).rows for seed in range(3)])
    results = [compare(*(by_attempt(main_rows(table))[k] for k in (0, 1))) for table in (one, three)]
    assert results[0] == results[1]


def test_the_main_method_is_the_one_that_the_configuration_names(tmp_path: Path) -> None:
    """Though another method played more attempts."""
    rows = [replace(row, main=row.method == "rival") for row in make_rows(shares={**SHARES, **RIVAL})]
    assert "success of rival in % by family" in printed({"a": RunResults(to_table(rows), HIDDEN)}, markdown=True)
    run = make_run(tmp_path / "older", FAMILIES)
    settings = run / "evaluation" / "settings.json"
    settings.write_text(json.dumps({"settings": {"methods": ["cloning", "learner"]}}))
    assert pools({"older": load_run(run)})[0].rows.query("main")["method"].unique().tolist() == ["cloning"]
    settings.write_text("[]")
    with pytest.raises(ValueError, match="settings.json must hold"):
        load_run(run)


def test_json_holds_the_differences() -> None:
    runs = {"a": RunResults(make_table(), HIDDEN), "b": RunResults(make_table(shares=WORSE), HIDDEN)}
    one = json.loads(json.dumps(report_json({"a": runs["a"]})))
    assert one["learner"][""]["all"][1]["successes"] == 28
    found = {(d["group"], d["first"], d["second"]): d for d in one["differences"]}
    gain = found[("reach-v3", "learner@2", "learner@0")]
    assert gain["difference"] == pytest.approx(0.7) and gain["low"] < 0.7 < gain["high"]
    assert (gain["n"], gain["tasks"], gain["verdict"]) == (20, 20, "IMPROVED")
    both = json.loads(json.dumps(report_json(runs)))
    assert both["b"]["learner"][""]["all"][0]["successes"] == 4
    [between] = [d for d in both["differences"] if d["group"] == "all" and " minus " in d["run"]]
    assert (between["first"], between["second"]) == ("a: learner@1", "b: learner@1")
    assert between["difference"] == pytest.approx(0.3)


def test_csv_has_one_row_an_attempt_curve_and_group() -> None:
    runs = {"a": RunResults(make_table(), HIDDEN), "b": RunResults(make_table(shares=WORSE), HIDDEN)}
    table = pd.read_csv(io.StringIO(report_csv(runs)), keep_default_na=False)
    own = table[(table["run"] == "a") & (table["group"] == "all")].set_index(["method", "control", "attempt"])
    assert own.loc[("learner", "", 1), "minus"] == "learner@0"
    assert float(own.loc[("learner", "", 1), "difference"]) == pytest.approx(0.5)
    blind = own.loc[("learner", "blind_retry", 1)]
    assert blind["minus"] == "learner@1" and float(blind["difference"]) == pytest.approx(-0.45)
    assert blind["verdict"] == "lower"
    last = table[(table["run"] == "b") & (table["minus"] == "a: learner@1")]
    assert last["group"].tolist() == ["all", "hidden_goal", "visible_goal", "push-v3", "reach-v3"]


def test_latex_escapes_what_it_reads_and_markdown_what_parts_cells() -> None:
    table = Table("50 % of a_b", ("#", "|"), ((("[1, 2]", "{x}"),), (("a & b", "↳ <"),)), ("A note.",))
    text = to_latex(table)
    assert r"\caption{50 \% of a\_b. A note.}" in text
    assert r"{}[1, 2] & \{x\} \\" in text and r"a \& b & $\hookrightarrow$ $<$ \\" in text
    assert text.count(r"\midrule") == 2
    assert r"| # | \| |" in to_markdown(table) and to_markdown(table).endswith("\nA note.\n")


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
    with pytest.raises(FileNotFoundError, match="no run directory or results file .*wtl run CONFIG"):
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


def test_any_results_file_can_be_opened(tmp_path: Path) -> None:
    """It stands by itself if it is new, and says what is not known if it is old."""
    write_results(tmp_path / "old.csv", make_rows())
    write_results(tmp_path / "new.csv", [replace(row, hidden_goal=row.family == "reach-v3") for row in make_rows()])
    loaded = load_runs([tmp_path / "old.csv", tmp_path / "new.csv"])
    assert list(loaded) == ["old", "new"]
    assert (loaded["old"].goals_known, loaded["new"].goals_known) == (False, True)
    assert loaded["new"].hidden_goal_families == HIDDEN
    pasted = printed({"old": loaded["old"]}, markdown=True)
    assert "Which families hide their goal is not known" in pasted and "visible_goal" not in pasted
    with pytest.raises(FileNotFoundError, match="results file"):
        load_run(tmp_path / "none.csv")
