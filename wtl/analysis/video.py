"""Videos: demonstration | trial | retrial of the same entry side by side, as MP4 and as an animated GIF.

The simulator's camera needs EGL or OSMesa; without them a sketch from the recorded places is drawn (seen
from above and from the side), so a video is made on every machine. Source of the camera view: Meta-World's corner2.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium
import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wtl.core.episode import Episode
from wtl.core.task import FamilySpec, TaskFamily
from wtl.play.attempts import ExplorationConfig, Session, extended, first_contexts, play_attempt
from wtl.play.rollout import Ending, EnvironmentPool, Improver

Style = Literal["auto", "camera", "sketch"]
_PANEL = 240
_INK, _GOAL, _OBJECTS = (20, 20, 20), (0, 158, 115), ((213, 94, 0), (86, 180, 233))


@dataclass(frozen=True)
class Clip:
    """One episode as pictures."""

    title: str
    success: bool
    frames: tuple[np.ndarray, ...]
    """Of (height, width, 3) uint8."""


def record(
    family: TaskFamily,
    session: Session,
    demonstration: Episode | None,
    improvers: Sequence[Improver],
    *,
    ending: Ending,
    exploration: ExplorationConfig,
    style: Style = "auto",
    most: int = 60,
) -> list[Clip]:
    """Play an entry once more (it replays exactly) and picture the demonstration and every attempt.

    Args:
        improvers: one for each attempt, the trial policy first.
        style: the simulator's camera, a sketch, or the camera if it works here.
        most: pictures of one episode at the most; long episodes are shown faster.

    Raises:
        ValueError: style `camera` on a machine without EGL and OSMesa.
    """
    camera = None if style == "sketch" else _camera(family, required=style == "camera")
    clips = [] if demonstration is None else [_clip(family, "demonstration", demonstration, camera, most)]
    contexts = first_contexts([session])
    pool = EnvironmentPool()
    for attempt, improver in enumerate(improvers):
        episodes = play_attempt(
            family, [session], contexts, improver, attempt,
            ending=ending, exploration=exploration, keep_states=False, ask_expert=False, pool=pool,
        )  # fmt: skip
        clips.append(_clip(family, f"attempt {attempt}", episodes[0], camera, most))
        contexts = extended(contexts, episodes)
    pool.close()
    if camera is not None:
        camera.close()
    return clips


def _camera(family: TaskFamily, required: bool) -> gymnasium.Env[Any, Any] | None:
    """An environment that can render, or None where this machine cannot."""
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    environment = None
    try:
        environment = family.make_environment(render=True)
        environment.reset(options={"task": family.sample_tasks(1, 0, "validation")[0]})
        environment.render()
    except Exception as error:
        if required:
            raise ValueError(f"no camera on this machine ({error}); install libegl1, or use --style sketch") from error
        return None
    return environment


def _clip(family: TaskFamily, title: str, episode: Episode, camera: gymnasium.Env[Any, Any] | None, most: int) -> Clip:
    steps = range(0, len(episode.trajectory) + 1, max(3, -(-len(episode.trajectory) // most)))
    if camera is None:
        frames = [_sketch(family.spec, episode, step) for step in steps]
    else:
        camera.reset(options={"task": episode.task})
        frames = [_small(camera.render())]
        for step, action in enumerate(episode.trajectory.actions, 1):
            camera.step(action)
            if step in steps:
                frames.append(_small(camera.render()))
    return Clip(title, episode.trajectory.success, tuple(frames))


def _small(picture: Any) -> np.ndarray:
    image = Image.fromarray(np.asarray(picture))
    return np.asarray(image.resize((_PANEL, _PANEL), Image.Resampling.BILINEAR))


def _sketch(spec: FamilySpec, episode: Episode, step: int) -> np.ndarray:
    """The hand's path, the objects and the hidden goal, from above and (in 3-D) from the side."""
    layout, seen = spec.layout, episode.trajectory.observations
    views = [(0, 1), (1, 2)] if layout.dimensions == 3 else [(0, 1)]
    places = np.concatenate([seen[:, p : p + layout.dimensions] for p in layout.points] + [episode.goal[None]])
    places = places[places.any(axis=1)]
    middle, radius = (places.max(0) + places.min(0)) / 2, float(np.ptp(places, axis=0).max()) / 2 * 1.15 + 1e-3
    image = Image.new("RGB", (_PANEL, _PANEL), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    height = _PANEL // len(views)

    def at(place: np.ndarray, view: int) -> tuple[float, float]:
        x, y = ((place - middle) / radius)[list(views[view])]
        return _PANEL / 2 * (1 + x), height * (view + 0.5) - height / 2 * y

    def dot(centre: tuple[float, float], size: int, colour: tuple[int, int, int]) -> None:
        draw.ellipse([centre[0] - size, centre[1] - size, centre[0] + size, centre[1] + size], fill=colour)

    for view in range(len(views)):
        dot(at(episode.goal, view), 7, _GOAL)
        for i, point in enumerate(layout.points[1:]):
            place = seen[step, point : point + layout.dimensions]
            if place.any():
                dot(at(place, view), 4, _OBJECTS[i % len(_OBJECTS)])
        hand = layout.points[0]
        path = [at(p, view) for p in seen[: step + 1, hand : hand + layout.dimensions]]
        if len(path) > 1:
            draw.line(path, fill=_INK, width=1)
        dot(path[-1], 4, _INK)
    return np.asarray(image)


def side_by_side(clips: Sequence[Clip]) -> list[np.ndarray]:
    """One picture strip: every clip in its own panel, each holding its last picture at its end."""
    length = max(len(clip.frames) for clip in clips) + 6
    font = ImageFont.load_default(15)
    strip = []
    for step in range(length):
        panels = []
        for clip in clips:
            over = step >= len(clip.frames) - 1
            picture = clip.frames[min(step, len(clip.frames) - 1)]
            image = Image.new("RGB", (_PANEL + 4, _PANEL + 26), (255, 255, 255))
            image.paste(Image.fromarray(picture), (2, 24))
            verdict = ("  success" if clip.success else "  failure") if over else ""
            colour = (_GOAL if clip.success else (213, 94, 0)) if over else _INK
            ImageDraw.Draw(image).text((6, 3), clip.title + verdict, fill=colour, font=font)
            panels.append(np.asarray(image))
        strip.append(np.concatenate(panels, axis=1))
    return strip


def check_ending(path: Path) -> None:
    """Raises ValueError for a file that is neither `.mp4` nor `.gif`."""
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"a video is written as .mp4 or .gif, got {path.name}")


def write_video(clips: Sequence[Clip], path: Path, frames_per_s: int = 12) -> None:
    """Write the strip as `.mp4` or `.gif`, whichever the path says. Raises ValueError for another ending."""
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    strip = side_by_side(clips)
    partial = path.with_name(f".partial-{path.name}")
    if path.suffix == ".gif":
        imageio.imwrite(partial, strip, duration=1000 // frames_per_s, loop=0)
    else:
        even = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in strip]
        imageio.imwrite(partial, np.stack(even), fps=frames_per_s, macro_block_size=2)
    partial.replace(path)
