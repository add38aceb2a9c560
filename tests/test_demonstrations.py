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
from strategies import TOY, make_episode, make_task, same_episode

from tasks import make_distribution
from tasks.metaworld.family import MetaWorldFamily
from wtl.compute.executor import Executor, LocalExecutor, SerialExecutor
from wtl.core.episode import Episode
from wtl.core.task import Regime, Task, TaskDistribution
from wtl.data.demonstrations import DemonstrationSampler, DemonstrationStore, first_context
from wtl.data.store import EpisodeStore, close_store, write_shard
from wtl.stages import demonstrations as stage
from wtl.stages.demonstrations import DemonstrationsConfig, DemonstrationStage, demonstrate

SMALL = make_distribution("toy", seed=1, goals_per_family=3, validation_goals_per_family=1, test_goals_per_family=2)
FIRST = next(iter(TOY))
CONFIG = DemonstrationsConfig(noise=0.5, after_success_steps=2, unit_episodes=2)


def silent(*_: Any) -> None:
    """No progress bar."""


def demos(
    directory: Path,
    executor: Executor | None = None,
    regime: Regime = "family",
    *,
    config: DemonstrationsConfig = CONFIG,
    seed: int = 0,
    progress: Any = silent,
    distribution: TaskDistribution = SMALL,
) -> EpisodeStore:
    DemonstrationStage(distribution, config, regime, seed).collect(directory, executor or SerialExecutor(), progress)
    return EpisodeStore(directory)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# Demonstrations.


def test_every_task_of_every_split_is_demonstrated_once(tmp_path: Path) -> None:
    store = demos(tmp_path)
    wanted = [task for split in ("train", "validation", "test") for task in SMALL.split(split)]  # type: ignore[arg-type]
    assert sorted(r.task.name for r in store.records) == sorted(t.name for t in wanted)
    assert all(r.success and r.role == "demonstration" and r.source == "demonstrator" for r in store.records)
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

    def kill_one(done: int, *_: Any) -> None:
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
    play = stage.play

    def watched(attempt: Any, player: Any, settings: Any) -> list[Episode]:
        scales.append(player.noise.scale)
        played.append([session.task.name for session in attempt.sessions])
        return play(attempt, player, settings)

    monkeypatch.setattr(stage, "play", watched)
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
    assert len(names) == 2 * 6 * len(TOY)
    assert all(name.endswith("/other-start") or f"{name}/other-start" in names for name in names)


def test_regime_goal_needs_a_second_start(tmp_path: Path) -> None:
    family = MetaWorldFamily("plate-slide-v3")
    tasks = family.sample_tasks(2, 0, "validation")
    slide = TaskDistribution({family.name: family}, (), tasks, ())
    with pytest.raises(ValueError, match="plate-slide-v3 has a single start, so regime `goal` does not exist for it"):
        demos(tmp_path / "x", regime="goal", distribution=slide)
    assert not (tmp_path / "x").exists()


def test_several_demonstrations_of_a_task_differ(tmp_path: Path) -> None:
    store = demos(tmp_path, config=replace(CONFIG, per_task=2))
    assert len(store) == 2 * len({r.task.name for r in store.records})
    assert len({r.seed for r in store.records}) == len(store)
    assert len({e.trajectory.actions.tobytes() for e in store}) == len(store)


# Demonstrations of one's own.


def test_own_demonstrations_are_taken_as_they_are(tmp_path: Path) -> None:
    made = demos(tmp_path / "own")
    # A single validation task has no other one whose demonstration could be shown.
    config = replace(CONFIG, own=str(tmp_path / "own"), splits=("train", "test"))
    taken = demos(tmp_path / "taken", config=config)
    assert len(taken) == len(made) and all(same_episode(a, b) for a, b in zip(taken, made, strict=True))


@pytest.mark.parametrize(
    "episode, sentence",
    [
        (make_episode(make_task("a", FIRST), "trial"), f"episode 0 of .* is a trial of {FIRST}; not usable here"),
        (make_episode(make_task("a", "chess")), "episode 0 of .* is a demonstration of chess; not usable here"),
        (
            make_episode(make_task("a", FIRST)),
            "episode 0 of .* has 7 observation and 2 action numbers, expected 10 and",
        ),
    ],
)
def test_own_demonstrations_that_do_not_fit_are_refused(tmp_path: Path, episode: Episode, sentence: str) -> None:
    write_shard(tmp_path / "own", 0, [episode])
    close_store(tmp_path / "own", 1)
    with pytest.raises(ValueError, match=sentence):
        demos(tmp_path / "taken", config=replace(CONFIG, own=str(tmp_path / "own")))
    assert not (tmp_path / "taken").exists()


