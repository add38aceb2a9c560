"""Stage: expert demonstrations of every task, or a store of one's own. Free of torch at import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from wtl.compute.executor import Executor
from wtl.core.bounds import Between, Bounded, Count, Listed, Noise, Text
from wtl.core.episode import Context, Episode
from wtl.core.rng import seed_for
from wtl.core.task import Regime, Split, Task, TaskDistribution, TaskFamily
from wtl.data.store import close_store, write_shard
from wtl.play.attempts import worker_pool
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings, play
from wtl.stages.adoption import Adopted, adopt_demonstrations
from wtl.stages.units import Progress, cut_by_family, run_units


@dataclass(frozen=True)
class DemonstrationsConfig(Bounded):
    """How demonstrations are made. Failures are done again, with less noise each time."""

    own: Annotated[str, Text("the folder of an episode store, or empty", is_path=True)] = ""
    """A finished episode store of one's own (`wtl import` makes one), used instead of asking the expert. Other content
    at the same path is noticed."""
    noise: Noise = 0.3
    """Largest standard deviation of the noise in executed actions; every episode draws its own below it."""
    after_success_steps: Annotated[int, Between(0, 100_000)] = 5
    """Steps that a demonstration goes on after its first success."""
    retries: Annotated[int, Between(0, 1000)] = 5
    """How often a failed demonstration is done again."""
    unit_episodes: Count = 25
    """Episodes of a unit of work."""
    per_task: Annotated[int, Between(1, 10_000)] = 1
    """Demonstrations of each task."""
    splits: Annotated[tuple[Split, ...], Listed(0, 3)] = ("train", "validation", "test")
    """Whose tasks are demonstrated; the test tasks are enough for an evaluation without training, and none ([]) for a
    method that is neither shown nor taught anything (regime `none`)."""


@dataclass(frozen=True)
class _Unit:
    directory: Path
    index: int
    family: TaskFamily
    tasks: tuple[Task, ...]
    config: DemonstrationsConfig
    seed: int

    @property
    def path(self) -> Path:
        return self.directory / f"shard-{self.index:05d}.safetensors"


def demonstrate(family: TaskFamily, tasks: Sequence[Task], config: DemonstrationsConfig, seed: int) -> list[Episode]:
    """Return successful demonstrations of these tasks; a task that the expert never solves is left out."""
    done: dict[str, Episode] = {}
    left = list(tasks)
    settings = RolloutSettings(
        family.spec.horizon_steps, config.after_success_steps, ask_expert=True, role="demonstration"
    )
    for retry in range(config.retries + 1):
        scale = config.noise * (1.0 - retry / max(config.retries, 1))
        seeds = [seed_for(seed, "demonstration", task.name, retry) for task in left]
        sessions = [Session(task, Context(), (), own) for task, own in zip(left, seeds, strict=True)]
        environments = worker_pool().take(family, len(left))
        attempt = Attempt(family, environments, sessions, [Context()] * len(left), seeds)
        episodes = play(attempt, Expert(NoiseConfig(scale, varied=True)), settings)
        done |= {e.task.name: e for e in episodes if e.trajectory.success}
        left = [task for task in left if task.name not in done]
        if not left:
            break
    return [done[task.name] for task in tasks if task.name in done]


def _demonstrate_unit(unit: _Unit) -> int:
    episodes: list[Episode] = []
    for copy in range(unit.config.per_task):
        episodes += demonstrate(unit.family, unit.tasks, unit.config, seed_for(unit.seed, copy))
    if not episodes:
        raise ValueError(
            f"the expert of {unit.family.spec.name} solved none of {len(unit.tasks)} tasks; nothing to show"
        )
    write_shard(unit.directory, unit.index, episodes)
    return len(episodes)


@dataclass(frozen=True)
class DemonstrationStage:
    """What the stage depends on."""

    distribution: TaskDistribution
    config: DemonstrationsConfig
    regime: Regime
    seed: int

    def adopted(self) -> Adopted | None:
        """Return the demonstrations of one's own, checked; None where the expert is asked.

        Raises:
            ValueError: they do not fit (`adopt_demonstrations`).
        """
        if not self.config.own:
            return None
        return adopt_demonstrations(self.distribution, Path(self.config.own), self.regime, self.config.splits)

    def collect(self, directory: Path, executor: Executor, progress: Progress) -> dict[str, int]:
        """Demonstrate every task of the splits; in regime `goal` also its twin with another start.

        Returns:
            What there is to say of it beside the store.

        Raises:
            ValueError: regime `goal` on a family that has one start only; a store of one's own that does not fit.
        """
        if own := self.adopted():
            own.write(directory)
            return {"failed_and_left_out": own.failed} if own.failed else {}
        tasks = [task for split in self.config.splits for task in self.distribution.split(split)]
        families = self.distribution.families
        if self.regime == "goal":
            tasks += [families[t.family].with_other_start(t, seed_for(self.seed, "other-start", t.name)) for t in tasks]
        units = [
            _Unit(directory, i, families[part[0].family], part, self.config, self.seed)
            for i, part in enumerate(cut_by_family(tasks, self.config.unit_episodes, lambda task: task.family))
        ]
        digests = run_units(_demonstrate_unit, units, executor, progress)
        close_store(directory, len(units), digests)
        return {}
