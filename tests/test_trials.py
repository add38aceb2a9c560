"""Collecting trials: who plays, on which tasks, how long, and that the content is a function of the settings."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from players import Directions, make_directions
from strategies import TOY, same_episode

from wtl.compute.executor import LocalExecutor, SerialExecutor
from wtl.core.task import TaskDistribution
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.store import EpisodeStore
from wtl.methods.transfer.config import TransferConfig
from wtl.methods.transfer.controller import TransferPolicy
from wtl.methods.transfer.misled import make_misled
from wtl.play.noise import Expert
from wtl.play.policy import Attempt, FromContext, Policy, StepBatch
from wtl.play.protocol import ProtocolConfig
from wtl.stages.demonstrations import DemonstrationsConfig, DemonstrationStage
from wtl.stages.trials import TrialsConfig, TrialStage
from wtl.tasks import make_distribution

SMALL = make_distribution("toy", seed=1, goals_per_family=8, validation_goals_per_family=2, test_goals_per_family=1)
CONFIG = TrialsConfig(later_round_tasks=8, attempts=1, horizons_steps=(5, 7), unit_episodes=4)
PROTOCOL = ProtocolConfig("repeated", horizon_steps=24, after_success_steps=2)
WHOLE = ProtocolConfig("repeated", horizon_steps=24, after_success_steps=None)


def silent(*_: Any) -> None:
    """No progress bar."""


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> DemonstrationStore:
    directory = tmp_path_factory.mktemp("demonstrations")
    config = DemonstrationsConfig(splits=("train", "validation"), unit_episodes=50)
    DemonstrationStage(SMALL, config, "family", 0).collect(directory, SerialExecutor(), silent)
    return DemonstrationStore(directory, "family")


def trials(
    shown: DemonstrationStore,
    directory: Path,
    round_number: int = 0,
    executor: Any = None,
    *,
    config: TrialsConfig = CONFIG,
    protocol: ProtocolConfig = PROTOCOL,
    make_player: Any = make_directions,
    distribution: TaskDistribution = SMALL,
    labelled: bool = True,
) -> EpisodeStore:
    stage = TrialStage(distribution, config, protocol, shown, 0, round_number, round_number > 0, labelled)
    stage.collect(make_player, directory, executor or SerialExecutor(), silent)
    return EpisodeStore(directory)


def test_round_zero_plays_attempt_zero_on_every_training_and_validation_task(
    shown: DemonstrationStore, tmp_path: Path
) -> None:
    store = trials(shown, tmp_path)
    assert sorted(r.task.name for r in store.records) == sorted(t.name for t in (*SMALL.train, *SMALL.validation))
    assert {r.attempt for r in store.records} == {0} and {r.role for r in store.records} == {"trial"}
    assert {r.source for r in store.records} == {"directions"}
    for episode in store:
        assert np.isfinite(episode.expert_actions).all()
    assert all(np.isnan(e.expert_actions).all() for e in trials(shown, tmp_path / "bare", labelled=False))


def test_each_session_shows_a_demonstration_of_another_task(shown: DemonstrationStore, tmp_path: Path) -> None:
    attempts: list[Attempt] = []

    class Watching(FromContext):
        def policy(self, attempt: Attempt) -> Policy:
            attempts.append(attempt)
            return super().policy(attempt)

    trials(shown, tmp_path, 1, make_player=lambda spec: Watching(Directions()))
    for attempt in attempts:
        for session, context in zip(attempt.sessions, attempt.contexts, strict=True):
            [demonstration] = session.demonstrations
            assert demonstration.task.parameters != session.task.parameters
            assert context.demonstrations == session.context.demonstrations == (demonstration.trajectory,)
            assert len(context.trials) == attempt.number
    assert {attempt.number for attempt in attempts} == {0, 1}


def test_later_rounds_play_attempts_in_a_row_on_other_tasks(shown: DemonstrationStore, tmp_path: Path) -> None:
    names = {}
    for number in (1, 2):
        store = trials(shown, tmp_path / str(number), number)
        played = {(r.task.name, r.attempt) for r in store.records}
        assert {name for name, _ in played} == {name for name, attempt in played if attempt == 1}
        names[number] = {name for name, _ in played if "/train/" in name}
        families = [name.split("/")[0] for name in names[number]]
        assert len(names[number]) == 8
        assert {families.count(f) for f in TOY} == {8 // len(TOY)}  # each family its share
    assert not names[1] & names[2]


# How long.


def test_a_horizon_comes_from_the_sessions_seed_and_not_from_how_work_is_cut(
    shown: DemonstrationStore, tmp_path: Path
) -> None:
    config = replace(CONFIG, per_task=2)
    stores = [trials(shown, tmp_path / str(size), config=replace(config, unit_episodes=size)) for size in (1, 3, 50)]
    assert len({len(list(store.directory.glob("shard-*"))) for store in stores}) == 3
    for one, *others in zip(*stores, strict=True):
        assert all(same_episode(one, other) for other in others)
    by_task: dict[str, list[int]] = {}
    for record in stores[0].records:
        if not record.success:
            by_task.setdefault(record.task.name, []).append(record.steps)
    assert {steps for found in by_task.values() for steps in found} == {5, 7}  # all of them are met
    assert any(len(set(found)) == 2 for found in by_task.values())  # each session draws its own


def test_trials_end_as_the_protocol_says(shown: DemonstrationStore, tmp_path: Path) -> None:
    config = replace(CONFIG, horizons_steps=(24,), per_task=6)
    for after in (0, 3, None):
        protocol = ProtocolConfig("repeated", horizon_steps=24, after_success_steps=after)
        won = [e.trajectory for e in trials(shown, tmp_path / str(after), config=config, protocol=protocol)
               if e.trajectory.success]  # fmt: skip
        assert won
        for t in won:
            first = int(t.successes.argmax())
            assert len(t) == (24 if after is None else min(24, first + 1 + after))


class Remembering:
    """A player and its policy that stands still and keeps what it sees."""

    source = "remembering"

    def __init__(self) -> None:
        self.steps: list[StepBatch] = []

    def policy(self, attempt: Attempt) -> Policy:
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        self.steps.append(step)
        return np.zeros((len(step.rows), 2))


def test_feedback_is_that_of_the_protocol(shown: DemonstrationStore, tmp_path: Path) -> None:
    for feedback in ("end", "step"):
        player = Remembering()
        protocol = replace(PROTOCOL, feedback=feedback)  # type: ignore[arg-type]
        trials(shown, tmp_path / feedback, make_player=lambda spec, player=player: player, protocol=protocol)
        unknown = [np.isnan(step.previous_rewards).all() for step in player.steps if step.number]
        assert all(unknown) if feedback == "end" else not any(unknown)


# Whoever does the work, and however often it is cut.


def test_trials_do_not_depend_on_the_workers(shown: DemonstrationStore, tmp_path: Path) -> None:
    trials(shown, tmp_path / "serial", 1)
    executor = LocalExecutor(2)
    trials(shown, tmp_path / "two", 1, executor)
    executor.close()
    assert content(tmp_path / "serial") == content(tmp_path / "two")


def test_trials_that_were_lost_are_the_same_again(shown: DemonstrationStore, tmp_path: Path) -> None:
    trials(shown, tmp_path, 1)
    before = content(tmp_path)
    (tmp_path / "shard-00002.safetensors").unlink()
    trials(shown, tmp_path, 1)
    assert content(tmp_path) == before


# A player that sees the task: the door is open to it in collection.


def test_a_player_that_is_misled_goes_to_the_goals_of_other_tasks(shown: DemonstrationStore, tmp_path: Path) -> None:
    config = replace(CONFIG, horizons_steps=(24,), per_task=2)
    config_of_method = TransferConfig()
    track = functools.partial(TransferPolicy, config_of_method.controller)
    player = make_misled(config_of_method, track, SMALL, shown.episodes)
    store = trials(
        shown, tmp_path, config=config, protocol=WHOLE, make_player=lambda spec: player,
        labelled=False,
    )  # fmt: skip
    tasks = (*SMALL.train, *SMALL.validation)
    assert len(store) == 2 * len(tasks)
    goals = {e.task.name: e.goal for e in shown.episodes}
    to_others, to_own, missed = [], [], []
    for episode in store:
        assert episode.source == "misled transfer" and episode.attempt == 0 and episode.role == "trial"
        assert np.isnan(episode.expert_actions).all()
        np.testing.assert_array_equal(episode.goal, goals[episode.task.name])
        path = episode.trajectory.observations[:, :2]
        others = [g for name, g in goals.items() if name.startswith(episode.task.family)]
        others = [g for g in others if not np.array_equal(g, episode.goal)]
        to_others.append(min(np.linalg.norm(path - other, axis=1).min() for other in others))
        to_own.append(np.linalg.norm(path - episode.goal, axis=1).min())
        missed.append(not episode.trajectory.success)
    assert np.median(to_others) < 0.25 < np.median(to_own) and np.mean(missed) > 0.9


def test_each_trial_may_begin_from_a_start_of_its_own(shown: DemonstrationStore, tmp_path: Path) -> None:
    """Where starts are redrawn; the hidden goal stays, and so does the name of the task."""
    stores = {}
    for starts in ("redrawn", "repeated"):
        stage = TrialStage(
            SMALL, replace(CONFIG, per_task=2), ProtocolConfig(starts=starts), shown, 1, labelled=False,
            other_starts=True,
        )  # fmt: skip
        stage.collect(lambda spec: Expert(), tmp_path / starts, SerialExecutor(), silent)
        stores[starts] = list(EpisodeStore(tmp_path / starts))
    own = {task.name: task for task in (*SMALL.train, *SMALL.validation)}
    for starts, episodes in stores.items():
        begun = [(e.task.name, tuple(e.trajectory.observations[0, :2].tolist())) for e in episodes]
        assert {name for name, _ in begun} == set(own)
        assert len(set(begun)) == len(own) * (2 if starts == "redrawn" else 1)
        at_home = [np.allclose(start, own[name].parameters[:2], atol=1e-6) for name, start in begun]
        assert all(at_home) == (starts == "repeated") and any(at_home) == (starts == "repeated")
