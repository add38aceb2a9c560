"""What is imitated of an episode: its paths to goals.

A path ends soon after the goal is met and begins at most some steps before. Whether and when a goal is met is said by
the family's own reward function (`wtl.core.relabelling`); what it met at its first step teaches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wtl.core.episode import Episode
from wtl.core.relabelling import can_relabel, is_relabelled, relabelled
from wtl.core.rng import stream
from wtl.core.task import TaskFamily
from wtl.methods.hindsight.config import HindsightConfig

AFTER_SUCCESS_STEPS = 2
MOVED_HAND_STEPS = 3.0
"""Only goals so far from where things stood at the start are drawn: where a drawer moves in one episode of eight, goals
drawn from all steps left 23 paths of 120 episodes, and nothing was learned from them."""


def with_paths(config: HindsightConfig, family: TaskFamily, episodes: Sequence[Episode]) -> list[Episode]:
    """Return the episodes as they were played, then their paths to other goals.

    Raises:
        ValueError: the family's episodes cannot be relabelled.
    """
    found = list(episodes)
    if config.relabel == "none":
        return found
    reached = [can_relabel(family).reached(episode.trajectory.observations) for episode in episodes]
    least = MOVED_HAND_STEPS * family.spec.layout.hand_step
    moved = [1 + np.flatnonzero(np.linalg.norm(states[1:] - states[0], axis=-1) >= least) for states in reached]
    everywhere = np.concatenate([states[steps] for states, steps in zip(reached, moved, strict=True)])
    for episode, states, steps in zip(episodes, reached, moved, strict=True):
        if not len(steps):
            continue
        generator = stream(episode.seed, "hindsight")
        ends = generator.choice(steps, size=config.goals_per_episode) - 1
        lengths = generator.integers(1, config.path_steps + 1, size=len(ends)).tolist()
        if config.relabel == "reached":
            for path, length in zip(relabelled(family, episode, states[ends + 1]), lengths, strict=True):
                found += _path_to_success(path, length)
        else:
            paths = relabelled(family, episode, generator.choice(everywhere, size=len(ends)))
            found += [
                path.between(end + 1 - length, end + 1)
                for path, end, length in zip(paths, ends.tolist(), lengths, strict=True)
                if is_relabelled(path.task)
            ]
    return found


def worth_imitating(config: HindsightConfig, episodes: Sequence[Episode]) -> list[Episode]:
    """Return the relabelled paths and the paths to what was commanded and met; all episodes where there is neither."""
    found = [episode for episode in episodes if is_relabelled(episode.task)]
    for episode in episodes:
        if not is_relabelled(episode.task):
            found += _path_to_success(episode, config.path_steps)
    return found or list(episodes)


def _path_to_success(episode: Episode, length: int) -> list[Episode]:
    successes = episode.trajectory.successes
    if successes[0] or not successes.any():
        return []
    met = int(successes.argmax())
    return [episode.between(met + 1 - length, met + 1 + AFTER_SUCCESS_STEPS)]
