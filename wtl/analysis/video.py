"""Drawing of videos: demonstration | trial | retrials of the same entry side by side, as MP4 and as an animated GIF.

`wtl.stages.film` plays an entry once more and takes the pictures; where the simulator's camera does not work, a
sketch is drawn here from the recorded positions. Trap: MP4 wants an even number of pixels each way.
"""

from __future__ import annotations

import errno
import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wtl.core.episode import Episode
from wtl.core.files import naming, scratch_folder, write_atomically
from wtl.core.task import FamilySpec

Style = Literal["auto", "camera", "sketch"]
Colour = tuple[int, int, int]

FRAME_PIXELS = 240
"""Width and height of every frame."""
HEADER_PIXELS = 48
"""Height of the three lines above a frame: what it is, the task, the step."""
LEGEND_PIXELS = 18
"""Height of the legend at the bottom of a sketch."""
_BLACK, _WHITE, _GREEN, _ORANGE, _BLUE = (20, 20, 20), (255, 255, 255), (0, 158, 115), (213, 94, 0), (86, 180, 233)


@dataclass(frozen=True)
class Clip:
    """One episode as pictures."""

    title: str
    """What is seen, for instance `attempt 0`."""
    task: str
    """The task's name, which begins with its family's."""
    success: bool
    """True if the success flag was up at any step."""
    frames: tuple[np.ndarray, ...]
    """Each (FRAME_PIXELS, FRAME_PIXELS, 3) uint8."""
    captions: tuple[str, ...]
    """A line for each frame."""

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.captions):
            raise ValueError(
                f"a clip needs a caption for each frame and at least one, got {len(self.frames)} frames and "
                f"{len(self.captions)} captions"
            )


def draw_sketch(spec: FamilySpec, episode: Episode, step: int) -> np.ndarray:
    """Return a frame of step `step`, drawn from the observations: the hand's path so far, objects, goal.

    It shows them from above and, in three dimensions, from the side. An object whose position is all
    zeros is absent and is left out, and so is a goal that is not known or no position. Where an observation holds no
    positions at all, there is nothing to draw.
    """
    layout, observations = spec.layout, episode.trajectory.observations
    if not layout.points:
        image = Image.new("RGB", (FRAME_PIXELS, FRAME_PIXELS), _WHITE)
        text = "observations without positions"
        ImageDraw.Draw(image).text((4, 2), text, fill=_BLACK, font=_font(10))
        return np.asarray(image)
    is_place = len(episode.goal) == layout.dimensions and bool(np.isfinite(episode.goal).all())
    goals = [(episode.goal, 7, _GREEN)] if is_place else []
    hand, *objects = (observations[:, start : start + layout.dimensions] for start in layout.points)
    shown = np.concatenate([hand, *objects, *(goal[None] for goal, _, _ in goals)])
    shown = shown[shown.any(axis=1)] if shown.any() else shown
    middle, radius = (shown.max(0) + shown.min(0)) / 2, np.ptp(shown, axis=0).max() / 2 * 1.15 + 1e-3
    present = [
        (at[step], colour) for at, colour in zip(objects, cycle((_ORANGE, _BLUE)), strict=False) if at[step].any()
    ]
    dots = [*goals, *((at, 4, colour) for at, colour in present), (hand[step], 4, _BLACK)]
    points = (np.stack([*(at for at, _, _ in dots), *hand[: step + 1]]) - middle) / radius
    points = np.pad(points, ((0, 0), (0, max(0, 2 - layout.dimensions))))  # a line is drawn in the plane
    views = {"from above": [0, 1], "from the side": [1, 2]} if layout.dimensions == 3 else {"from above": [0, 1]}
    height = (FRAME_PIXELS - LEGEND_PIXELS) // len(views)
    image = Image.new("RGB", (FRAME_PIXELS, FRAME_PIXELS), _WHITE)
    draw = ImageDraw.Draw(image)
    for number, (view, axes) in enumerate(views.items()):
        pixels = points[:, axes] * (FRAME_PIXELS / 2, -height / 2) + (FRAME_PIXELS / 2, height * (number + 0.5))
        draw.text((4, height * number + 2), view, fill=_BLACK, font=_font(10))
        if step:
            draw.line(pixels[len(dots) :].ravel().tolist(), fill=_BLACK, width=1)
        for pixel, (_, size, colour) in zip(pixels, dots, strict=False):  # the other pixels are the path
            _draw_dot(draw, pixel, size, colour)
    _draw_legend(
        draw,
        {"hand": [_BLACK], "goal": [c for _, _, c in goals], "objects": list(dict.fromkeys(c for _, c in present))},
    )
    return np.asarray(image)


