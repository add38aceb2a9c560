"""An entry of an evaluation, played once more and filmed: the demonstration and every attempt.

It plays through the one environment loop; the camera is the loop's observer. Meta-World replays exactly, so what is
seen is what was evaluated. The simulator's camera needs EGL or OSMesa; without them a sketch is drawn.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from wtl.analysis.video import FRAME_PIXELS, Clip, Style, draw_sketch
from wtl.core.episode import Context, Episode
from wtl.core.rng import seed_for
from wtl.core.task import TaskFamily
from wtl.play.attempts import extended, worker_pool
from wtl.play.noise import Expert
from wtl.play.policy import Attempt, Player, Policy, Session, StepBatch
from wtl.play.protocol import ProtocolConfig
from wtl.play.rollout import RolloutSettings, play

EVERY_STEPS = 3
"""Steps between two frames at least."""
MOST_FRAMES = 60
"""Frames of one episode at most; long episodes are shown faster."""


@dataclass(frozen=True)
class Replay:
    """A `Player` and its `Policy`: the actions of an episode once more."""

    episode: Episode
    source: str = "replay"

    def policy(self, attempt: Attempt) -> Policy:
        """See `Player.policy`."""
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        return np.repeat(self.episode.trajectory.actions[step.number][None], len(step.rows), axis=0)


class _Camera:
    """Takes pictures of one environment, as an observer of the environment loop."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []

    def __call__(self, row: int, step: int, environment: gymnasium.Env[Any, Any]) -> None:
        if step % EVERY_STEPS == 0:
            image = Image.fromarray(np.asarray(environment.render()))
            self.frames.append(np.asarray(image.resize((FRAME_PIXELS, FRAME_PIXELS), Image.Resampling.BILINEAR)))


@dataclass(frozen=True)
class Film:
    """What is filmed, and how."""

    family: TaskFamily
    session: Session
    protocol: ProtocolConfig
    style: Style = "auto"
    """The simulator's camera, a sketch, or the camera if it works here."""

    def record(self, player: Player, attempts: int) -> list[Clip]:
        """Return a clip of the demonstration, if there is one, and of attempts 0 .. `attempts`.

        Raises:
            ValueError: style `camera` on a machine without EGL and OSMesa.
        """
        stage = None if self.style == "sketch" else open_camera(self.family, required=self.style == "camera")
        clips = [self._demonstration(stage, episode) for episode in self.session.demonstrations[:1]]
        contexts = [self.session.context]
        settings = self.protocol.rollout()
        for number in range(attempts + 1):
            seed = seed_for(self.session.seed, "attempt", number, "")
            [session] = self.protocol.sessions(self.family, [self.session], number)
            clip, episodes = self._play(stage, session, contexts, player, seed, number, settings)
            clips.append(clip)
            contexts = extended(contexts, episodes)
        if stage is not None:
            stage.close()
        return clips

    def _demonstration(self, stage: gymnasium.Env[Any, Any] | None, episode: Episode) -> Clip:
        if stage is None or episode.source != Expert.source or not episode.task.parameters:
            # Somebody's own demonstration is drawn as it was recorded; her actions need not fit our simulator.
            return Clip("demonstration", episode.trajectory.success, self._sketches(episode))
        session = Session(episode.task, Context(), (), episode.seed)
        settings = RolloutSettings(len(episode.trajectory), None)
        clip, _ = self._play(stage, session, [Context()], Replay(episode), episode.seed, 0, settings)
        return Clip("demonstration", episode.trajectory.success, clip.frames)

    def _play(
        self,
        stage: gymnasium.Env[Any, Any] | None,
        session: Session,
        contexts: list[Context],
        player: Player,
        seed: int,
        number: int,
        settings: RolloutSettings,
    ) -> tuple[Clip, list[Episode]]:
        environments = [stage] if stage is not None else worker_pool().take(self.family, 1)
        camera = _Camera()
        attempt = Attempt(self.family, environments, [session], contexts, [seed], number)
        episodes = play(attempt, player, settings, camera if stage is not None else None)
        trajectory = episodes[0].trajectory
        frames = self._sketches(episodes[0]) if stage is None else _thinned(camera.frames)
        return Clip(f"attempt {number}", trajectory.success, frames), episodes

    def _sketches(self, episode: Episode) -> tuple[np.ndarray, ...]:
        steps = range(0, len(episode.trajectory) + 1, EVERY_STEPS)
        return _thinned([draw_sketch(self.family.spec, episode, step) for step in steps])


def _thinned(frames: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return at most `MOST_FRAMES` of them, evenly."""
    return tuple(frames[:: max(1, -(-len(frames) // MOST_FRAMES))])


def open_camera(family: TaskFamily, required: bool) -> gymnasium.Env[Any, Any] | None:
    """Return an environment that can render, or None where this machine cannot.

    Raises:
        ValueError: it cannot, and a camera is required.
    """
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        environment = family.make_environment(render=True)
        environment.reset(options={"task": family.sample_tasks(1, 0, "validation")[0]})
        environment.render()
    except Exception as error:  # which one it is depends on the driver: ImportError, OSError, mujoco.FatalError ...
        if required:
            raise ValueError(f"no camera on this machine ({error}); install libegl1, or use --style sketch") from error
        return None
    return environment
