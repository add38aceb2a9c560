"""Runs in TensorBoard: links, ports, the program itself, and what a real browser shows of it."""

from __future__ import annotations

import io
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from evaluations import HIDDEN, make_table
from PIL import Image

from wtl.analysis.tensorboard import write_tensorboard
from wtl.app.board import address, find_port, link_runs, tensorboard

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1500,860",
    "--virtual-time-budget=20000", "--run-all-compositor-stages-before-draw",
]  # fmt: skip


def make_run(root: Path) -> Path:
    (root / "tensorboard" / "curves").mkdir(parents=True)
    return root


def test_the_address_smooths_nothing_and_chooses_the_improvement_curve() -> None:
    parts = urlsplit(address(6006))
    asked = {name: value for name, [value] in parse_qs(parts.query).items()}
    assert (parts.port, parts.fragment) == (6006, "timeseries")
    assert (asked["smoothing"], asked["tagFilter"], asked["runFilter"]) == ("0", "improvement/success", "curves")
    coloured = re.compile(asked["runColorGroup"].removeprefix("regex:"))
    one, other, training = map(coloured.search, ("a/curves/mil", "b/curves/mil", "a/mil/train"))
    assert one and other and one[1] != other[1] and not training  # two runs, two colours; none for training


def test_runs_are_shown_by_their_names_or_by_their_paths(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("x/first", "x/second, or: not", "y/first")]
    for number, chosen in enumerate((runs[:2], [runs[0], runs[0]], runs)):
        (tmp_path / str(number)).mkdir()
        link_runs(chosen, tmp_path / str(number))
    assert [path.name for path in sorted((tmp_path / "0").iterdir())] == ["first", "second, or: not"]
    assert (tmp_path / "0" / "first" / "curves").is_dir()
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["first"]
    assert len(list((tmp_path / "2").iterdir())) == 3


def test_a_run_without_curves_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no TensorBoard curves .*`wtl run` and `wtl evaluate` write them"):
        link_runs([make_run(tmp_path / "good"), tmp_path / "nowhere"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_a_port_that_is_taken_is_left_alone() -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        number = taken.getsockname()[1]
        assert find_port(number) > number
    with pytest.raises(ValueError, match="no port from 70000 on is free"):
        find_port(70000)


def test_a_tensorboard_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with (
        pytest.raises(ValueError, match="TensorBoard did not start: it said nothing"),
        tensorboard([make_run(tmp_path)]),
    ):
        pass


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not BROWSER, reason="no chromium on this machine (Debian: apt install chromium)")
def test_a_browser_shows_the_points_that_were_measured_each_method_in_its_colour(tmp_path: Path) -> None:
    run = tmp_path / "run"
    figure = tmp_path / "figure.png"
    Image.new("RGB", (300, 200), (200, 30, 30)).save(figure)
    write_tensorboard(
        run / "tensorboard", make_table(), HIDDEN,
        config_yaml="", hyper_parameters={}, pictures={"success_figure": figure},
    )  # fmt: skip
    with tensorboard([run], 6350) as (page, pid):
        shown = browse(page, tmp_path, lambda dom: "run/curves/learner" in dom and "success_figure" in dom)
        picture = screenshot(page, tmp_path)
    assert not Path(f"/proc/{pid}").exists()
    values = set(re.findall(r">\s*(\d\.?\d*)\s*<", shown))
    assert {"0.9", "0.1", "1"} <= values  # learner at the last attempt, cloning, expert; .6 smoothing shows .73
    cyan, pink = (
        (np.abs(picture.astype(int) - colour).max(-1) < 12).sum() for colour in ((18, 181, 203), (229, 37, 146))
    )
    assert cyan > 20 and pink > 20  # the second and the third colour of TensorBoard


def browse(page: str, directory: Path, enough: Callable[[str], bool]) -> str:
    """Return the page as the browser built it, once it is whole."""
    for number in range(5):
        command = [BROWSER, *QUIET, f"--user-data-dir={directory}/dom-{number}", "--dump-dom", page]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        if enough(dom):
            return dom
        time.sleep(2)  # TensorBoard reads its files every few seconds
    raise AssertionError(dom[-2000:])


def screenshot(page: str, directory: Path) -> np.ndarray:
    path = directory / "page.png"
    command = [BROWSER, *QUIET, f"--user-data-dir={directory}/picture", f"--screenshot={path}", page]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
