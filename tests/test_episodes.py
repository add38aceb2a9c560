"""The table of episodes: what it holds, how it is grouped and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evaluations import ROW

from wtl.analysis.episodes import (
    by_attempt,
    by_setting,
    curves,
    groups,
    main_method,
    main_rows,
    success_rates,
    to_table,
)
from wtl.analysis.results import COLUMNS


def test_the_table_has_the_documented_columns_and_types_even_without_rows() -> None:
    for table in (to_table([ROW, replace(ROW, attempt=1)]), to_table([])):
        assert tuple(table.columns) == COLUMNS
        types = [*["int64"] * 3, "bool", "float64", "int64", "boolean", "Int64", "object", "boolean", "boolean"]
        types += ["object"] * 2
        assert [str(table[name].dtype) for name in COLUMNS[7:]] == types
    first = to_table([ROW]).iloc[0]
    assert (first["seed"], first["success"], first["return"], first["control"]) == (40, True, 1 / 3, "")
    large = 2**63 - 1  # seeds have 63 bits, more than a float64 can hold
    assert to_table([replace(ROW, seed=large)])["seed"].iloc[0] == large


def test_success_rates_by_hand() -> None:
    rows = [replace(ROW, seed=seed, attempt=attempt, success=seed < 5) for seed in range(10) for attempt in (1, 0)]
    rates = success_rates(to_table(rows))
    assert rates[["attempt", "n", "successes"]].to_numpy().tolist() == [[0, 10, 5], [1, 10, 5]]
    # (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), with z = 1.96
    assert rates[["low", "high"]].iloc[0].tolist() == pytest.approx([0.2366, 0.7634], abs=1e-4)
    by_family = success_rates(to_table([ROW, replace(ROW, family="push-v3", success=False)]), by="family")
    assert by_family[["family", "successes"]].to_numpy().tolist() == [["push-v3", 0], ["reach-v3", 1]]


def test_the_main_method_has_the_most_attempts_then_controls_then_the_first_name() -> None:
    attempts = {"a": 1, "b": 2, "c": 2}
    rows = [replace(ROW, method=method, attempt=k) for method, n in attempts.items() for k in range(n)]
    rows += [replace(ROW, method="a", control="blind_retry", attempt=k) for k in range(5)]
    assert main_method(to_table(rows)) == "b"
    controlled = to_table([*rows, replace(ROW, method="c", control="blind_retry")])
    assert main_method(controlled) == "c"
    assert len(main_rows(controlled)) == 2
    assert main_method(to_table([*rows, replace(ROW, method="b", attempt=2)])) == "b"
    with pytest.raises(ValueError, match="no method"):
        main_method(to_table([replace(ROW, control="blind_retry")]))


def test_rows_group_by_curve_attempt_family_and_setting() -> None:
    rows = [replace(ROW, attempt=1), ROW, replace(ROW, family="push-v3", split="train")]
    rows += [replace(ROW, control="blind_retry"), replace(ROW, method="a_method")]
    table = to_table(rows)
    assert list(curves(table)) == [("learner", ""), ("learner", "blind_retry"), ("a_method", "")]
    assert list(by_attempt(table)) == [0, 1]
    assert {name: len(members) for name, members in groups(table, frozenset({"reach-v3"})).items()} == {
        "all": 5, "hidden_goal": 4, "visible_goal": 1, "push-v3": 1, "reach-v3": 4,
    }  # fmt: skip
    assert "visible_goal" not in groups(to_table([ROW]), frozenset({"reach-v3"}))
    assert {name: len(members) for name, members in by_setting(table).items()} == {"family-test": 4, "family-train": 1}
