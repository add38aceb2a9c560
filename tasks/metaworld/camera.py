"""This module takes pictures of a simulated arm, from near the table, with the goal marked.

It draws without shadows, reflections and smoothed edges: on a machine without a GPU they take ten times as long as
everything else. Trap: gymnasium's viewer and not `mujoco.Renderer`, which decides which OpenGL library to use when
mujoco is imported, long before anybody asks for a picture. Source: gymnasium 1.3, `mujoco_rendering.py`.
"""

from __future__ import annotations

import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer
from PIL import Image, ImageDraw

PIXELS = 240
"""Width and height of a picture."""
_LOOKAT, _DISTANCE, _AZIMUTH, _ELEVATION = (-0.02, 0.68, 0.16), 0.98, 135.0, -33.0
"""A corner of the table, from above; metres and degrees."""
_LEFT_OUT = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)
_GOAL_RADIUS, _RING_PIXELS, _GOAL_COLOUR = 0.02, 9, (0.0, 0.8, 0.35)


class TableCamera:
    """A camera that looks at one simulation."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        model.vis.quality.offsamples = 0
        self._viewer = OffScreenViewer(model, data, PIXELS, PIXELS)
        camera = self._viewer.cam
        camera.lookat[:] = _LOOKAT
        camera.distance, camera.azimuth, camera.elevation = _DISTANCE, _AZIMUTH, _ELEVATION
        for flag in _LEFT_OUT:
            self._viewer.scn.flags[flag] = 0

    def picture(self, goal: np.ndarray) -> np.ndarray:
        """Return the present state, (PIXELS, PIXELS, 3) uint8.

        A sphere is at the goal (3,), and a ring around it that nothing covers: goals lie inside objects too.
        """
        self._viewer.make_context_current()
        self._viewer.add_marker(pos=goal, size=np.full(3, _GOAL_RADIUS), rgba=np.array((*_GOAL_COLOUR, 0.6)))
        image = Image.fromarray(np.ascontiguousarray(self._viewer.render("rgb_array")))
        x, y = self._pixel(goal)
        box = [x - _RING_PIXELS, y - _RING_PIXELS, x + _RING_PIXELS, y + _RING_PIXELS]
        ImageDraw.Draw(image).ellipse(box, outline=tuple(int(255 * c) for c in _GOAL_COLOUR), width=2)
        return np.asarray(image)

    def _pixel(self, point: np.ndarray) -> tuple[float, float]:
        """Return where a point (3,) in metres is in the picture, column and row."""
        seen = self._viewer.scn.camera[0]
        forward, up = np.array(seen.forward), np.array(seen.up)
        # The free camera is the mean of two eyes, which differ in the position alone.
        away = point - (np.array(seen.pos) + np.array(self._viewer.scn.camera[1].pos)) / 2
        scale = PIXELS / 2 / np.tan(np.radians(self._viewer.model.vis.global_.fovy) / 2) / float(away @ forward)
        return PIXELS / 2 + scale * float(away @ np.cross(forward, up)), PIXELS / 2 - scale * float(away @ up)

    def close(self) -> None:
        """This frees the drawing context; its textures first, while they are still its own and not the next one's."""
        self._viewer.make_context_current()
        self._viewer.con.free()
        self._viewer.close()
