"""The file of results: what is written is read, and what is broken is named."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from evaluations import ROW

from wtl.analysis.results import COLUMNS, read_results, write_results

LINE = "learner,,family,test,reach-v3,reach-v3/test/17,reach-v3/train/3,1,40,0,1,0.5,500"
BEFORE = ",".join(COLUMNS[:13])
"""The header of files made before protocols were recorded."""
NOW = LINE + ',1,496,"redrawn starts, one walk, feedback at the end",1,0,0c1d,77de'


def file_of(directory: Path, *lines: str, header: str = BEFORE) -> Path:
    path = directory / "episodes.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def test_rows_survive_the_file_and_their_order_does_not_matter(tmp_path: Path) -> None:
    rows = [replace(ROW, seed=seed, attempt=attempt) for seed in range(12) for attempt in range(3)]
    rows += [replace(row, control="blind_retry", success=False) for row in rows]
    write_results(tmp_path / "a.csv", rows)
    random.Random(0).shuffle(rows)
    write_results(tmp_path / "b.csv", rows)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert set(read_results(tmp_path / "a.csv")) == set(rows)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.csv", "b.csv"]  # no partial file is left


def test_the_header_is_the_documented_one_and_names_may_hold_commas(tmp_path: Path) -> None:
    write_results(tmp_path / "a.csv", [replace(ROW, task='a "task", one')])
    text = (tmp_path / "a.csv").read_text()
    assert text.startswith(
        "method,control,regime,split,family,task,demonstration,train_seed,seed,attempt,success,return,steps,"
        "success_last,first_success,protocol,main,hidden_goal,configuration,entry_digest\n"
    )
    assert read_results(tmp_path / "a.csv")[0].task == 'a "task", one'


def test_further_columns_and_an_empty_file_are_fine(tmp_path: Path) -> None:
    path = file_of(tmp_path, LINE + ",note", header=BEFORE + ",remark")
    assert read_results(path)[0].total_reward == 0.5
    write_results(tmp_path / "none.csv", [])
    assert read_results(tmp_path / "none.csv") == ()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    header = ",".join(name for name in COLUMNS if name not in ("seed", "return"))
    with pytest.raises(ValueError, match="missing: seed, return"):
        read_results(file_of(tmp_path, header=header))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="must have the columns"):
        read_results(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",40,", ",forty,", "seed must be a whole number, got 'forty'"),
        (",0,1,0.5", ",0,yes,0.5", "success must be 0 or 1, got 'yes'"),
        (",0,1,0.5", ",-1,1,0.5", "attempt must be >= 0"),
        ("0.5", "high", "return must be a number, got 'high'"),
        ("0.5", "nan", "return must be finite"),
        (",500", ",0", "steps >= 1"),
        (",500", "", "as many values"),
        (",500", ",500,1", "as many values"),
        ("family,test", "tribe,test", "regime must be one of goal, family, none, got 'tribe'"),
        ("learner,,", ",,", "must not be empty"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = file_of(tmp_path, LINE.replace(",40,", ",39,"), LINE.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"episodes.csv, line 3: .*{message}"):
        read_results(path)


def test_an_entry_is_counted_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attempt 0 of reach-v3/test/17, seed 40, by learner is counted twice"):
        write_results(tmp_path / "a.csv", [ROW, replace(ROW, success=False)])
    with pytest.raises(ValueError, match="line 3: .* is counted twice"):
        read_results(file_of(tmp_path, LINE, LINE))
    assert not (tmp_path / "a.csv").exists()


def test_the_committed_bytes_are_those_that_are_written(tmp_path: Path) -> None:
    failed = LINE.replace(",0,1,0.5,", ",1,0,1073.4280384741724,") + ',0,,"repeated starts, many walks",,,,'
    path = file_of(tmp_path, NOW, failed, header=",".join(COLUMNS))
    before = path.read_bytes()
    write_results(path, read_results(path))
    assert path.read_bytes() == before


def test_files_without_a_protocol_were_made_under_the_first_one(tmp_path: Path) -> None:
    [old], [new] = read_results(file_of(tmp_path, LINE)), read_results(file_of(tmp_path, NOW, header=",".join(COLUMNS)))
    assert (old.success_last, old.first_success) == (None, None)
    assert old.protocol == "repeated starts, many walks, feedback at the end"
    assert (new.success_last, new.first_success) == (True, 496)
    assert new.protocol == "redrawn starts, one walk, feedback at the end"
    assert (old.main, old.hidden_goal, old.configuration, old.entry_digest) == (None, None, "", "")
    assert (new.main, new.hidden_goal, new.configuration, new.entry_digest) == (True, False, "0c1d", "77de")


@pytest.mark.parametrize("bad", ["yes,496", "1,soon"])
def test_what_protocols_record_is_checked_too(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ValueError, match="line 2: (success_last must be 0, 1 or empty|first_success must be a whole)"):
        read_results(file_of(tmp_path, NOW.replace("1,496", bad), header=",".join(COLUMNS)))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x9c")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_results(tmp_path / "a.csv")


def test_the_entry_is_the_same_for_every_attempt_method_and_control() -> None:
    other = replace(ROW, method="other", control="blind_retry", attempt=2, success=False, steps=9)
    assert other.entry == ROW.entry
    assert replace(ROW, demonstration="reach-v3/train/4").entry != ROW.entry
