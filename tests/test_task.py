"""Tasks, layouts, and that no task stands in two splits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import PROBE, make_task

from wtl.core.task import FamilySpec, ObservationLayout, Task, TaskDistribution


def test_a_layout_names_each_number_once() -> None:
    ObservationLayout(size=5, dimensions=2, points=(0, 2), scalars=(4,))
    for points, scalars in (((0,), (4,)), ((0, 1), (3, 4)), ((0, 2), (5,)), ((0, 2), (4, 4))):
        with pytest.raises(ValueError, match="must name each of its 5 numbers once, got"):
            ObservationLayout(size=5, dimensions=2, points=points, scalars=scalars)


@given(st.permutations(range(4)), st.integers(1, 3))
def test_positions_and_numbers_may_stand_in_any_order(order: list[int], dimensions: int) -> None:
    starts, position, scalars = [], 0, []
    for kind in order:
        if kind < 2:
            starts.append(position)
        else:
            scalars.append(position)
        position += dimensions if kind < 2 else 1
    ObservationLayout(position, dimensions, tuple(starts), tuple(scalars))


FIRST = next(iter(PROBE.values()))
FAMILY = {"alpha": FIRST}


def test_a_distribution_gives_its_splits() -> None:
    a, b, c = (make_task(f"alpha/{i}", split=s) for i, s in enumerate(("train", "validation", "test")))
    distribution = TaskDistribution(FAMILY, (a,), (b,), (c,))
    assert [distribution.split(name) for name in ("train", "validation", "test")] == [(a,), (b,), (c,)]
    assert distribution.spec.name == FIRST.spec.name


@pytest.mark.parametrize(
    "first, second", [("train", "test"), ("train", "validation"), ("validation", "test"), ("train",) * 2]
)
def test_a_task_stands_in_one_split_only(first: str, second: str) -> None:
    one = make_task("alpha/0", split=first)
    twin = type(one)(one.family, second, "alpha/again", one.parameters, "other goal")  # type: ignore[arg-type]
    splits: dict[str, tuple] = {"train": (), "validation": (), "test": ()}
    splits[first] += (one,)
    splits[second] += (twin,)
    message = "alpha/0 and alpha/again are the same; splits must be disjoint"
    with pytest.raises(ValueError, match=message):
        TaskDistribution(FAMILY, **splits)


def test_a_task_of_a_family_that_is_not_there() -> None:
    message = re.escape("task beta/0 is of family beta, which is not in the distribution")
    with pytest.raises(ValueError, match=message):
        TaskDistribution(FAMILY, (make_task("beta/0", "beta"),), (), ())


# Families of one distribution.

SPEC = FamilySpec("alpha", ObservationLayout(3, 2, (0,), (2,)), 2, 10, 2, True, 1.0)


@dataclass(frozen=True)
class SpecOnly:
    """A family of which nothing but its spec is asked."""

    spec: FamilySpec


def distribution_of(*specs: FamilySpec, **settings: Any) -> TaskDistribution:
    families: Any = {spec.name: SpecOnly(spec) for spec in specs}
    return TaskDistribution(families, (), (), (), **settings)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"layout": ObservationLayout(2, 2, (0,))}, "share their layout: alpha has ObservationLayout"),
        ({"action_size": 3}, "share their action_size: alpha has 2, beta has 3"),
        ({"goal_size": 3}, "share their goal_size: alpha has 2, beta has 3"),
        ({"reward_scale": 10.0}, "share their reward_scale: alpha has 1.0, beta has 10.0"),
    ],
)
def test_families_of_different_sizes_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        distribution_of(SPEC, replace(SPEC, name="beta", **change))


def test_families_may_differ_in_everything_else() -> None:
    other = replace(SPEC, name="beta", horizon_steps=20, hidden_goal=False, weight=4, gripper_index=1)
    assert list(distribution_of(SPEC, other).families) == ["alpha", "beta"]


def test_hidden_goals_weigh_more_where_that_is_asked_for() -> None:
    specs = SPEC, replace(SPEC, name="beta", hidden_goal=False, weight=4)
    assert distribution_of(*specs).weights == {"alpha": 1, "beta": 4}
    assert distribution_of(*specs, hidden_goal_weight=3).weights == {"alpha": 3, "beta": 4}


def test_the_gripper_is_named_where_there_is_one() -> None:
    from tasks.metaworld.family import LAYOUT, MetaWorldFamily
    from tasks.procedural.family import ProceduralFamily

    assert FIRST.spec.gripper_index is None
    assert MetaWorldFamily("reach-v3").spec.gripper_index == 3
    assert ProceduralFamily("procedural-0001", LAYOUT).spec.gripper_index == 3


@pytest.mark.parametrize("kind", [np.float32, np.float64, int])
def test_parameters_of_any_kind_of_number_become_plain_ones(kind: Any) -> None:
    task = Task("alpha", "train", "a", tuple(kind(x) for x in (1, 2)), "a")
    assert task == Task("alpha", "train", "a", (1.0, 2.0), "a")
    assert [type(x) for x in task.parameters] == [float, float]
    assert Task("alpha", "train", "a", np.array([1, 2], kind), "a") == task  # type: ignore[arg-type]
