"""The registry: a benchmark's name -> the distribution of its tasks. A new family is a line here.

`wtl tasks` lists what is registered; the README shows how to add a family of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks import splits
from wtl.core.task import TaskDistribution


def _probe(
    *, seed: int, goals_per_family: int, validation_goals_per_family: int, test_goals_per_family: int, **_: object
) -> TaskDistribution:
    from tasks import probe

    return probe.distribution(
        seed=seed,
        goals_per_family=goals_per_family,
        validation_goals_per_family=validation_goals_per_family,
        test_goals_per_family=test_goals_per_family,
    )


def _metaworld(train: Sequence[str], test: Sequence[str]) -> Callable[..., TaskDistribution]:
    def build(**settings: object) -> TaskDistribution:
        from tasks import metaworld

        return metaworld.benchmark(train, test, **settings)  # type: ignore[arg-type]

    return build


def make_distribution(
    benchmark: str, *, family: str = "", train: Sequence[str] = (), test: Sequence[str] = (), **settings: object
) -> TaskDistribution:
    """The train, validation and test tasks of a benchmark.

    `family` is ML1's; `train` and `test` are the families of a custom split; the settings are those of
    `tasks.metaworld.benchmark`.

    Raises:
        ValueError: an unknown benchmark or family, or a custom split without families.
    """
    if benchmark == "custom" and not (train and test):
        raise ValueError("tasks.benchmark=custom needs families: tasks.train=[...] and tasks.test=[...]")
    builders: dict[str, Callable[..., TaskDistribution]] = {
        "probe": _probe,
        "ML1": _metaworld([family], [family]),
        "custom": _metaworld(train, test),
        **{name: _metaworld(*pair) for name, pair in splits.BENCHMARKS.items()},
    }
    if benchmark not in builders:
        raise ValueError(f"unknown benchmark {benchmark!r}, known are {', '.join(builders)}")
    unknown = [n for n in (family, *train, *test) if n and n not in splits.ALL_FAMILIES]
    if benchmark in ("ML1", "custom") and unknown:
        raise ValueError(f"unknown Meta-World family {unknown[0]!r}; `wtl tasks` lists all of them")
    return builders[benchmark](**settings)
