"""Demonstrations of one's own: whose task they are of, and one sentence for whatever is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tiny
from rich.console import Console
from strategies import same_episode

from tasks import make_distribution
from tasks.metaworld.family import MetaWorldFamily
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.core.episode import Episode, Trajectory
from wtl.core.task import Split, Task, TaskDistribution
from wtl.data.demonstrations import DemonstrationSampler
from wtl.data.formats.spec import SPLITS
from wtl.data.store import EpisodeStore, write_store
from wtl.stages.adoption import Adopted, adopt_demonstrations
from wtl.stages.demonstrations import DemonstrationsConfig, demonstrate

SMALL = make_distribution("toy", seed=1, goals_per_family=3, validation_goals_per_family=2, test_goals_per_family=2)
EVERY = [task for split in SPLITS for task in SMALL.split(split)]  # type: ignore[arg-type]
MADE = [
    episode
    for name, family in SMALL.families.items()
    for episode in demonstrate(family, [t for t in EVERY if t.family == name], DemonstrationsConfig(), 0)
]


def adopt(tmp_path: Path, episodes: list[Episode], splits: Any = SPLITS, distribution: Any = SMALL) -> Adopted:
    write_store(tmp_path / "own", episodes)
    return adopt_demonstrations(distribution, tmp_path / "own", "family", splits)


def of_task(**changes: Any) -> Callable[[Episode], Episode]:
    return lambda episode: replace(episode, task=replace(episode.task, **changes))


def with_parameters(change: Callable[[np.ndarray], Any]) -> Callable[[Episode], Episode]:
    def changed(episode: Episode) -> Episode:
        return replace(episode, task=replace(episode.task, parameters=change(np.array(episode.task.parameters))))

    return changed


# Whose task it is.


def test_what_a_run_made_is_taken_as_it_is(tmp_path: Path) -> None:
    taken = adopt(tmp_path, MADE)
    assert taken.failed == 0 and all(same_episode(a, b) for a, b in zip(taken.episodes, MADE, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        with_parameters(lambda p: ()),
        with_parameters(lambda p: p.astype(np.float32)),
        with_parameters(lambda p: tuple(np.float32(x) for x in p)),
        with_parameters(lambda p: tuple(np.float64(x) for x in p)),
        lambda e: with_parameters(lambda p: p.astype(np.float32))(of_task(name=f"mine/{e.task.name}")(e)),
    ],
    ids=["none", "float32", "float32-scalars", "float64-scalars", "float32-renamed"],
)
def test_the_very_task_is_never_shown_as_its_own_demonstration(
    tmp_path: Path, change: Callable[[Episode], Episode]
) -> None:
    """However its parameters were kept, and whatever it is called."""
    taken = adopt(tmp_path, [change(episode) for episode in MADE])
    assert [e.task.parameters for e in taken.episodes] == [e.task.parameters for e in MADE]
    sampler = DemonstrationSampler([e.task for e in taken.episodes], "family")
    for task in EVERY:
        shown = [taken.episodes[i].task.parameters for i in sampler.candidates(task)]
        assert shown and task.parameters not in shown


def test_a_task_of_an_unknown_name_and_parameters_is_shown_for_every_task_of_its_family(tmp_path: Path) -> None:
    unknown = [of_task(name=f"{e.task.family}/own/{i}", parameters=())(e) for i, e in enumerate(MADE)]
    taken = adopt(tmp_path, unknown)
    sampler = DemonstrationSampler([e.task for e in taken.episodes], "family")
    assert len(sampler.candidates(SMALL.test[0])) == 2


def test_a_goal_that_is_missing_is_asked_of_the_environment_where_the_task_is_known(tmp_path: Path) -> None:
    bare = [replace(episode, goal=np.zeros(0)) for episode in MADE]
    unknown = of_task(name="mine", parameters=())(bare[0])
    taken = adopt(tmp_path, [*bare, unknown]).episodes
    for one, other in zip(taken[:-1], MADE, strict=True):
        np.testing.assert_array_equal(one.goal, other.goal)
    assert np.isnan(taken[-1].goal).all() and taken[-1].goal.shape == (2,)


def test_seeds_that_were_rounded_beyond_recognition_are_refused(tmp_path: Path) -> None:
    """Seeds of a gymnasium family have ten digits, single precision has seven."""
    first = MADE[0]
    seeds = [2.0**30 + 1, 2.0**30 + 4]
    tasks = [replace(first.task, name=f"t{i}", parameters=(seed,)) for i, seed in enumerate(seeds)]
    distribution = TaskDistribution({first.task.family: SMALL.families[first.task.family]}, tuple(tasks), (), ())
    rounded = replace(first, task=replace(tasks[0], name="mine", parameters=np.float32(seeds[:1])))
    with pytest.raises(ValueError, match="were rounded to single precision and fit 2 tasks, such as t0; give them in"):
        adopt(tmp_path, [rounded], (), distribution)
    write_store(tmp_path / "named", [replace(rounded, task=replace(rounded.task, name="t1")), first])
    named = [replace(rounded, task=replace(rounded.task, name="t1"))]
    write_store(tmp_path / "own2", named)
    [known] = adopt_demonstrations(distribution, tmp_path / "own2", "family", ()).episodes
    assert known.task.parameters == (seeds[1],)  # its name says which


# Mistakes.


def changed(name: str, index: Any, value: float) -> Callable[[Episode], Episode]:
    def of(episode: Episode) -> Episode:
        array = getattr(episode.trajectory, name).copy()
        array[index] = value
        return replace(episode, trajectory=replace(episode.trajectory, **{name: array}))

    return of


@pytest.mark.parametrize(
    "change, sentence",
    [
        (changed("observations", (2, 1), np.nan), "observations hold a number that is not finite at step 2"),
        (changed("rewards", 1, np.inf), "rewards hold a number that is not finite at step 1"),
        (changed("actions", (3, 0), np.nan), "actions hold a number that is not finite at step 3"),
        (changed("actions", (3, 0), -1.25), r"actions must lie in \[-1, 1\], got -1.25 at step 3; rescale them"),
        (lambda e: replace(e, goal=np.zeros(3)), "has a goal of 3 numbers, expected 2"),
        (with_parameters(lambda p: p[:3]), "has 3 parameters, and tasks of probe-red have 11; leave them out if"),
    ],
)
def test_what_is_wrong_with_an_episode_is_one_sentence(tmp_path: Path, change: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"^episode 1 of .*own \(task probe-red/train/1\):? {sentence}"):
        adopt(tmp_path, [MADE[0], change(MADE[1]), *MADE[2:]])


def failing(episode: Episode) -> Episode:
    return replace(episode, trajectory=replace(episode.trajectory, successes=episode.trajectory.successes & False))


def test_failures_are_left_out_and_failures_alone_are_refused(tmp_path: Path) -> None:
    taken = adopt(tmp_path, [*MADE, failing(MADE[0])])
    assert taken.failed == 1 and len(taken.episodes) == len(MADE)
    red = [e for e in MADE if e.task.family == "probe-red"]
    with pytest.raises(ValueError, match=f"none of the {len(red)} demonstrations of probe-red in .* succeeds; nothing"):
        adopt(tmp_path, [failing(e) if e in red else e for e in MADE])


@pytest.mark.parametrize(
    "kept, sentence",
    [
        (lambda t: t.family == "probe-red", r"nothing for 7 of 14 tasks, the first probe-blue/train/0: .* missing are"
         r" probe-blue \(train\), probe-blue \(validation\), probe-blue \(test\); bring some, or narrow"),
        (lambda t: t.split != "test", r"nothing for 4 of 14 tasks, the first probe-red/test/0: in regime `family`"),
        (lambda t: t.name != "probe-red/test/1", "nothing for 1 of 14 tasks, the first probe-red/test/0"),
    ],
)  # fmt: skip
def test_every_task_must_have_something_to_be_shown(tmp_path: Path, kept: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        adopt(tmp_path, [episode for episode in MADE if kept(episode.task)])


def test_the_splits_that_are_asked_for_are_enough(tmp_path: Path) -> None:
    taken = adopt(tmp_path, [episode for episode in MADE if episode.task.split == "test"], ("test",))
    assert len(taken.episodes) == 4


@pytest.mark.timeout(30)
def test_foreign_parameters_of_meta_world_are_refused_and_do_not_hang(tmp_path: Path) -> None:
    family = MetaWorldFamily("push-v3")
    tasks = family.sample_tasks(2, 0, "validation")
    distribution = TaskDistribution({"push-v3": family}, (), tasks, ())
    steps = 3
    trajectory = Trajectory(np.zeros((steps + 1, 18)), np.zeros((steps, 4)), np.zeros(steps), np.ones(steps))
    split: Split = "validation"

    def demonstration(parameters: tuple[float, ...]) -> Episode:
        task = Task("push-v3", split, "push-v3/own/0", parameters, "g")
        return Episode(trajectory, task, "demonstration", 0, 0, "me", np.zeros(3), trajectory.actions)

    too_near = (0.0, 0.7, 0.02, 0.0, 0.8, 0.015)
    for parameters, sentence in (
        (too_near, "is of no task that its family has: push-v3 has no task with the parameters"),
        ((0.0, 0.7, 0.02, 5.0, 0.8, 0.015), "is of no task that its family has: parameter 3 of task push-v3/own/0"),
        ((0.0, 0.7), "has 2 parameters, and tasks of push-v3 have 6"),
    ):
        with pytest.raises(ValueError, match=sentence):
            adopt(tmp_path, [demonstration(parameters)], ("validation",), distribution)
    far = demonstration((0.0, 0.6, 0.02, 0.0, 0.85, 0.015))
    assert adopt(tmp_path, [far], ("validation",), distribution).episodes[0].task == far.task


# In a run.


def pipeline(tmp_path: Path) -> Pipeline:
    config = load_config("toy", tiny(tmp_path / "run", f"demonstrations.own={tmp_path / 'own'}"))
    return Pipeline(config, Console(quiet=True))


def all_of(tmp_path: Path) -> list[Episode]:
    distribution = pipeline(tmp_path).plan.distribution
    every = [task for split in SPLITS for task in distribution.split(split)]  # type: ignore[arg-type]
    return [
        episode
        for name, family in distribution.families.items()
        for episode in demonstrate(family, [t for t in every if t.family == name], DemonstrationsConfig(), 0)
    ]


def test_a_mistake_is_found_before_anything_is_written_and_other_content_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="demonstrations.own: .*own is no finished episode store; `wtl import`"):
        pipeline(tmp_path).run(only="demonstrations")
    made = all_of(tmp_path)
    write_store(tmp_path / "own", made[1:3])
    with pytest.raises(ValueError, match="shows nothing for"):
        pipeline(tmp_path).run(only="demonstrations")
    assert not (tmp_path / "run").exists()  # so the corrected data are welcome
    write_store(tmp_path / "own", made)
    pipeline(tmp_path).run(only="demonstrations")
    assert len(EpisodeStore(tmp_path / "run/demonstrations")) == len(made)
    pipeline(tmp_path).run(only="demonstrations")  # complete
    write_store(tmp_path / "own", [*made, made[0]])
    with pytest.raises(ValueError, match=r"was made with other settings \(content_of_own was '\w+' and is '\w+'\)"):
        pipeline(tmp_path).run(only="demonstrations")
    (tmp_path / "own").rename(tmp_path / "away")
    pipeline(tmp_path).run(only="demonstrations")  # what was adopted is the run's own by now
