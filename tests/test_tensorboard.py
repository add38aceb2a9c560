"""What TensorBoard reads back from the curves of a made-up evaluation."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
from evaluations import HIDDEN, make_table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.io import gfile
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from wtl.analysis.episodes import to_table
from wtl.analysis.figures import draw_curves
from wtl.analysis.tensorboard import write_tensorboard


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A figure and an animated strip."""
    directory = tmp_path_factory.mktemp("pictures")
    draw_curves({"ml10": make_table()}, directory / "curves.png")
    frames = np.random.default_rng(0).integers(0, 255, (4, 24, 72, 3), dtype=np.uint8)
    imageio.imwrite(directory / "strip.gif", frames, duration=100, loop=0)
    return directory / "curves.png", directory / "strip.gif"


@pytest.fixture(scope="module")
def write(pictures: tuple[Path, Path]) -> Callable[[Path], Path]:
    def written(log_dir: Path) -> Path:
        return write_tensorboard(
            log_dir, make_table(), HIDDEN,
            config_yaml="seed: 0\ntrial:\n  width: 64\n",
            hyper_parameters={"width": 64, "learning_rate": 1e-3, "regime": "family", "compiled": False},
            pictures={"success_figure": pictures[0], "film": pictures[1]},
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


def test_tensorboard_holds_one_run_per_method_with_its_controls(curves: Path) -> None:
    assert sorted(path.name for path in curves.iterdir()) == ["cloning", "expert", "learner"]
    main, cloning = read_back(curves / "learner"), read_back(curves / "cloning")
    assert scalars(main, "1_improvement/success") == pytest.approx({0: 0.2, 1: 0.7, 2: 0.9})
    assert scalars(main, "1_improvement/success_hidden_goal") == pytest.approx({0: 0.2, 1: 0.7, 2: 0.9})
    assert scalars(main, "3_families/push-v3")[2] == pytest.approx(0.9)
    assert scalars(main, "5_intervals/success/low")[1] == pytest.approx(0.5457, abs=1e-4)
    assert scalars(main, "5_intervals/gain/value") == pytest.approx({0: 0, 1: 0.5, 2: 0.7})
    assert scalars(main, "5_intervals/gain/low")[1] < 0.5 < scalars(main, "5_intervals/gain/high")[1]
    assert scalars(main, "2_controls/blind_retry") == pytest.approx({0: 0.2, 1: 0.25})
    assert scalars(main, "5_intervals/blind_retry/main_minus_this/value") == pytest.approx({1: 0.45})
    assert scalars(cloning, "5_intervals/main_minus_this/value") == pytest.approx({2: 0.8})
    groups = sorted({tag.split("/")[0] for tag in main.Tags()["scalars"] if "/" in tag})
    assert groups == ["1_improvement", "2_controls", "3_families", "5_intervals", "6_final"]


def test_no_curve_falls_while_success_rises(curves: Path) -> None:
    """The return does, where episodes end at a success: the reward of a step stands in its place."""
    main = read_back(curves / "learner")
    assert not [tag for tag in main.Tags()["scalars"] if "return" in tag]
    rewards = scalars(main, "1_improvement/reward_per_step")
    assert rewards[0] < rewards[1] < rewards[2]


def test_tensorboard_shows_intervals_text_and_hyper_parameters(curves: Path) -> None:
    events = read_back(curves / "learner")
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
    assert "| 1 - 0 | 40 | +50 |" in events.Tensors("tables/text_summary")[0].tensor_proto.string_val[0].decode()
    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(start).session_start_info.hparams
    assert (values["width"].number_value, values["compiled"].string_value) == (64, "false")
    assert scalars(events, "6_final/success_attempt_2") == pytest.approx({0: 0.9})


def test_tensorboard_holds_the_gif_itself(curves: Path, pictures: tuple[Path, Path]) -> None:
    events = read_back(curves / "learner")
    strip, figure = events.Images("1_improvement/film")[0], events.Images("1_improvement/success_figure")[0]
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
    assert len(read_back(log_dir / "curves" / "learner").Scalars("1_improvement/success")) == 3
    assert sorted(path.name for path in log_dir.iterdir()) == ["curves", "trial"]
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


def test_a_failed_write_leaves_the_old_curves(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    curves = write(tmp_path / "tensorboard")
    before = sorted(curves.rglob("*"))
    (tmp_path / "strip.mp4").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="must be a PNG or a GIF"):
        write_tensorboard(
            tmp_path / "tensorboard", make_table(), HIDDEN,
            config_yaml="", hyper_parameters={}, pictures={"a": tmp_path / "strip.mp4"},
        )  # fmt: skip
    assert sorted(curves.rglob("*")) == before
    with pytest.raises(ValueError, match="no rows"):
        write_tensorboard(tmp_path, to_table([]), HIDDEN, config_yaml="", hyper_parameters={}, pictures={})


def test_splits_get_a_directory_each(tmp_path: Path) -> None:
    rows = pd.concat([make_table(), make_table(split="train")])
    written = write_tensorboard(tmp_path / "tb", rows, HIDDEN, config_yaml="", hyper_parameters={}, pictures={})
    assert sorted(path.name for path in written.iterdir()) == ["family-test", "family-train"]
    assert (written / "family-train" / "learner").is_dir()


@pytest.mark.parametrize("left", [0, 1, 7])
def test_on_a_full_disk_the_older_curves_stay_and_it_is_one_error(
    tmp_path: Path, write: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    left: int,
) -> None:  # fmt: skip
    """TensorBoard's own thread would print a traceback beside the error that reaches the caller."""
    older = {path: path.read_bytes() for path in write(tmp_path / "tensorboard").rglob("events*")}
    written, counted = gfile.LocalFileSystem._write, iter(range(100))

    def fill(*arguments: object) -> None:
        if next(counted) >= left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(*arguments)

    monkeypatch.setattr(gfile.LocalFileSystem, "_write", fill)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/tensorboard/curves'"):
        write(tmp_path / "tensorboard")
    assert capfd.readouterr() == ("", "")
    assert {path: path.read_bytes() for path in tmp_path.rglob("events*")} == older
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
