"""Collecting trials: who plays which round, on which tasks, and that the content is a function of the settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ProbeRun
from strategies import PROBE

from wtl.compute.executor import LocalExecutor, SerialExecutor
from wtl.data.store import EpisodeStore
from wtl.methods.transfer.controller import FollowerConfig
from wtl.play.attempts import ExplorationConfig
from wtl.stages.trials import Operator, TrialsConfig, _Goals, collect_trials


def silent(*_: int) -> None:
    """No progress bar."""


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def operator(probe_run: ProbeRun) -> Operator:
    return probe_run.plan.operator(2)


TRIALS = TrialsConfig(later_round_tasks=8, attempts=1, horizons_steps=(5, 7), after_success_steps=2, unit_episodes=4)


def trials(
    probe_run: ProbeRun,
    operator: Operator | FollowerConfig,
    directory: Path,
    round_number: int,
    executor: Any = None,
    config: Any = TRIALS,
    labelled: bool = True,
) -> EpisodeStore:
    plan = probe_run.plan
    collect_trials(
        plan.distribution, config, ExplorationConfig(0.0, spare_last=False), "family",
        EpisodeStore(plan.demos.directory), operator, round_number, 0, directory, executor or SerialExecutor(), silent,
        labelled=labelled,
    )  # fmt: skip
    return EpisodeStore(directory)


def test_round_zero_plays_the_trial_policy_on_every_training_and_validation_task(
    probe_run: ProbeRun, operator: Operator, tmp_path: Path
) -> None:
    store = trials(probe_run, operator, tmp_path, 0)
    tasks = probe_run.plan.distribution
    assert sorted(r.task.name for r in store.records) == sorted(t.name for t in (*tasks.train, *tasks.validation))
    assert {r.attempt for r in store.records} == {0} and {r.role for r in store.records} == {"trial"}
    assert all(r.source.startswith("trial ") for r in store.records)
    assert {r.steps for r in store.records if not r.success} == {5, 7}  # the horizons in turns
    for episode in store:
        assert np.isfinite(episode.expert_actions).all()


def test_a_follower_led_astray_goes_to_the_goals_of_other_tasks(probe_run: ProbeRun, tmp_path: Path) -> None:
    config = replace(TRIALS, horizons_steps=(24,), after_success_steps=None, per_task=2)
    store = trials(probe_run, FollowerConfig(), tmp_path, 0, config=config, labelled=False)
    plan = probe_run.plan
    tasks = (*plan.distribution.train, *plan.distribution.validation)
    assert len(store) == 2 * len(tasks)
    goals = {e.task.name: e.goal for e in EpisodeStore(plan.demos.directory)}
    to_others, to_own, missed = [], [], []
    for episode in store:
        assert episode.source == "follower led astray" and episode.attempt == 0 and episode.role == "trial"
        assert np.isnan(episode.expert_actions).all()
        np.testing.assert_array_equal(episode.goal, goals[episode.task.name])
        path = episode.trajectory.observations[:, :2]
        others = [g for name, g in goals.items() if name.startswith(episode.task.family) and "/test/" not in name]
        others = [g for g in others if not np.array_equal(g, episode.goal)]
        to_others.append(min(np.linalg.norm(path - other, axis=1).min() for other in others))
        to_own.append(np.linalg.norm(path - episode.goal, axis=1).min())
        missed.append(not episode.trajectory.success)
    assert np.median(to_others) < 0.25 < np.median(to_own) and np.mean(missed) > 0.9


def test_later_rounds_play_attempts_in_a_row_on_other_tasks(
    probe_run: ProbeRun, operator: Operator, tmp_path: Path
) -> None:
    names = {}
    for number in (1, 2):
        store = trials(probe_run, operator, tmp_path / str(number), number)
        played = {(r.task.name, r.attempt): r.source for r in store.records}
        for (_, attempt), source in played.items():
            assert source.startswith("retrial " if attempt else "trial ")
        assert {name for name, _ in played} == {name for name, attempt in played if attempt == 1}
        names[number] = {name for name, _ in played if "/train/" in name}
        families = [name.split("/")[0] for name in names[number]]
        assert len(names[number]) == 8 and {families.count(f) for f in PROBE} == {
            8 // len(PROBE)
        }  # each family its share
    assert not names[1] & names[2]


@pytest.mark.slow  # each worker imports torch
def test_trials_do_not_depend_on_the_workers(probe_run: ProbeRun, operator: Operator, tmp_path: Path) -> None:
    trials(probe_run, operator, tmp_path / "serial", 1)
    executor = LocalExecutor(2)
    trials(probe_run, operator, tmp_path / "two", 1, executor)
    executor.close()
    assert content(tmp_path / "serial") == content(tmp_path / "two")


def test_trials_that_were_lost_are_the_same_again(probe_run: ProbeRun, operator: Operator, tmp_path: Path) -> None:
    trials(probe_run, operator, tmp_path, 1)
    before = content(tmp_path)
    (tmp_path / "shard-00002.safetensors").unlink()
    trials(probe_run, operator, tmp_path, 1)
    assert content(tmp_path) == before


def test_a_follower_is_not_led_astray_to_a_tasks_own_goal(probe_run: ProbeRun) -> None:
    store = EpisodeStore(probe_run.plan.demos.directory)
    goals = _Goals(store, near=0.3)
    shown, *others = [e for e in store if e.task.split == "train"]
    missed = []
    for episode in others:
        led_to = goals.elsewhere(episode.task, shown, seed=3, count=50) + shown.goal
        missed.append(np.linalg.norm(led_to - episode.goal, axis=1).min())
    assert min(missed) > 0.3
    everywhere = _Goals(store, near=100.0)  # where all goals are near, one of them must do
    assert everywhere.elsewhere(others[0].task, shown, seed=3).shape == (16, 2)
