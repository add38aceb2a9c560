"""What a graded episode says of itself: who played it, and on which rung of the noise ladder.

Graded episodes (`wtl.stages.graded`) range from random to expert. Which is which stands in two further arrays of each
episode, and in words in its source, which every export keeps. Trap: a grade says how an episode was made and not how
well it went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wtl.core.episode import Episode

Selection = Callable[[Sequence[Episode]], Sequence[Episode]]
"""Chooses among the graded episodes of one split."""

EXPERT = "scripted_expert"
"""The player of the noise ladder."""

_PLAYER, _NOISE = "graded_player", "graded_noise"


@dataclass(frozen=True)
class Grade:
    """How an episode was made."""

    player: str
    """`scripted_expert`, `wrong_goal`, `random`, or what the configuration calls a method or a trained method."""
    noise: float = 0.0
    """Standard deviation of the noise in the expert's actions, in units of the action."""

    @property
    def name(self) -> str:
        """What tables and the source of an expert's episode call it, for instance `expert, noise 0.5`."""
        return f"expert, noise {self.noise:g}" if self.player == EXPERT else self.player


def with_grade(episode: Episode, grade: Grade) -> Episode:
    """Return an episode that says how it was made."""
    own = {_PLAYER: np.array(grade.player), _NOISE: np.array(grade.noise)}
    return replace(episode, trajectory=replace(episode.trajectory, extras={**episode.trajectory.extras, **own}))


def is_graded(episode: Episode) -> bool:
    """Return whether an episode says how it was made."""
    return {_PLAYER, _NOISE} <= episode.trajectory.extras.keys()


def everything(episodes: Sequence[Episode]) -> Sequence[Episode]:
    """Return all episodes: the `Selection` of methods that learn from good and bad alike."""
    return episodes


@dataclass(frozen=True)
class Best:
    """The `Selection` of the episodes with the highest returns, as many of each family."""

    share: float
    """How many of a family's, from 0 to 1; one at least."""

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[Episode]:
        """Return them, in the order in which they came."""
        by_family: dict[str, list[int]] = {}
        for i, episode in enumerate(episodes):
            by_family.setdefault(episode.task.family, []).append(i)
        kept: list[int] = []
        for own in by_family.values():
            ranked = sorted(own, key=lambda i: -episodes[i].trajectory.total_reward())
            kept += ranked[: max(1, round(self.share * len(own)))]
        return [episodes[i] for i in sorted(kept)]


@dataclass(frozen=True)
class Capped:
    """The `Selection` of a family's grades that succeed no more often than a cap allows, whole.

    A grade is kept or dropped as one, with its lucky episodes: what is capped is how good the best player was.
    """

    success: float
    """The largest share of a grade's episodes that may have succeeded."""
    best: bool = False
    """Whether the best of those grades alone is kept: that which succeeds most often."""

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[Episode]:
        """Return them, in the order in which they came. Raises ValueError for a family whose grades are all better."""
        kept: set[tuple[str, Grade, int]] = set()
        for family in dict.fromkeys(e.task.family for e in episodes):
            lines = summarise(e for e in episodes if e.task.family == family)
            under = [line for line in lines if line.success <= self.success]
            if not under:
                raise ValueError(
                    f"all grades of {family} succeed in more than {self.success:.0%} of their episodes; add worse ones "
                    "(`graded.noise`), or raise the cap"
                )
            if self.best:
                under = [max(under, key=lambda line: (line.success, line.mean_return))]
            kept |= {(family, line.grade, line.attempt) for line in under}
        return [e for e in episodes if (e.task.family, grade_of(e), e.attempt) in kept]


def grade_of(episode: Episode) -> Grade:
    """Return how an episode was made. Raises ValueError for one that is not graded."""
    extras = episode.trajectory.extras
    if not is_graded(episode):
        raise ValueError(f"an episode of task {episode.task.name} by {episode.source} is not graded; `wtl graded`")
    return Grade(str(extras[_PLAYER]), float(extras[_NOISE]))


@dataclass(frozen=True)
class GradeSummary:
    """How the episodes of one grade went."""

    grade: Grade
    attempt: int
    episodes: int
    success: float
    """Share of the episodes that succeeded."""
    mean_return: float
    """Mean over episodes of the return as a share of its family's range, from 0 (lowest) to 1 (highest)."""


def summarise(episodes: Iterable[Episode]) -> list[GradeSummary]:
    """Return how each grade went, in the order in which grades first appear."""
    found: dict[tuple[Grade, int], list[tuple[str, bool, float]]] = {}
    for e in episodes:
        line = (e.task.family, e.trajectory.success, e.trajectory.total_reward())
        found.setdefault((grade_of(e), e.attempt), []).append(line)
    returns: dict[str, list[float]] = {}
    for lines in found.values():
        for family, _, earned in lines:
            returns.setdefault(family, []).append(earned)
    ranges = {family: (min(own), max(max(own) - min(own), 1e-9)) for family, own in returns.items()}
    return [
        GradeSummary(
            grade,
            attempt,
            len(lines),
            float(np.mean([success for _, success, _ in lines])),
            float(np.mean([(earned - ranges[family][0]) / ranges[family][1] for family, _, earned in lines])),
        )
        for (grade, attempt), lines in found.items()
    ]
