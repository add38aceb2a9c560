"""The ladder: which graded episodes a reward is learned from, and the control whose rungs are shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wtl.core.episode import Episode
from wtl.core.rng import stream
from wtl.data.grades import EXPERT, grade_of, with_grade


@dataclass(frozen=True)
class Ladder:
    """The `Selection` of the expert's episodes with at least so much noise."""

    least_noise: float
    shuffled: bool = False
    """Whether the rungs are dealt out anew among the episodes of each task."""

    def __call__(self, episodes: Sequence[Episode]) -> Sequence[Episode]:
        """Return them, in the order in which they came."""
        grades = [grade_of(episode) for episode in episodes]
        kept = [i for i, g in enumerate(grades) if g.player == EXPERT and g.noise >= self.least_noise - 1e-9]
        if not self.shuffled:
            return [episodes[i] for i in kept]
        by_task: dict[str, list[int]] = {}
        for i in kept:
            by_task.setdefault(episodes[i].task.name, []).append(i)
        dealt: dict[int, Episode] = {}
        for task, own in by_task.items():
            order = stream(0, "shuffled ladder", task).permutation(len(own)).tolist()
            dealt |= {i: with_grade(episodes[i], grades[own[other]]) for i, other in zip(own, order, strict=True)}
        return [dealt[i] for i in kept]