def _draw_dot(draw: ImageDraw.ImageDraw, centre: Sequence[float] | np.ndarray, radius: int, colour: Colour) -> None:
    x, y = centre
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def _draw_legend(draw: ImageDraw.ImageDraw, colours: Mapping[str, Sequence[Colour]]) -> None:
    """Draw the dots of each name that has any, then the name, from left to right along the bottom."""
    font = _font(10)
    x, y = 8.0, FRAME_PIXELS - LEGEND_PIXELS / 2
    for name in (name for name in colours if colours[name]):
        for colour in colours[name]:
            _draw_dot(draw, (x, y), 3, colour)
            x += 9
        draw.text((x - 2, y), name, fill=_BLACK, font=font, anchor="lm")
        x += 14 + draw.textlength(name, font=font)


def side_by_side(clips: Sequence[Clip]) -> list[np.ndarray]:
    """Return the frames (height, width, 3) uint8 of a strip with one panel per clip.

    A panel holds its last frame when its episode is over, and says how it ended.
    """
    held_frames = 6  # so that a viewer sees how the longest episode ended
    length = max(len(clip.frames) for clip in clips) + held_frames
    return [np.concatenate([_panel(clip, frame) for clip in clips], axis=1) for frame in range(length)]


def _panel(clip: Clip, number: int) -> np.ndarray:
    """Return a frame of a clip, or its last one, below its title; the colour tells how it ended."""
    number = min(number, len(clip.frames) - 1)
    title, colour = clip.title, _BLACK
    if number == len(clip.frames) - 1:
        title += ": success" if clip.success else ": failure"
        colour = _GREEN if clip.success else _ORANGE
    image = Image.new("RGB", (FRAME_PIXELS + 4, FRAME_PIXELS + HEADER_PIXELS + 2), _WHITE)
    image.paste(Image.fromarray(clip.frames[number]), (2, HEADER_PIXELS))
    draw = ImageDraw.Draw(image)
    lines = ((title, colour, 14), (clip.task, _BLACK, 11), (clip.captions[number], _BLACK, 11))
    for y, (text, ink, size) in zip((1, 19, 33), lines, strict=True):
        draw.text((5, y), text, fill=ink, font=_fitting(draw, text, size))
    return np.asarray(image)


def _fitting(draw: ImageDraw.ImageDraw, text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of this size, or a smaller one with which the text is no wider than a frame."""
    while size > 6 and draw.textlength(text, font=_font(size)) > FRAME_PIXELS - 6:
        size -= 1
    return _font(size)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # it takes milliseconds, and there are hundreds of frames


def check_ending(path: Path) -> None:
    """Raises ValueError for a file that is neither `.mp4` nor `.gif`."""
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"a video is written as .mp4 or .gif, got {path.name}")


def write_video(clips: Sequence[Clip], path: Path, frames_per_s: int = 12) -> None:
    """Write the strip of `side_by_side` as `.mp4` or `.gif`, whichever the path says.

    Raises ValueError for another ending.
    """
    check_ending(path)
    strip = side_by_side(clips)
    if path.suffix == ".gif":
        picture = imageio.imwrite("<bytes>", strip, extension=".gif", duration=1000 // frames_per_s, loop=0)
        write_atomically(path, picture)
        return
    with naming(path), scratch_folder(path.parent) as scratch:
        _write_mp4(np.stack(strip), scratch / "video.mp4", frames_per_s)
        (scratch / "video.mp4").replace(path)


def _write_mp4(frames: np.ndarray, path: Path, frames_per_s: int) -> None:
    """Have ffmpeg write frames (n, height, width, 3) uint8; imageio would not look whether it could.

    Raises:
        OSError: it could not write the whole file.
    """
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    _, height, width, _ = frames.shape
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{width}x{height}", "-r", str(frames_per_s), "-i", "-",
        "-an", "-c:v", "libx264", "-crf", "25", "-pix_fmt", "yuv420p", str(path),
    ]  # fmt: skip
    # Signals stay ignored as they are here, so that a limit on the size of files is an error and not the end of ffmpeg.
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False, restore_signals=False)
    if done.returncode:
        number = 256 - done.returncode  # its exit code is the negative number of the system's error, in one byte
        known = number in errno.errorcode
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise OSError(number if known else errno.EIO, os.strerror(number) if known else f"ffmpeg failed: {said[0]}")
