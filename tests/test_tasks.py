"""The registry of task families: built-in names, installed packages, and functions of one's own."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wtl.core.task import TaskDistribution
from wtl.tasks import make_distribution

GOALS = {"goals_per_family": 3, "validation_goals_per_family": 2, "test_goals_per_family": 2}
MODULE = """
from wtl.tasks import toy

asked = []

def build(*, seed, goals_per_family, validation_goals_per_family, test_goals_per_family, options, **others):
    asked.append((options, others))
    return toy.distribution(
        seed=seed, goals_per_family=goals_per_family * options.get("times", 1),
        validation_goals_per_family=validation_goals_per_family, test_goals_per_family=test_goals_per_family,
    )

def nothing(**settings):
    return 3
"""


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module outside of this repository, importable as `own_tasks`."""
    (tmp_path / "own_tasks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("own_tasks")
    del sys.modules["own_tasks"]


def make(benchmark: str, **settings: Any) -> TaskDistribution:
    return make_distribution(benchmark, seed=1, **GOALS, **settings)


def test_a_function_of_ones_own_gets_all_settings_and_its_options(own_tasks: Any) -> None:
    made = make("own_tasks:build", options={"times": 2}, family="reach-v3", fast=True, hidden_goal_weight=5)
    assert len(made.train) == 12 and made.train[:3] == make("toy").train[:3]
    assert own_tasks.asked == [({"times": 2}, {"family": "reach-v3", "fast": True})]
    assert made.hidden_goal_weight == 5 and set(made.weights.values()) == {5}


def test_an_installed_package_registers_a_name(own_tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("planar", "own_tasks:build", "wtl.tasks")
    known = importlib.metadata.EntryPoints([point])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: known.select(**wanted))
    assert make("planar").train == make("toy").train
    with pytest.raises(ValueError, match="known are toy, ML1, custom, ML10, ML25, ML45, planar; one of your own"):
        make("spherical")


def test_it_works_from_a_configuration(own_tasks: Any, tmp_path: Path) -> None:
    from wtl.app.config import load_config
    from wtl.app.plan import Plan

    overrides = ["tasks.benchmark=own_tasks:build", "tasks.options={times: 2}", "tasks.goals_per_family=3"]
    config = load_config("toy", [*overrides, f"directory={tmp_path / 'run'}"])
    assert config.tasks.options == {"times": 2}
    assert len(Plan(config).distribution.train) == 12


@pytest.mark.parametrize(
    "benchmark, sentence",
    [
        ("ML11", "unknown benchmark 'ML11', known are toy, ML1, custom, ML10, ML25, ML45; one of your own is named"),
        ("own_tasks:", "unknown benchmark 'own_tasks:', known are"),
        ("no_tasks:build", "tasks.benchmark=no_tasks:build cannot be imported: No module named 'no_tasks'"),
        ("own_tasks:make", "tasks.benchmark=own_tasks:make cannot be imported: module 'own_tasks' has no attribute"),
        ("own_tasks:nothing", "tasks.benchmark=own_tasks:nothing must return a TaskDistribution, got int"),
        ("own_tasks:asked", "tasks.benchmark=own_tasks:asked must be a function, got list"),
    ],
)
def test_a_mistake_is_one_sentence(own_tasks: Any, benchmark: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        make(benchmark)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_built_in_benchmarks_have_no_options() -> None:
    with pytest.raises(ValueError, match="tasks.options is for benchmarks of your own; toy has none, got {'times': 2}"):
        make("toy", options={"times": 2})
