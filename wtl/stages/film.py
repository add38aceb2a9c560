"""An entry of an evaluation, played once more and filmed: the demonstration and every attempt.

It plays through the one environment loop; the camera is the loop's observer. Meta-World replays exactly, so what is
seen is what was evaluated. The simulator's camera needs EGL or OSMesa; without them a sketch is drawn. Trap: a
demonstration of somebody else's need not replay at all, and then its record is sketched.
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
from wtl.stages.units import Progress

EVERY_STEPS = 3
"""Steps between two frames at least."""
MOST_FRAMES = 60
"""Frames of one episode at most, beside its last one; long episodes are shown faster."""


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
    """Takes pictures of one environment, as an observer of the environment loop.

    How long the episode is, nobody knows before, and a picture costs more than a step: whenever there are too many,
    every other one is dropped and pictures are taken half as often from then on.
    """

    def __init__(self) -> None:
        self._every_steps, self._step = EVERY_STEPS, 0
        self._environment: gymnasium.Env[Any, Any] | None = None
        self.frames: dict[int, np.ndarray] = {}

    def __call__(self, row: int, step: int, environment: gymnasium.Env[Any, Any]) -> None:
        self._step, self._environment = step, environment
        if step % self._every_steps == 0:
            self._take()
        if len(self.frames) > MOST_FRAMES:
            self._every_steps *= 2
            self.frames = {step: frame for step, frame in self.frames.items() if step % self._every_steps == 0}

    def finish(self) -> dict[int, np.ndarray]:
        """Return the frames by step, with one of how the episode ended."""
        if self._step not in self.frames:
            self._take()
        return self.frames

    def _take(self) -> None:
        assert self._environment is not None
        image = Image.fromarray(np.asarray(self._environment.render()))
        if image.size != (FRAME_PIXELS, FRAME_PIXELS):
            image = image.resize((FRAME_PIXELS, FRAME_PIXELS), Image.Resampling.BILINEAR)
        self.frames[self._step] = np.asarray(image)


def _sketched(family: TaskFamily, episode: Episode) -> dict[int, np.ndarray]:
    """Return a sketch of every step of which the camera would have taken a picture."""
    length, every_steps = len(episode.trajectory), EVERY_STEPS
    while length // every_steps + 1 > MOST_FRAMES:
        every_steps *= 2
    steps = sorted({*range(0, length + 1, every_steps), length})
    return {step: draw_sketch(family.spec, episode, step) for step in steps}


def _silent(done: int, total: int, note: str = "") -> None:
    """See `Progress`."""


@dataclass(frozen=True)
class Film:
    """What is filmed, and how."""

    family: TaskFamily
    session: Session
    protocol: ProtocolConfig
    style: Style = "auto"
    """The simulator's camera, a sketch, or the camera if it works here."""

    def record(self, player: Player, attempts: int, progress: Progress = _silent) -> list[Clip]:
        """Return a clip of the demonstration, if there is one, and of attempts 0 .. `attempts`.

        Raises:
            ValueError: style `camera` on a machine without EGL and OSMesa.
        """
        shown, contexts = self.session.demonstrations[:1], [self.session.context]
        clips: list[Clip] = []
        stage = None if self.style == "sketch" else open_camera(self.family, required=self.style == "camera")
        try:
            for demonstration in shown:
                clips.append(self._demonstration(stage, demonstration))
                progress(1, len(shown) + attempts + 1, "demonstration")
            for number in range(attempts + 1):
                seed = seed_for(self.session.seed, "attempt", number, "")
                [session] = self.protocol.sessions(self.family, [self.session], number)
                environment = stage or worker_pool().take(self.family, 1)[0]
                attempt = Attempt(self.family, [environment], [session], contexts, [seed], number)
                frames, episode = self._play(stage, attempt, player, self.protocol.rollout())
                clips.append(_clip(f"attempt {number}", episode, frames))
                contexts = extended(contexts, [episode])
                progress(len(shown) + number + 1, len(shown) + attempts + 1, f"attempt {number}")
        finally:
            if stage is not None:
                stage.close()
        return clips

    def _demonstration(self, stage: gymnasium.Env[Any, Any] | None, episode: Episode) -> Clip:
        same = episode.task.goal_name == self.session.task.goal_name
        title = "demonstration, same goal" if same else "demonstration of ANOTHER goal"
        # Somebody's own demonstration is drawn as it was recorded: her actions need not fit our simulator.
        replays = stage is not None and episode.source == Expert.source and episode.task.parameters
        frames = self._replayed(stage, episode) if stage is not None and replays else None
        return _clip(title, episode, frames or _sketched(self.family, episode))

    def _replayed(self, stage: gymnasium.Env[Any, Any], episode: Episode) -> dict[int, np.ndarray] | None:
        """Return the frames of an episode, or None where its actions here do not lead where they led."""
        session = Session(episode.task, Context(), (), episode.seed)
        attempt = Attempt(self.family, [stage], [session], [Context()], [episode.seed], 0)
        settings = RolloutSettings(len(episode.trajectory), None)
        try:
            frames, again = self._play(stage, attempt, Replay(episode), settings)
        except ValueError:  # the task is not one of this family's
            return None
        paths = again.trajectory.observations, episode.trajectory.observations
        return frames if paths[0].shape == paths[1].shape and np.allclose(*paths, atol=1e-3) else None

    def _play(
        self, stage: gymnasium.Env[Any, Any] | None, attempt: Attempt, player: Player, settings: RolloutSettings
    ) -> tuple[dict[int, np.ndarray], Episode]:
        camera = _Camera()
        [episode] = play(attempt, player, settings, camera if stage is not None else None)
        return camera.finish() if stage is not None else _sketched(self.family, episode), episode


def _clip(title: str, episode: Episode, frames: dict[int, np.ndarray]) -> Clip:
    so_far = np.concatenate([[0.0], episode.trajectory.rewards.cumsum(dtype=np.float64)])
    captions = tuple(f"step {step}, reward so far {so_far[step]:.1f}" for step in frames)
    return Clip(title, episode.task.name, episode.trajectory.success, tuple(frames.values()), captions)


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
