"""Drawing of videos: sketches, panels side by side, and the files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
from strategies import make_task

from wtl.analysis.video import FRAME_PIXELS, HEADER_PIXELS, LEGEND_PIXELS, Clip, draw_sketch, side_by_side, write_video
from wtl.core.episode import Episode, Trajectory
from wtl.core.task import FamilySpec, ObservationLayout


def clips() -> list[Clip]:
    """Two clips of different lengths, every picture another one."""
    return [clip("attempt 0", range(0, 80, 20)), clip("attempt 1", range(0, 70, 10), success=True)]


def clip(title: str, greys: Iterable[int], success: bool = False) -> Clip:
    frames = tuple(np.full((240, 240, 3), grey, np.uint8) for grey in greys)
    return Clip(title, "reach-v3/test/0", success, frames, tuple(f"step {i}" for i in range(len(frames))))


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_a_strip_is_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "deep" / f"strip{ending}"
    made = clips()
    write_video(made, path)
    if ending == ".gif":
        frames = imageio.imread(path, index=None)
        assert len(frames) > 1 and frames.shape[1:] == side_by_side(made)[0].shape  # pictures that repeat are merged
    else:
        count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
        assert count == len(side_by_side(made)) > 1 and seconds == pytest.approx(count / 12, rel=0.1)
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no partial file


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_a_video_that_does_not_fit_on_the_disk_is_an_error_and_the_old_one_stays(tmp_path: Path, ending: str) -> None:
    """In a program of its own, whose files may not become larger than 4 KiB; ffmpeg inherits that."""
    path = tmp_path / f"strip{ending}"
    path.write_bytes(b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path; from test_video import clip, write_video\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_video([clip('a', range(0, 250, 3))], Path(sys.argv[1]))\n"
        "except OSError as error: print(error.filename, error.strerror)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, path], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert (said.stdout, said.stderr) == (f"{path} File too large\n", "")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a video is written as .mp4 or .gif, got strip.avi"):
        write_video(clips(), tmp_path / "strip.avi")
    assert not list(tmp_path.iterdir())


def test_panels_hold_their_last_picture() -> None:
    strip = side_by_side([clip("a", [0], success=True), clip("b", range(5))])
    top = HEADER_PIXELS
    assert len(strip) == 5 + 6 and all(picture.shape == (240 + top + 2, 488, 3) for picture in strip)
    np.testing.assert_array_equal(strip[0][: top + 240, :244], strip[-1][: top + 240, :244])
    assert (strip[4][100, 400] == 4).all() and (strip[-1][100, 400] == 4).all()


def test_the_header_of_a_panel_changes_with_the_step_and_never_leaves_the_panel() -> None:
    long = replace(clip("demonstration of ANOTHER goal", range(3)), task="a-family-with-a-very-long-name/test/1234567")
    first, second, *_ = (frame[:HEADER_PIXELS] for frame in side_by_side([long]))
    assert (first[30:] != second[30:]).any() and (first[:30] == second[:30]).all()
    assert (first < 128).any() and (first[:, -3:] == 255).all()


def test_a_clip_needs_a_caption_for_each_frame() -> None:
    with pytest.raises(ValueError, match="got 3 frames and 2 captions"):
        replace(clip("a", range(3)), captions=("one", "two"))


def test_a_sketch_in_three_dimensions_has_two_views_and_leaves_out_what_is_absent() -> None:
    layout = ObservationLayout(9, 3, (0, 3, 6))
    spec = FamilySpec("space", layout, 2, 10, 3, True, 1.0)
    seen = np.zeros((4, 9))
    seen[:, :3] = np.linspace(0.1, 1, 12).reshape(4, 3)
    seen[:, 3:6] = (0.5, 0.2, 0.3)
    path = Trajectory(seen, np.zeros((3, 2)), np.zeros(3), np.zeros(3))
    goal = np.array([0.2, 0.9, 0.4])
    episode = Episode(path, make_task("a"), "trial", 0, 0, "", goal, np.zeros((3, 2)))
    picture = draw_sketch(spec, episode, 3)
    assert picture.shape == (240, 240, 3)
    green = (picture == (0, 158, 115)).all(-1)
    half = (FRAME_PIXELS - LEGEND_PIXELS) // 2
    assert green[:half].any() and green[half : 2 * half].any() and green[2 * half :].any()  # views and legend
    orange, blue = ((picture == colour).all(-1).any() for colour in ((213, 94, 0), (86, 180, 233)))
    assert orange and not blue  # the second object is absent, in the legend too
    assert (picture != draw_sketch(spec, replace(episode, goal=-goal), 3)).any()


@pytest.mark.parametrize("goal", [np.full(2, np.nan), np.zeros(0), np.zeros(3)])
def test_a_goal_that_is_not_known_or_no_place_is_left_out_of_a_sketch(goal: np.ndarray) -> None:
    spec = FamilySpec("plane", ObservationLayout(2, 2, (0,)), 1, 10, len(goal), True, 1.0)
    path = Trajectory(np.linspace(0, 1, 8).reshape(4, 2), np.zeros((3, 1)), np.zeros(3), np.zeros(3))
    episode = Episode(path, make_task("a"), "demonstration", 0, 0, "me", goal, np.zeros((3, 1)))
    picture = draw_sketch(spec, episode, 2)
    assert (picture == (20, 20, 20)).all(-1).any() and not (picture == (0, 158, 115)).all(-1).any()


def test_observations_without_positions_or_at_zero_are_drawn_as_what_they_are() -> None:
    path = Trajectory(np.zeros((4, 2)), np.zeros((3, 1)), np.zeros(3), np.zeros(3))
    episode = Episode(path, make_task("a"), "demonstration", 0, 0, "me", np.zeros(0), np.zeros((3, 1)))
    for layout in (ObservationLayout(2, 1, (), (0, 1)), ObservationLayout(2, 2, (0,))):
        picture = draw_sketch(FamilySpec("numbers", layout, 1, 10, 0, True, 1.0), episode, 3)
        assert picture.shape == (FRAME_PIXELS, FRAME_PIXELS, 3) and (picture < 255).any()
