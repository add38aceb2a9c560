"""Filming an entry: what is seen is what was evaluated, with a camera or without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from players import Directions, FixedPolicy
from strategies import TOY, same_trajectory

from tasks import make_distribution
from wtl.analysis.video import draw_sketch
from wtl.compute.executor import SerialExecutor
from wtl.core.episode import Episode
from wtl.data.demonstrations import DemonstrationStore, first_context
from wtl.play.attempts import extended, play_attempt
from wtl.play.policy import FromContext, Player, Session
from wtl.play.protocol import ProtocolConfig
from wtl.play.rollout import RolloutSettings
from wtl.stages.demonstrations import DemonstrationsConfig, DemonstrationStage, demonstrate
from wtl.stages.evaluate import EvaluationConfig, EvaluationStage
from wtl.stages.film import EVERY_STEPS, MOST_FRAMES, Film

FAMILY: Any = next(iter(TOY.values()))
TASK, OTHER = FAMILY.sample_tasks(2, 0, "test")
SHOWN = tuple(demonstrate(FAMILY, [OTHER], DemonstrationsConfig(noise=0.3, after_success_steps=0), 0))
SESSION = Session(TASK, first_context(SHOWN), SHOWN, 1)
PROTOCOL = ProtocolConfig("repeated", horizon_steps=24, after_success_steps=0)
DIRECTIONS: Player = FromContext(Directions())


def clips(family: Any = FAMILY, session: Session = SESSION, style: Any = "sketch", attempts: int = 1) -> Any:
    return Film(family, session, PROTOCOL, style).record(DIRECTIONS, attempts)


def sketches(episode: Episode) -> list[np.ndarray]:
    return [draw_sketch(FAMILY.spec, episode, t) for t in range(0, len(episode.trajectory) + 1, EVERY_STEPS)]


def test_a_clip_for_the_demonstration_and_for_each_attempt() -> None:
    made = clips()
    assert [clip.title for clip in made] == ["demonstration", "attempt 0", "attempt 1"]
    assert made[0].success and all(frame.shape == (240, 240, 3) for clip in made for frame in clip.frames)
    assert all(1 < len(clip.frames) <= 9 for clip in made)
    assert (made[1].frames[0] != made[1].frames[-1]).any()


def test_what_is_seen_is_what_is_evaluated() -> None:
    """The same seeds and contexts as `play_attempt` in an evaluation, so the same episodes."""
    contexts, settings = [SESSION.context], RolloutSettings(24, 0)
    made = clips()[1:]
    for number, clip in enumerate(made):
        [episode] = play_attempt(FAMILY, [SESSION], contexts, DIRECTIONS, number, settings)
        np.testing.assert_array_equal(clip.frames, sketches(episode))
        assert clip.success == episode.trajectory.success
        contexts = extended(contexts, [episode])


def test_of_several_demonstrations_of_a_task_the_one_in_the_context_is_seen(tmp_path: Path) -> None:
    """They share a name, so a look-up by name would show the first one."""
    tasks = make_distribution("toy", seed=1, goals_per_family=1, validation_goals_per_family=1, test_goals_per_family=3)
    config = DemonstrationsConfig(noise=1.0, splits=("test",), per_task=2)
    DemonstrationStage(tasks, config, "family", 0).collect(tmp_path, SerialExecutor(), lambda *_: None)
    store = DemonstrationStore(tmp_path, "family")
    stage = EvaluationStage(tasks, EvaluationConfig(), PROTOCOL, store, "family", train_seed=0, seed=0)
    first_of_its_name: dict[str, Episode] = {}
    for episode in store.episodes:
        first_of_its_name.setdefault(episode.task.name, episode)
    others = 0
    for session in stage.entries():
        [demonstration] = session.context.demonstrations
        family = tasks.families[session.task.family]
        [clip] = Film(family, session, PROTOCOL, "sketch").record(DIRECTIONS, attempts=-1)
        [shown] = [e for e in store.episodes if same_trajectory(e.trajectory, demonstration)]
        np.testing.assert_array_equal(clip.frames, sketches(shown))
        first = sketches(first_of_its_name[session.demonstration_name])
        others += len(first) != len(clip.frames) or not np.array_equal(clip.frames, first)
    assert others > 2


def test_without_a_demonstration_there_is_no_clip_of_it() -> None:
    assert [clip.title for clip in clips(session=Session(TASK, first_context(()), (), 1), attempts=0)] == ["attempt 0"]


def test_long_episodes_are_shown_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wtl.stages.film.MOST_FRAMES", 3)
    still = FixedPolicy(lambda rows: np.zeros((len(rows), 2)))
    [_, clip] = Film(FAMILY, SESSION, PROTOCOL, "sketch").record(still, 0)  # type: ignore[arg-type]
    assert MOST_FRAMES == 60 and len(clip.frames) == 3  # of nine


def test_the_camera_shows_what_the_environment_renders() -> None:
    seen = clips(style="camera")
    assert [len(clip.frames) for clip in seen] == [len(clip.frames) for clip in clips()]  # the same moments
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


def test_the_feedback_of_the_protocol_holds_in_a_film_too() -> None:
    still = FixedPolicy(lambda rows: np.zeros((len(rows), 2)))
    Film(FAMILY, SESSION, replace(PROTOCOL, feedback="step"), "sketch").record(still, 0)  # type: ignore[arg-type]
    assert [np.isfinite(step.previous_rewards).all() for step in still.steps] == [False] + [True] * 23


def test_a_demonstration_of_somebody_elses_is_drawn_from_its_record_and_never_played(tmp_path: Path) -> None:
    """Its task may be one that no environment can be reset to, and its actions need not fit."""

    class Recording(type(FAMILY)):  # type: ignore[misc]
        def make_environment(self, render: bool = False) -> Any:
            environment = super().make_environment(render)
            played.append(environment)
            return environment

    played: list[Any] = []
    [own] = SHOWN
    foreign = replace(own, source="me", task=replace(own.task, parameters=()))
    session = replace(SESSION, demonstrations=(foreign,))
    [clip] = clips(Recording(FAMILY.name), session, "camera", attempts=-1)
    np.testing.assert_array_equal(clip.frames, sketches(own))
    assert all(environment.candidates.sum() != 0 for environment in played)  # the camera's own trial, with our task
    [clip] = clips(session=replace(SESSION, demonstrations=(own,)), style="camera", attempts=-1)
    assert clip.frames[0].shape == sketches(own)[0].shape and (clip.frames[0] != sketches(own)[0]).any()
