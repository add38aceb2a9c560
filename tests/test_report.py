"""The report of made-up evaluations: summary, comparisons, tables, picture, TensorBoard, errors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from wtl.analysis.figures import draw_curves
from wtl.analysis.report import (
    RunResults,
    against_others,
    compare,
    gains,
    load_run,
    load_runs,
    print_tables,
    report_tables,
    summarise,
)
from wtl.analysis.results import EpisodeResult, main_rows, write_results
from wtl.analysis.tensorboard import write_tensorboard

HIDDEN = frozenset({"reach-v3"})
SHARES = {
    ("wtl", ""): {0: 0.2, 1: 0.7, 2: 0.9},
    ("wtl", "blind_retry"): {0: 0.2, 1: 0.25},
    ("wtl", "no_demonstration"): {1: 0.3},
    ("cloning", ""): {0: 0.1},
    ("expert", ""): {0: 1.0},
}


def make_rows(
    families: tuple[str, ...] = ("reach-v3", "push-v3"),
    entries: int = 20,
    shares: Mapping[tuple[str, str], Mapping[int, float]] = SHARES,
    split: str = "test",
) -> list[EpisodeResult]:
    """Of `entries` entries per family, the first `share` of them succeed; the return is 100 or 0."""
    return [
        EpisodeResult(
            method, control, "family", split, family, f"{family}/{split}/{i}", f"{family}/train/{i}",  # type: ignore[arg-type]
            0, i, attempt, i < share * entries, 100.0 * (i < share * entries), 500,
        )
        for family in families
        for (method, control), by_attempt in shares.items()
        for attempt, share in by_attempt.items()
        for i in range(entries)
    ]  # fmt: skip


def test_the_summary_has_the_documented_shape() -> None:
    rows = [row for row in make_rows(("reach-v3",)) if row.method == "wtl"]
    summary = json.loads(json.dumps(summarise(rows, HIDDEN)))
    assert list(summary) == ["wtl"]
    assert list(summary["wtl"]) == ["", "blind_retry", "no_demonstration"]
    assert list(summary["wtl"][""]) == ["all", "hidden_goal", "reach-v3"]
    first, second, third = summary["wtl"][""]["hidden_goal"]
    assert second == {"attempt": 1, "n": 20, "successes": 14, "low": pytest.approx(0.4810, abs=1e-4),
                      "high": pytest.approx(0.8545, abs=1e-4)}  # fmt: skip
    assert (first["successes"], third["successes"]) == (4, 18)
    assert [p["attempt"] for p in summary["wtl"]["no_demonstration"]["all"]] == [1]


def test_groups_partition_the_rows() -> None:
    summary = summarise(make_rows(), HIDDEN)["wtl"][""]
    assert list(summary) == ["all", "hidden_goal", "visible_goal", "push-v3", "reach-v3"]
    assert summary["all"][0]["n"] == summary["hidden_goal"][0]["n"] + summary["visible_goal"][0]["n"] == 40


def test_gains_are_paired_with_attempt_0() -> None:
    found = {g.name: g.result for g in gains(make_rows())}
    assert found.keys() == {"wtl@1 - wtl@0", "wtl@2 - wtl@0", "wtl.blind_retry@1 - wtl.blind_retry@0"}
    assert found["wtl@1 - wtl@0"].difference == pytest.approx(0.5)
    assert (found["wtl@1 - wtl@0"].n, found["wtl@1 - wtl@0"].verdict) == (40, "IMPROVED")


def test_others_count_at_the_highest_comparable_attempt() -> None:
    found = {c.name: c.result.difference for c in against_others(make_rows())}
    assert found == pytest.approx({
        "wtl@1 - wtl.blind_retry@1": 0.45, "wtl@1 - wtl.no_demonstration@1": 0.4,
        "wtl@1 - cloning@0": 0.6, "wtl@1 - expert@0": -0.3,
    })  # fmt: skip


def test_only_shared_entries_are_compared() -> None:
    rows = make_rows(("reach-v3",), shares={("wtl", ""): {0: 0.0, 1: 1.0}})
    before, after = rows[:15], rows[20:]
    result = compare((before, after))
    assert result is not None and result.n == 15
    assert compare((rows[:5], rows[30:])) is None
    assert against_others(make_rows(shares={("wtl", ""): {0: 0.5}})) == ()


def printed(runs: Mapping[str, RunResults], markdown: bool) -> str:
    text = io.StringIO()
    print_tables(report_tables(runs), markdown=markdown, console=Console(file=text, width=120))
    return text.getvalue()


def test_the_tables_say_what_was_found() -> None:
    run = RunResults(tuple(make_rows()), HIDDEN)
    text = printed({"quick": run}, markdown=False)
    assert "↳ no_demonstration" in text
    assert "wtl@2 - wtl@0" in text
    assert "IMPROVED" in text
    pasted = printed({"quick": run}, markdown=True)
    assert "| method, ↳ control | n | attempt 0 | attempt 1 | attempt 2 |\n| --- | --- |" in pasted
    assert "| wtl | 40 | 20 [10, 35] | 70 [55, 82] | 90 [77, 96] |\n" in pasted
    assert "| wtl@1 - wtl@0 | 40 | +50 |" in pasted
    assert "| visible_goal | 20 |" in pasted
    hidden = pasted[pasted.index("families that hide their goal") :]
    assert "| wtl@1 - wtl@0 | 20 | +50 |" in hidden and "visible" not in hidden  # the same differences, of reach alone
    assert "runs compared" not in pasted


def test_one_family_needs_no_table_by_family_and_an_open_question_says_what_would_close_it() -> None:
    rows = tuple(make_rows(("reach-v3",), 10, {("wtl", ""): {0: 0.5, 1: 0.6}}))
    pasted = printed({"probe": RunResults(rows, HIDDEN)}, markdown=True)
    assert "by family" not in pasted
    assert "| UNDERPOWERED (about " in pasted


def test_runs_and_splits_are_not_mixed() -> None:
    both = RunResults((*make_rows(), *make_rows(split="train")), HIDDEN)
    pasted = printed({"a": both, "b": RunResults(tuple(make_rows(entries=30)), HIDDEN)}, markdown=True)
    for line in ("a, family-test: wtl | 40", "a, family-train: wtl | 40", "b, family-test: wtl | 60"):
        assert f"| {line} |" in pasted
    assert "family-train: mean" not in pasted


def test_runs_of_one_setting_have_a_mean() -> None:
    worse = {("wtl", ""): {0: 0.1, 1: 0.4}}
    runs = {"a": RunResults(tuple(make_rows()), HIDDEN), "b": RunResults(tuple(make_rows(shares=worse)), HIDDEN)}
    mean = "| family-test: mean of 2 runs (least to most) |  | 15 (10 to 20) | 55 (40 to 70) |  |  |"
    pasted = printed(runs, markdown=True)
    assert mean in pasted  # one has no attempt 2
    hidden = pasted[pasted.index("runs compared, families that hide their goal") :]
    assert "| a, family-test: wtl | 20 |" in hidden


def test_runs_on_other_tasks_have_no_mean() -> None:
    families = ("push-v3", "pick-place-v3")
    runs = {family: RunResults(tuple(make_rows((family,))), HIDDEN) for family in families}
    assert "mean of" not in printed(runs, markdown=True)


def test_runs_on_the_same_tasks_are_pooled_task_by_task() -> None:
    """Three runs are no more tasks than one: what is the same in all of them is no surer than in one."""
    rows = make_rows()
    before, after = ([row for row in main_rows(rows) if row.attempt == attempt] for attempt in (0, 1))
    one, three = compare((before, after)), compare(*[(before, after)] * 3)
    assert one is not None and three is not None and three.n == 3 * one.n
    assert (three.difference, three.low, three.high) == pytest.approx((one.difference, one.low, one.high), abs=0.03)


@pytest.mark.parametrize(
    "runs",
    [
        {"quick": make_rows(("reach-v3",))},
        {"ml10": make_rows()},
        {"ml10": make_rows(), "quick": make_rows(("reach-v3",))},
        {"splits": make_rows() + make_rows(split="train")},
        {"probe": make_rows(("place",), 3, {("wtl", ""): {0: 0.4}})},
    ],
)
def test_the_figure_is_drawn(tmp_path: Path, runs: Mapping[str, list[EpisodeResult]]) -> None:
    draw_curves(runs, tmp_path / "curves.png", title="a title")
    picture = imageio.imread(tmp_path / "curves.png")[..., :3].astype(int)
    assert picture.shape[0] > 400 and picture.shape[1] > 600
    assert (np.ptp(picture, axis=2) > 40).mean() > 0.002  # colour, not only axes
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="no rows"):
        draw_curves({}, tmp_path / "none.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A figure and an animated strip."""
    directory = tmp_path_factory.mktemp("pictures")
    draw_curves({"ml10": make_rows()}, directory / "curves.png")
    frames = np.random.default_rng(0).integers(0, 255, (4, 24, 72, 3), dtype=np.uint8)
    imageio.imwrite(directory / "strip.gif", frames, duration=100, loop=0)
    return directory / "curves.png", directory / "strip.gif"


