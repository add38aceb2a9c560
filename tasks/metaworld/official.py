"""This module runs Meta-World's own meta-learning evaluation, with environments that do not inflate its numbers.

It is the protocol of published meta-RL results: 10 adaptation episodes, then 3 evaluation episodes, of
each sampled task. Trap: with several environments of one name it keeps the first episodes to *finish*,
and successes finish first (a true .50 reads .83), so there is exactly one environment a family here.
The vector ids of `gymnasium.make_vec` are avoided: `ML1-train` serves the test goals. Goals are hidden.
Source: metaworld 3.1.1, `evaluation.py` and `make_ml_envs_test`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gymnasium
import metaworld
import metaworld.evaluation

from wtl.play.official import OfficialAgent
from wtl.tasks.metaworld.splits import ALL_FAMILIES, BENCHMARKS


@dataclass(frozen=True)
class OfficialResult:
    """Return what Meta-World's evaluator reports."""

    success: float
    """Mean over families, tasks and evaluation episodes."""
    episode_return: float
    """Mean; evaluation episodes end at their first success, so a good agent's are short."""
    success_by_family: Mapping[str, float]


def official_environments(
    families: Sequence[str], seed: int, *, fast: bool = True, reward_version: str = "v2"
) -> gymnasium.vector.SyncVectorEnv:
    """Return what steps the test tasks of a benchmark, one environment a family.

    `families` is one family (ML1), or the test families of ML10, ML25 or ML45 in their order.

    Raises:
        ValueError: the families are no benchmark's.
    """
    if len(families) == 1 and families[0] in ALL_FAMILIES:
        name = families[0]
    else:
        names = [benchmark for benchmark, (_, test) in BENCHMARKS.items() if list(test) == list(families)]
        if not names:
            raise ValueError(
                f"expected one family or the test families of {', '.join(BENCHMARKS)}, got {list(families)}"
            )
        name = names[0]
    environments = metaworld.make_ml_envs_test(
        name, seed=seed, meta_batch_size=len(families), reward_function_version=reward_version
    )
    assert isinstance(environments, gymnasium.vector.SyncVectorEnv)
    if fast:
        from wtl.tasks.metaworld.fast import accelerate

        for environment in environments.envs:
            accelerate(environment.unwrapped)  # type: ignore[arg-type]
    return environments


def official_evaluation(
    agent: OfficialAgent,
    families: Sequence[str],
    seed: int,
    *,
    tasks_per_family: int = 10,
    adaptation_episodes: int = 10,
    evaluation_episodes: int = 3,
    fast: bool = True,
    reward_version: str = "v2",
) -> OfficialResult:
    """Return that of Meta-World's `metalearning_evaluation`, by default with its own defaults.

    Args:
        agent: with one environment a family, in this order.
        families, seed: see `official_environments`.
        tasks_per_family: `num_evals` there; at most 50 are distinct.

    Raises:
        ValueError: agent and families differ in number, or the families are no benchmark's.
    """
    if len(agent.contexts) != len(families):
        raise ValueError(f"expected an agent of {len(families)} environments, one a family, got {len(agent.contexts)}")
    environments = official_environments(families, seed, fast=fast, reward_version=reward_version)
    try:
        success, episode_return, by_family = metaworld.evaluation.metalearning_evaluation(
            agent,
            environments,
            num_evals=tasks_per_family,
            adaptation_episodes=adaptation_episodes,
            evaluation_episodes=evaluation_episodes,
        )
    finally:
        environments.close()
    ordered = {family: float(by_family[family]) for family in families}
    return OfficialResult(float(success), float(episode_return), ordered)