# Which demonstration may be shown.


def test_a_demonstration_is_never_of_the_task_itself(tmp_path: Path) -> None:
    regimes: tuple[Regime, ...] = ("family", "goal")
    for regime in regimes:
        demos(tmp_path / regime, regime=regime)
        store = DemonstrationStore(tmp_path / regime, regime)
        for task in (*SMALL.train, *SMALL.test):
            found = store.choose(task, 5, 0)
            assert found
            for episode in found:
                assert episode.task.parameters != task.parameters
                assert (episode.task.family, episode.task.split) == (task.family, task.split)
                if regime == "goal":
                    assert episode.task.goal_name == task.goal_name


A, B = make_task("alpha/0"), make_task("alpha/1")
A_AGAIN = replace(A, name="alpha/0/again")
B_TWIN = make_task("alpha/1/other", goal_name=B.goal_name)
OTHERS = (
    make_task("alpha/2", split="test"),
    make_task("beta/0", "beta"),
    make_task("beta/1", "beta", goal_name=A.goal_name),
)


def shown_for(task: Task, regime: Regime) -> list[Task]:
    tasks = [A, A_AGAIN, B, B_TWIN, *OTHERS]
    return [tasks[i] for i in DemonstrationSampler(tasks, regime).candidates(task)]


def test_the_same_task_under_another_name_is_not_shown() -> None:
    """A task is its parameters: replaying them would solve it, whatever it is called."""
    assert shown_for(A, "family") == shown_for(A_AGAIN, "family") == [B, B_TWIN]
    assert shown_for(B, "family") == [A, A_AGAIN, B_TWIN]
    sampler = DemonstrationSampler([A, A_AGAIN, B], "family")
    assert {i for seed in range(20) for i in sampler.choose(A, 1, seed)} == {2}


def test_regime_goal_shows_the_same_goal_of_the_same_family_and_split() -> None:
    assert shown_for(B, "goal") == [B_TWIN] and shown_for(B_TWIN, "goal") == [B]
    with pytest.raises(ValueError, match="no demonstration of another task for alpha/0 in regime `goal`"):
        shown_for(A, "goal")  # itself under another name, and a goal of that name in another family


def test_regime_none_shows_nothing() -> None:
    assert shown_for(A, "none") == []
    assert DemonstrationSampler([], "none").choose(A, 3, 0) == []


def test_different_ones_are_chosen_and_the_same_for_a_seed(tmp_path: Path) -> None:
    demos(tmp_path)
    store = DemonstrationStore(tmp_path, "family")
    [task] = [t for t in SMALL.train if t.name == f"{FIRST}/train/0"]

    def names(count: int, seed: int) -> list[str]:
        return [episode.task.name for episode in store.choose(task, count, seed)]

    assert len(set(names(5, 0))) == 2  # as many as there are: three tasks, one of them this one
    assert names(2, 0) == names(2, 0) and len({names(1, seed)[0] for seed in range(20)}) == 2


def test_a_store_without_another_task_has_nothing_to_show(tmp_path: Path) -> None:
    task = make_task("alpha/0")
    copy = replace(task, name="alpha/copy")
    write_shard(tmp_path, 0, [make_episode(task), make_episode(copy)])
    close_store(tmp_path, 1)
    with pytest.raises(ValueError, match="no demonstration of another task for alpha/0 in regime `family`"):
        DemonstrationStore(tmp_path, "family").choose(task, 1, 0)
    assert DemonstrationStore(tmp_path, "none").choose(task, 2, 0) == ()


def test_the_first_context_holds_what_is_shown_and_nothing_else() -> None:
    two = (make_episode(A), make_episode(B, seed=1))
    context = first_context(two)
    assert context.demonstrations == tuple(e.trajectory for e in two) and context.trials == ()
    assert first_context(()).demonstration is None
