"""Procedurally generated families: solvable by their experts, the same each time, unlike one another, not evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from wtl.core.rng import stream
from wtl.core.task import Task
from wtl.tasks import make_distribution
from wtl.tasks.metaworld.family import LAYOUT
from wtl.tasks.procedural.environment import ProceduralEnvironment
from wtl.tasks.procedural.family import ProceduralFamily, families
from wtl.tasks.procedural.parameters import parameters_of

FAMILIES = families(60, LAYOUT)
GOLDEN = [
    -0.011070925935044152, 0.0, 0.0, 0.05166498584750455, 0.04462435688554647, 0.7484290833672007, 0.02,
    0.11074823302673864, 0.46343512047447094, 0.02,
]  # fmt: skip


def play(family: ProceduralFamily, task: Task, noise: float = 0.0) -> ProceduralEnvironment:
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


def test_experts_solve_their_families_also_with_noise() -> None:
    tasks = [(family, task) for family in FAMILIES.values() for task in family.sample_tasks(2, 5, "train")]
    assert np.mean([play(*pair).solved for pair in tasks]) > 0.95
    assert np.mean([play(*pair, noise=0.3).solved for pair in tasks]) > 0.8


def test_every_kind_is_among_them_and_no_two_are_alike() -> None:
    drawn = [parameters_of(name) for name in FAMILIES]
    assert {p.kind for p in drawn} == {"carry", "push", "slide", "reach"}
    assert {p.goal for p in drawn} == {"hidden", "fixed", "beside", "second"}
    assert len({tuple(p.touch) + tuple(p.approach) for p in drawn}) == len(drawn)


def test_a_task_replays_exactly() -> None:
    family = FAMILIES[next(iter(FAMILIES))]
    task = family.sample_tasks(1, 3, "train")[0]
    assert family.sample_tasks(1, 3, "train")[0] == task != family.sample_tasks(1, 4, "train")[0]
    first, again = (play(family, task) for _ in range(2))
    for name in ("hand", "object", "opening", "slid", "steps"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_families_are_those_of_earlier_runs() -> None:
    """The streams are seeded with the names of then, so the same families come out as with earlier versions."""
    assert list(FAMILIES)[:5] == [f"procedural-{number:04d}" for number in (1, 2, 3, 4, 5)]
    first = parameters_of("procedural-0001")
    assert (first.kind, first.goal) == ("carry", "second")
    [task] = FAMILIES["procedural-0001"].sample_tasks(1, 5, "train")
    np.testing.assert_allclose([*first.touch, first.radius, *task.parameters], GOLDEN, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["carry", "push", "slide"])
def test_nothing_moves_before_it_is_touched(kind: str) -> None:
    family = next(f for name, f in FAMILIES.items() if parameters_of(name).kind == kind)
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
    made = make_distribution(
        "custom", train=["reach-v3", "push-v3"], test=["door-lock-v3"], seed=1, goals_per_family=2,
        validation_goals_per_family=2, test_goals_per_family=2, procedural_families=6, tasks_per_procedural_family=3,
    )  # fmt: skip
    drawn = [task for task in made.train if task.family.startswith("procedural-")]
    assert len(drawn) == 18 and len({task.family for task in drawn}) == 6
    assert not any(task.family.startswith("procedural-") for task in (*made.validation, *made.test))
    weights = {name: family.spec.weight for name, family in made.families.items()}
    assert weights["reach-v3"] == 3 and {w for name, w in weights.items() if name.startswith("procedural-")} == {1}
    assert made.spec.layout == LAYOUT == made.families[drawn[0].family].spec.layout


def test_a_task_of_another_family_is_refused() -> None:
    first, second, *_ = FAMILIES.values()
    with pytest.raises(ValueError, match=f"a task of {first.name}"):
        first.make_environment().reset(options={"task": second.sample_tasks(1, 0, "train")[0]})