@pytest.fixture(scope="module")
def write(pictures: tuple[Path, Path]) -> Callable[[Path], Path]:
    def written(log_dir: Path) -> Path:
        return write_tensorboard(
            log_dir, make_rows(), HIDDEN,
            config_yaml="seed: 0\ntrial:\n  width: 64\n",
            hyper_parameters={"width": 64, "learning_rate": 1e-3, "regime": "family", "compiled": False},
            figures={"curves": pictures[0]}, strips={"reach-v3": pictures[1]},
        )  # fmt: skip

    return written


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory, write: Callable[[Path], Path]) -> Path:
    """What is written for one evaluation; tests only read it."""
    return write(tmp_path_factory.mktemp("read only") / "tensorboard")


def read_back(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def scalars(events: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(tag)}


def test_tensorboard_holds_one_run_per_curve(curves: Path) -> None:
    assert sorted(path.name for path in curves.iterdir()) == [
        "cloning", "expert", "wtl", "wtl.blind_retry", "wtl.no_demonstration",
    ]  # fmt: skip
    wtl, retry = read_back(curves / "wtl"), read_back(curves / "wtl.blind_retry")
    assert scalars(wtl, "improvement/success") == pytest.approx({0: 0.2, 1: 0.7, 2: 0.9})
    assert scalars(wtl, "improvement/return") == pytest.approx({0: 20, 1: 70, 2: 90})
    assert scalars(wtl, "improvement/hidden_goal/success") == pytest.approx({0: 0.2, 1: 0.7, 2: 0.9})
    assert scalars(wtl, "families/push-v3/success")[2] == pytest.approx(0.9)
    assert scalars(wtl, "interval/success/low")[1] == pytest.approx(0.5457, abs=1e-4)
    assert scalars(wtl, "paired/gain/value") == pytest.approx({0: 0, 1: 0.5, 2: 0.7})
    assert scalars(wtl, "paired/gain/low")[1] < 0.5 < scalars(wtl, "paired/gain/high")[1]
    assert scalars(retry, "paired/main_minus_this/value") == pytest.approx({1: 0.45})


def test_tensorboard_shows_intervals_text_and_hyper_parameters(curves: Path) -> None:
    events = read_back(curves / "wtl")
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    tags = set(events.Tags()["scalars"])
    for chart in layout.category[0].chart:
        series = chart.margin.series[0]
        assert series.lower.endswith("low") and series.upper.endswith("high")
        if "main_minus_this" not in series.value:  # that one is in the runs of the others
            assert {series.value, series.lower, series.upper} <= tags
            assert scalars(events, series.value).keys() == scalars(events, series.lower).keys()
    configuration = events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    trial:\n      width: 64" in configuration
    assert "| wtl@1 - wtl@0 |" in events.Tensors("tables/text_summary")[0].tensor_proto.string_val[0].decode()
    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(start).session_start_info.hparams
    assert (values["width"].number_value, values["compiled"].string_value) == (64, "false")
    assert scalars(events, "final/success_attempt_2") == pytest.approx({0: 0.9})


def test_tensorboard_holds_the_gif_itself(curves: Path, pictures: tuple[Path, Path]) -> None:
    events = read_back(curves / "wtl")
    strip, figure = events.Images("strips/reach-v3")[0], events.Images("figures/curves")[0]
    assert strip.encoded_image_string == pictures[1].read_bytes()
    assert (strip.width, strip.height) == (72, 24)
    assert len(imageio.imread(strip.encoded_image_string, index=None)) == 4  # still animated
    assert figure.encoded_image_string == pictures[0].read_bytes()
    assert (figure.height, figure.width) == imageio.imread(pictures[0]).shape[:2]


def test_writing_again_duplicates_nothing_and_touches_nothing_else(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    log_dir = tmp_path / "tensorboard"
    (log_dir / "trial").mkdir(parents=True)
    (log_dir / "trial" / "events").write_text("losses")
    first, second = (sorted(path.parent for path in write(log_dir).rglob("*events*")) for _ in range(2))
    assert first == second
    assert len(read_back(log_dir / "curves" / "wtl").Scalars("improvement/success")) == 3
    assert sorted(path.name for path in log_dir.iterdir()) == ["curves", "trial"]
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


def test_a_failed_write_leaves_the_old_curves(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    curves = write(tmp_path / "tensorboard")
    before = sorted(curves.rglob("*"))
    (tmp_path / "strip.mp4").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="must be a PNG or a GIF"):
        write_tensorboard(
            tmp_path / "tensorboard", make_rows(), HIDDEN,
            config_yaml="", hyper_parameters={}, figures={}, strips={"a": tmp_path / "strip.mp4"},
        )  # fmt: skip
    assert sorted(curves.rglob("*")) == before
    with pytest.raises(ValueError, match="no rows"):
        write_tensorboard(tmp_path, [], HIDDEN, config_yaml="", hyper_parameters={}, figures={}, strips={})


def test_splits_get_a_directory_each(tmp_path: Path) -> None:
    rows = make_rows() + make_rows(split="train")
    written = write_tensorboard(
        tmp_path / "tb", rows, HIDDEN, config_yaml="", hyper_parameters={}, figures={}, strips={}
    )
    assert sorted(path.name for path in written.iterdir()) == ["family-test", "family-train"]
    assert (written / "family-train" / "wtl.blind_retry").is_dir()


def make_run(run: Path, families: object) -> Path:
    write_results(run / "evaluation" / "episodes.csv", make_rows())
    (run / "evaluation" / "families.json").write_text(json.dumps(families))
    return run


FAMILIES = {"reach-v3": {"hidden_goal": True}, "push-v3": {"hidden_goal": False}}


def test_a_run_is_found_by_its_directory_or_its_evaluation(tmp_path: Path) -> None:
    run = make_run(tmp_path / "quick", FAMILIES)
    loaded = load_run(run)
    assert loaded == load_run(run / "evaluation")
    assert (set(loaded.rows), loaded.hidden_goal_families) == (set(make_rows()), HIDDEN)
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
