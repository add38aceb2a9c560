"""This module is the registry of task families: a benchmark's name leads to the distribution of its tasks.

A benchmark is built in, an entry point of an installed package in the group `wtl.tasks`, or a function that is named
`package.module:function`, so nobody has to fork to add one. Such a function is called with all settings of `tasks:`
but `benchmark` as keywords (`seed`, `goals_per_family`, ..., `options`) and returns a `TaskDistribution`. Trap:
benchmarks are imported when they are built and not before, because simulators are slow to import.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from wtl.core.task import TaskDistribution
from wtl.tasks.metaworld import splits

ENTRY_POINTS = "wtl.tasks"
"""The group of entry points in which an installed package registers its benchmarks."""

Builder = Callable[..., TaskDistribution]


def _toy(
    *, seed: int, goals_per_family: int, validation_goals_per_family: int, test_goals_per_family: int, **_: object
) -> TaskDistribution:
    from wtl.tasks import toy

    return toy.distribution(
        seed=seed,
        goals_per_family=goals_per_family,
        validation_goals_per_family=validation_goals_per_family,
        test_goals_per_family=test_goals_per_family,
    )


def _metaworld(train: Sequence[str], test: Sequence[str], settings: Mapping[str, Any]) -> TaskDistribution:
    for name in (*train, *test):
        if name not in splits.ALL_FAMILIES:
            raise ValueError(f"unknown Meta-World family {name!r}; `wtl tasks` lists all of them")
    from wtl.tasks.metaworld.benchmark import BenchmarkConfig, benchmark

    return benchmark(train, test, BenchmarkConfig(**settings))


def _ml1(*, family: str, train: Sequence[str] = (), test: Sequence[str] = (), **settings: Any) -> TaskDistribution:
    return _metaworld([family], [family], settings)


def _custom(*, train: Sequence[str] = (), test: Sequence[str] = (), family: str = "", **settings: Any) -> Any:
    if not (train and test):
        raise ValueError("tasks.benchmark=custom needs families: tasks.train=[...] and tasks.test=[...]")
    return _metaworld(train, test, settings)


def _split(name: str) -> Builder:
    def build(
        *, family: str = "", train: Sequence[str] = (), test: Sequence[str] = (), **settings: Any
    ) -> TaskDistribution:
        return _metaworld(*splits.BENCHMARKS[name], settings)

    return build


BUILT_IN: dict[str, Builder] = {
    "toy": _toy,
    "ML1": _ml1,
    "custom": _custom,
    **{name: _split(name) for name in splits.BENCHMARKS},
}
"""The benchmarks that come with the package. A new one is a line here."""


def make_distribution(
    benchmark: str, *, hidden_goal_weight: int = 1, options: Mapping[str, Any] | None = None, **settings: Any
) -> TaskDistribution:
    """Return the train, validation and test tasks of a benchmark.

    Args:
        benchmark: a built-in name, the name of an entry point in the group `wtl.tasks`, or `package.module:function`.
        hidden_goal_weight: see `TaskDistribution.hidden_goal_weight`; it works alike for every benchmark.
        options: settings of a benchmark of one's own, handed on as they are; the built-in ones have none.
        settings: the other fields of `wtl.app.config.TasksConfig`.

    Raises:
        ValueError: a benchmark that is not known, cannot be imported or returns something else, an unknown family, a
            custom split without families, or options for a built-in benchmark.
    """
    if benchmark in BUILT_IN:
        if options:
            raise ValueError(f"tasks.options is for benchmarks of your own; {benchmark} has none, got {dict(options)}")
        made = BUILT_IN[benchmark](**settings)
    else:
        builder, own = _external(benchmark), {**settings, "options": dict(options or {})}
        _check_call(builder, benchmark, own)
        made = builder(**own)
        if not isinstance(made, TaskDistribution):
            raise ValueError(f"tasks.benchmark={benchmark} must return a TaskDistribution, got {type(made).__name__}")
    return replace(made, hidden_goal_weight=hidden_goal_weight)


def known_benchmarks() -> tuple[str, ...]:
    """Return the names of all benchmarks that are built in or registered by an installed package."""
    registered = [point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    return tuple(dict.fromkeys([*BUILT_IN, *registered]))


def _external(benchmark: str) -> Builder:
    """Return the function of an entry point, or the one that `package.module:function` names."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=benchmark):
        benchmark = point.value
    module, _, function = benchmark.partition(":")
    if not (module and function):
        raise ValueError(
            f"unknown benchmark {benchmark!r}, known are {', '.join(known_benchmarks())}; "
            "one of your own is named package.module:function"
        )
    try:
        builder = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"tasks.benchmark={benchmark} cannot be imported: {error}") from error
    if not callable(builder):
        raise ValueError(f"tasks.benchmark={benchmark} must be a function, got {type(builder).__name__}")
    return builder


def _check_call(builder: Builder, benchmark: str, settings: Mapping[str, Any]) -> None:
    try:
        inspect.signature(builder).bind(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"tasks.benchmark={benchmark} must take as keywords {', '.join(settings)}: {error}") from error
