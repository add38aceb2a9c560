"""Collecting: the content is a function of the settings, whoever does the work and however often it is cut."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import PROBE, make_episode, make_task, same_episode

from tasks import make_distribution
from tasks.metaworld.family import MetaWorldFamily
from wtl.compute.executor import Executor, LocalExecutor, SerialExecutor
from wtl.core.task import TaskDistribution
from wtl.data.store import EpisodeStore, close_store, write_shard
from wtl.stages import demonstrations as collect
from wtl.stages.demonstrations import (
    DemonstrationsConfig,
    DemonstrationShelf,
    collect_demonstrations,
    demonstrate,
)

SMALL = make_distribution("toy", seed=1, goals_per_family=3, validation_goals_per_family=1, test_goals_per_family=2)
FIRST = next(iter(PROBE))
CONFIG = DemonstrationsConfig(noise=0.5, spare_last=False, after_success_steps=2, unit_episodes=2)


def silent(*_: int) -> None:
    """No progress bar."""


def demos(directory: Path, executor: Executor | None = None, regime: Any = "family", **changes: Any) -> EpisodeStore:
    arguments = {"config": CONFIG, "seed": 0, "progress": silent} | changes
    collect_demonstrations(
        SMALL, regime=regime, directory=directory, executor=executor or SerialExecutor(), **arguments
    )
    return EpisodeStore(directory)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# Demonstrations.


def test_every_task_of_every_split_is_demonstrated_once(tmp_path: Path) -> None:
    store = demos(tmp_path)
    wanted = [task for split in ("train", "validation", "test") for task in SMALL.split(split)]  # type: ignore[arg-type]
    assert sorted(r.task.name for r in store.records) == sorted(t.name for t in wanted)
    assert all(r.success and r.role == "demonstration" and r.source == "expert" for r in store.records)
    assert len({r.seed for r in store.records}) == len(store)


def test_the_content_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    executor = LocalExecutor(2)
    demos(tmp_path / "serial")
    demos(tmp_path / "two", executor)
    executor.close()
    assert content(tmp_path / "serial") == content(tmp_path / "two")


def test_a_worker_that_is_killed_leaves_no_trace_in_the_data(tmp_path: Path) -> None:
    """kill -9 in the middle of a collection: its unit is done again, and the store is the one of an undisturbed run."""
    config, killed = replace(CONFIG, unit_episodes=1), []

    def kill_one(done: int, _: int) -> None:
        if done == 2 and not killed:
            killed.append(multiprocessing.active_children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    undisturbed = demos(tmp_path / "undisturbed", config=config)
    executor = LocalExecutor(2)
    try:
        disturbed = demos(tmp_path / "disturbed", executor, config=config, progress=kill_one)
    finally:
        executor.close()
    assert killed and disturbed.digest == undisturbed.digest
    # The digest is of the manifest, which holds that of every shard; here the shards are read themselves.
    for one, other in zip(disturbed, undisturbed, strict=True):
        assert same_episode(one, other)


def test_short_episodes_are_not_favoured(tmp_path: Path) -> None:
    """Whoever succeeds first ends first, yet each task is there once, as it is when it is played alone."""
    config = replace(CONFIG, noise=1.0, after_success_steps=0, unit_episodes=6)
    together, alone = (
        demos(tmp_path / "6", config=config),
        demos(tmp_path / "1", config=replace(config, unit_episodes=1)),
    )
    assert len({record.steps for record in together.records}) > 3
    for one, other in zip(together, alone, strict=True):
        assert same_episode(one, other)


def test_another_seed_gives_other_episodes_of_the_same_tasks(tmp_path: Path) -> None:
    one, other = demos(tmp_path / "0"), demos(tmp_path / "1", seed=1)
    assert [r.task for r in one.records] == [r.task for r in other.records]
    assert not set(r.seed for r in one.records) & set(r.seed for r in other.records)


@pytest.mark.parametrize(
    "lost", [["shard-00001.safetensors"], ["store.json"], ["shard-00000.safetensors", "store.json"]]
)
def test_what_is_lost_is_made_again_and_the_same(tmp_path: Path, lost: list[str]) -> None:
    demos(tmp_path)
    before = content(tmp_path)
    for name in lost:
        (tmp_path / name).unlink()
    progress: list[tuple[int, int]] = []
    demos(tmp_path, progress=lambda done, total: progress.append((done, total)))
    assert content(tmp_path) == before
    total = len(before) - 1
    again = sum(name.startswith("shard") for name in lost)
    assert progress == [(total - again + i, total) for i in range(again + 1)]


def test_failures_of_the_expert_are_done_again_with_less_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    family = SMALL.families[FIRST]
    scales: list[float] = []
    played: list[list[str]] = []
    roll_out = collect.roll_out

    def watched(family: Any, environments: Any, tasks: Any, seeds: Any, actor: Any, **rest: Any) -> Any:
        scales.append(actor.noise.scale)
        played.append([task.name for task in tasks])
        return roll_out(family, environments, tasks, seeds, actor, **rest)

    monkeypatch.setattr(collect, "roll_out", watched)
    config = replace(CONFIG, noise=25.0, retries=4)  # a drunkard
    tasks = family.sample_tasks(12, 3, "train")
    episodes = demonstrate(family, tasks, config, 0)
    assert [e.task for e in episodes] == list(tasks) and all(e.trajectory.success for e in episodes)
    assert scales == [25.0, 18.75, 12.5, 6.25, 0.0][: len(scales)] and len(scales) > 1
    assert all(set(later) < set(earlier) for earlier, later in zip(played, played[1:], strict=False))


def test_a_task_that_the_expert_never_solves_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    family = SMALL.families[FIRST]
    expert = type(family).expert_action
    tasks = family.sample_tasks(3, 3, "train")
    candidates = np.array(tasks[1].parameters[2:-1])

    def lost(self: Any, environment: Any) -> np.ndarray:
        there = np.array_equal(environment.candidates.ravel(), candidates)
        return np.zeros(2) if there else expert(self, environment)

    monkeypatch.setattr(type(family), "expert_action", lost)
    assert [e.task for e in demonstrate(family, tasks, CONFIG, 0)] == [tasks[0], tasks[2]]


def test_an_expert_that_solves_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(SMALL.families[FIRST]), "expert_action", lambda *_: np.zeros(2))
    with pytest.raises(ValueError, match=f"the expert of {FIRST} solved none of 2 tasks; nothing to show"):
        demos(tmp_path)
    assert not (tmp_path / "store.json").exists()


def test_regime_goal_demonstrates_a_twin_of_every_task(tmp_path: Path) -> None:
    store = demos(tmp_path, regime="goal")
    names = {r.task.name for r in store.records}
    assert len(names) == 2 * 6 * len(PROBE)
    assert all(name.endswith("/other-start") or f"{name}/other-start" in names for name in names)


def test_regime_goal_needs_a_second_start(tmp_path: Path) -> None:
    family = MetaWorldFamily("plate-slide-v3")
    tasks = family.sample_tasks(2, 0, "validation")
    slide = TaskDistribution({family.name: family}, (), tasks, ())
    with pytest.raises(ValueError, match="plate-slide-v3 has a single start, so regime `goal` does not exist for it"):
        collect_demonstrations(slide, CONFIG, "goal", 0, tmp_path / "x", SerialExecutor(), silent)
    assert not (tmp_path / "x").exists()


# The shelf.


def test_the_shelf_never_gives_a_demonstration_of_the_task_itself(tmp_path: Path) -> None:
    for regime in ("family", "goal"):
        shelf = DemonstrationShelf(demos(tmp_path / regime, regime=regime), regime)  # type: ignore[arg-type]
        for task in (*SMALL.train, *SMALL.test):
            for episode in shelf.choose(task, 5, 0):
                assert episode is not None and episode.task.parameters != task.parameters
                assert (episode.task.family, episode.task.split) == (task.family, task.split)
                if regime == "goal":
                    assert episode.task.goal_name == task.goal_name


def test_the_shelf_gives_different_ones_and_the_same_for_a_seed(tmp_path: Path) -> None:
    shelf = DemonstrationShelf(demos(tmp_path), "family")
    [task] = [t for t in SMALL.train if t.name == f"{FIRST}/train/0"]

    def names(count: int, seed: int) -> list[str]:
        return [episode.task.name for episode in shelf.choose(task, count, seed) if episode]

    assert len(set(names(5, 0))) == 2  # as many as there are: three tasks, one of them this one
    assert names(2, 0) == names(2, 0) and len({names(1, seed)[0] for seed in range(20)}) == 2


def test_an_empty_shelf(tmp_path: Path) -> None:
    task = make_task("alpha/0")
    write_shard(tmp_path, 0, [make_episode(task)])
    close_store(tmp_path, 1)
    shelf = DemonstrationShelf(EpisodeStore(tmp_path), "family")
    with pytest.raises(ValueError, match="no demonstration for task alpha/0 in regime `family`"):
        shelf.choose(task, 1, 0)
    assert DemonstrationShelf(EpisodeStore(tmp_path), "none").choose(task, 2, 0) == [None, None]
