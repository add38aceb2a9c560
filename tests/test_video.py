"""Videos without a camera: a strip of sketches as GIF and MP4."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
from strategies import PROBE, make_task
from wtl.methods.nearest import NearestNeighbour

from wtl.analysis.video import FRAME_PIXELS, LEGEND_PIXELS, Clip, draw_sketch, record, side_by_side, write_video
from wtl.core.episode import Episode, Trajectory
from wtl.core.task import FamilySpec, ObservationLayout
from wtl.play.attempts import ExplorationConfig, Session
from wtl.play.rollout import Demonstrator, Ending, roll_out

FAMILY: Any = next(iter(PROBE.values()))
TASK, OTHER = FAMILY.sample_tasks(2, 0, "test")
[SHOWN] = roll_out(
    FAMILY, [FAMILY.make_environment()], [OTHER], [0], Demonstrator(), ending=Ending(24, 0), role="demonstration"
)
SESSION = Session(TASK, SHOWN.trajectory, OTHER.name, 1)


def clips(family: Any = FAMILY, **changes: Any) -> list[Clip]:
    arguments = {"ending": Ending(24, 0), "exploration": ExplorationConfig(0.0), "style": "sketch"} | changes
    improvers = [NearestNeighbour(FAMILY.spec.layout)] * 2
    return record(family, SESSION, SHOWN, improvers, **arguments)


def test_a_clip_for_the_demonstration_and_for_each_attempt() -> None:
    made = clips()
    assert [clip.title for clip in made] == ["demonstration", "attempt 0", "attempt 1"]
    assert made[0].success and all(frame.shape == (240, 240, 3) for clip in made for frame in clip.frames)
    assert all(1 < len(clip.frames) <= 9 for clip in made)
    assert (made[1].frames[0] != made[1].frames[-1]).any()


def test_without_a_demonstration_there_is_no_clip_of_it() -> None:
    made = record(
        FAMILY, SESSION, None, [NearestNeighbour(FAMILY.spec.layout)],
        ending=Ending(24, 0), exploration=ExplorationConfig(), style="sketch",
    )  # fmt: skip
    assert [clip.title for clip in made] == ["attempt 0"]


def test_the_camera_shows_what_the_environment_renders() -> None:
    seen = clips(style="camera")
    assert all((frame == (0, 158, 115)).all(-1).any() for frame in seen[0].frames)  # the goal


class Blind(type(FAMILY)):  # type: ignore[misc]
    """Cannot be rendered here."""

    def make_environment(self, render: bool = False) -> Any:
        if render:
            raise OSError("no EGL")
        return super().make_environment()


def test_without_a_camera_there_is_a_sketch_or_one_sentence() -> None:
    blind = Blind(FAMILY.name)
    assert len(clips(blind, style="auto")) == 3
    with pytest.raises(
        ValueError, match=r"no camera on this machine \(no EGL\); install libegl1, or use --style sketch"
    ):
        clips(blind, style="camera")


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


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a video is written as .mp4 or .gif, got strip.avi"):
        write_video(clips(), tmp_path / "strip.avi")
    assert not list(tmp_path.iterdir())


def test_panels_hold_their_last_picture() -> None:
    short = Clip("a", True, (np.zeros((240, 240, 3), np.uint8),))
    long = Clip("b", False, tuple(np.full((240, 240, 3), i, np.uint8) for i in range(5)))
    strip = side_by_side([short, long])
    assert len(strip) == 5 + 6 and all(picture.shape == (266, 488, 3) for picture in strip)
    np.testing.assert_array_equal(strip[0][26:240, 10:200], strip[-1][26:240, 10:200])
    assert (strip[4][100, 400] == 4).all() and (strip[-1][100, 400] == 4).all()


def test_a_sketch_in_three_dimensions_has_two_views_and_leaves_out_what_is_absent() -> None:
    layout = ObservationLayout(9, 3, (0, 3, 6))
    spec = FamilySpec("space", layout, 2, 10, 3, True, 1.0)
    seen = np.zeros((4, 9))
    seen[:, :3] = np.linspace(0.1, 1, 12).reshape(4, 3)
    seen[:, 3:6] = (0.5, 0.2, 0.3)
    path = Trajectory(seen, np.zeros((3, 2)), np.zeros(3), np.zeros(3))
    goal = np.array([0.2, 0.9, 0.4])
    episode = Episode(path, make_task("a"), "trial", 0, 0, "", goal, np.zeros((3, 2)), np.zeros((4, 0)))
    picture = draw_sketch(spec, episode, 3)
    assert picture.shape == (240, 240, 3)
    green = (picture == (0, 158, 115)).all(-1)
    half = (FRAME_PIXELS - LEGEND_PIXELS) // 2
    assert green[:half].any() and green[half : 2 * half].any() and green[2 * half :].any()  # views and legend
    orange, blue = ((picture == colour).all(-1).any() for colour in ((213, 94, 0), (86, 180, 233)))
    assert orange and not blue  # the second object is absent, in the legend too
    assert (picture != draw_sketch(spec, replace(episode, goal=-goal), 3)).any()
