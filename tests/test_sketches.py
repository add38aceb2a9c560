"""Sketches: solvable by their experts, the same each time, unlike one another, and never evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from tasks import sketches
from tasks.metaworld import LAYOUT, benchmark
from wtl.core.rng import stream
from wtl.core.task import Task

FAMILIES = sketches.families(60, LAYOUT)


def play(family: sketches.SketchFamily, task: Task, noise: float = 0.0) -> sketches.SketchEnvironment:
    environment = family.make_environment()
    environment.reset(options={"task": task})
    generator = stream(0, "noise", task.name)
    for _ in range(200):
        action = family.expert_action(environment)
        assert action.shape == (4,) and np.abs(action).max() <= 1.0
        _, reward, _, _, info = environment.step(action + noise * np.append(generator.standard_normal(3), 0.0))
        assert 0.0 <= reward <= 10.0 and (reward == 10.0) == info["success"]
        if info["success"]:
            break
    return environment


def test_experts_solve_their_sketches_also_with_noise() -> None:
    tasks = [(family, task) for family in FAMILIES.values() for task in family.sample_tasks(2, 5, "train")]
    assert np.mean([play(*pair).solved for pair in tasks]) > 0.95
    assert np.mean([play(*pair, noise=0.3).solved for pair in tasks]) > 0.8


def test_every_kind_is_among_them_and_no_two_are_alike() -> None:
    plots = [sketches.plot_of(name) for name in FAMILIES]
    assert {plot.kind for plot in plots} == {"carry", "push", "slide", "reach"}
    assert {plot.goal for plot in plots} == {"hidden", "fixed", "beside", "second"}
    assert len({tuple(plot.touch) + tuple(plot.approach) for plot in plots}) == len(plots)


def test_a_sketch_replays_exactly() -> None:
    family = FAMILIES[next(iter(FAMILIES))]
    task = family.sample_tasks(1, 3, "train")[0]
    assert family.sample_tasks(1, 3, "train")[0] == task != family.sample_tasks(1, 4, "train")[0]
    first, again = (family.simulation_state(play(family, task)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", ["carry", "push", "slide"])
def test_nothing_moves_before_it_is_touched(kind: str) -> None:
    family = next(f for name, f in FAMILIES.items() if sketches.plot_of(name).kind == kind)
    environment = family.make_environment()
    observation, _ = environment.reset(options={"task": family.sample_tasks(1, 0, "train")[0]})
    for _ in range(30):  # up and away
        seen = environment.step(np.array([0.0, 0.0, 1.0, 1.0]))[0]
    np.testing.assert_array_equal(seen[4:7], observation[4:7])


def test_a_hidden_goal_is_not_in_sight() -> None:
    hidden = [f for f in FAMILIES.values() if f.spec.hidden_goal]
    assert len(hidden) > 5
    for family in hidden:
        start = family.sample_tasks(1, 0, "train")[0].parameters[:3]
        seen = []
        for goal in ((0.1, 0.5, 0.1), (-0.1, 0.7, 0.2)):
            environment = family.make_environment()
            task = Task(family.name, "train", "x", (*start, *goal), "x")
            seen.append(environment.reset(options={"task": task})[0])
        np.testing.assert_array_equal(*seen)


def test_they_train_and_are_never_tested() -> None:
    made = benchmark(
        ["reach-v3", "push-v3"], ["door-lock-v3"], seed=1, goals_per_family=2, validation_goals_per_family=2,
        test_goals_per_family=2, sketches=6, tasks_per_sketch=3,
    )  # fmt: skip
    drawn = [task for task in made.train if task.family.startswith("sketch")]
    assert len(drawn) == 18 and len({task.family for task in drawn}) == 6
    assert not any(task.family.startswith("sketch") for task in (*made.validation, *made.test))
    weights = {name: family.spec.weight for name, family in made.families.items()}
    assert weights["reach-v3"] == 3 and {w for name, w in weights.items() if name.startswith("sketch")} == {1}
    assert made.spec.layout == LAYOUT == made.families[drawn[0].family].spec.layout


def test_a_task_of_another_family_is_refused() -> None:
    first, second, *_ = FAMILIES.values()
    with pytest.raises(ValueError, match=f"a task of {first.name}"):
        first.make_environment().reset(options={"task": second.sample_tasks(1, 0, "train")[0]})
