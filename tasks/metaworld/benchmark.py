"""This module builds Meta-World's benchmarks: the very tasks of ML1, ML10, ML25 and ML45, and custom splits.

What a benchmark lacks is added beside it: validation goals, more training goals, procedurally generated families.
Trap: ML1 draws its test goals with seed + 1, the other benchmarks with the seed itself. Source: metaworld 3.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wtl.core.task import Split, Task, TaskDistribution, TaskFamily
from wtl.tasks.metaworld.family import LAYOUT, MetaWorldFamily
from wtl.tasks.metaworld.sampling import OFFICIAL_GOALS, official_rand_vecs
from wtl.tasks.procedural.family import families as generate_families


@dataclass(frozen=True)
class BenchmarkConfig:
    """How many tasks there are of each family, and how they are stepped."""

    seed: int
    """Meta-World's own seed for the official tasks."""
    goals_per_family: int
    """Training tasks of a family; 50 is the benchmark, and the first 50 are Meta-World's own; 0 draws none."""
    validation_goals_per_family: int
    """New tasks of the training families."""
    test_goals_per_family: int
    """Test tasks of a family, at most 50."""
    goals_per_start: int = 1
    """See `MetaWorldFamily.goals_per_start`."""
    procedural_families: int = 0
    """Procedurally generated families beside Meta-World's in training (`tasks/procedural/`)."""
    tasks_per_procedural_family: int = 4
    """Training tasks of each of them."""
    fast: bool = True
    """See `MetaWorldFamily.fast`."""
    reward_version: Literal["v1", "v2"] = "v2"
    """Meta-World's reward functions."""

    def __post_init__(self) -> None:
        if self.test_goals_per_family > OFFICIAL_GOALS:
            raise ValueError(
                f"the benchmark has {OFFICIAL_GOALS} test goals a family, got {self.test_goals_per_family}"
            )


def benchmark(train: Sequence[str], test: Sequence[str], config: BenchmarkConfig) -> TaskDistribution:
    """Return the tasks that Meta-World's own ML1 (one family), ML10, ML25, ML45 or CustomML generate.

    Procedurally generated families are training families too, and Meta-World's together weigh as much as they do.

    Raises:
        ValueError: a family that Meta-World does not have.
    """
    # Rounded to whole families, because a weight is a number of families.
    weight = max(1, round(config.procedural_families / len(train)))
    names = dict.fromkeys([*train, *test])
    stepping = (config.fast, config.reward_version, config.goals_per_start)
    families = {name: MetaWorldFamily(name, *stepping, weight) for name in names}
    generated = generate_families(config.procedural_families, LAYOUT)
    is_ml1 = list(train) == list(test)

    def tasks(names: Sequence[str], count: int, split: Split, seed: int | None) -> tuple[Task, ...]:
        official = {} if seed is None or not count else official_rand_vecs(names, seed)
        found = [families[name].tasks_from(official.get(name, []), count, config.seed, split) for name in names]
        return tuple(task for of_family in found for task in of_family)

    generated_tasks = [
        task
        for family in generated.values()
        for task in family.sample_tasks(config.tasks_per_procedural_family, config.seed, "train")
    ]
    every: dict[str, TaskFamily] = {**families, **generated}
    return TaskDistribution(
        families=every,
        train=(*tasks(train, config.goals_per_family, "train", config.seed), *generated_tasks),
        validation=tasks(train, config.validation_goals_per_family, "validation", None),
        test=tasks(test, config.test_goals_per_family, "test", config.seed + is_ml1),
    )
