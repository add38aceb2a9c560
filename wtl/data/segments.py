"""From trajectories to tensors: each is cut to frames, and contexts of a batch stand behind one another.

All contexts of a batch have as many demonstrations and as many trials, so nothing is padded and nothing is masked.
Trap: frames must reach the end of a trial, or its outcome is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wtl.core.episode import Context, Trajectory

SETTLE_STEPS = 2
"""Steps after which an observation counts as the start of an episode for what moves by hand's breadths: right after a
reset some objects fall, and Meta-World reports the windows' and doors' handles where they stood before."""


@dataclass(frozen=True)
class Segments:
    """Subsampled trajectories of one kind: B contexts, S segments each, F frames each."""

    observations_BSFO: Tensor
    actions_BSFA: Tensor
    """What was done from this frame on; zeros at the last one."""
    rewards_BSF: Tensor
    """The reward of the step that led to the frame, in units of the family's `reward_scale`."""
    mean_rewards_BSF: Tensor
    """The mean reward of all steps since the frame before."""
    successes_BSF: Tensor
    """1 from the first success on."""
    masked_BS: Tensor
    """1 where rewards and successes are withheld."""

    def each(self, change: Callable[[Tensor], Tensor]) -> Segments:
        """Return the segments with every tensor changed."""
        return Segments(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def joined(self, others: Segments) -> Segments:
        """Return these segments and then the others, of the same contexts."""
        pairs = {f.name: (getattr(self, f.name), getattr(others, f.name)) for f in fields(self)}
        return Segments(**{name: torch.cat(pair, dim=1) for name, pair in pairs.items()})


@dataclass(frozen=True)
class ContextBatch:
    """The trajectories of B contexts, by what they are; None where the contexts have none of a kind."""

    demonstrations: Segments | None
    trials: Segments | None

    def _each(self, change: Callable[[Tensor], Tensor]) -> ContextBatch:
        kinds = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: kind.each(change) if kind else None for name, kind in kinds.items()}
        return replace(self, **changed)

    def to(self, device: torch.device) -> ContextBatch:
        """Return the same on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, rows: Tensor) -> ContextBatch:
        """Return the contexts of these numbers."""
        return self._each(lambda tensor: tensor[rows])

    @property
    def all(self) -> Segments:
        """The demonstrations and then the trials. Raises ValueError if there is neither."""
        if self.demonstrations is not None and self.trials is not None:
            return self.demonstrations.joined(self.trials)
        if self.demonstrations is None and self.trials is None:
            raise ValueError("expected contexts with demonstrations or trials, got contexts with neither")
        return self.demonstrations or self.trials  # type: ignore[return-value]


def frame_indices(lengths: np.ndarray, frames: int) -> np.ndarray:
    """Return (E, F) evenly spaced indices for (E,) numbers of observations, first and last included."""
    steps = np.linspace(0.0, 1.0, frames)
    return np.rint(steps * (np.asarray(lengths)[:, None] - 1)).astype(np.int64)


class EpisodeTable:
    """Many trajectories in flat arrays, so that a whole batch of frames is one gather."""

    def __init__(self, trajectories: Sequence[Trajectory], reward_scale: float) -> None:
        self.lengths = np.array([len(t) + 1 for t in trajectories])
        self.first = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.observations = np.concatenate([t.observations for t in trajectories])
        action_size = trajectories[0].actions.shape[1]
        total = len(self.observations)
        self.actions = np.zeros((total, action_size), np.float32)
        self.rewards = np.zeros(total, np.float32)
        self.successes = np.zeros(total, np.float32)
        for start, t in zip(self.first, trajectories, strict=True):
            end = start + len(t)
            self.actions[start:end] = t.actions
            self.rewards[start + 1 : end + 1] = t.rewards / reward_scale
            self.successes[start + 1 : end + 1] = np.maximum.accumulate(t.successes)
        self._reward_sums = np.cumsum(self.rewards, dtype=np.float64)

    def returns_to_go(self, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the sums of scaled rewards from each step to the end of its episode.

        Args:
            episodes, steps: of one shape; the number of the episode, and the flat index of its observation.
        """
        last = self.first[episodes] + self.lengths[episodes] - 1
        return (self._reward_sums[last] - self._reward_sums[steps]).astype(np.float32)

    def frames(self, episodes_BS: np.ndarray, frames: int) -> dict[str, np.ndarray]:
        """Return the fields of `Segments` for these episodes, as numpy arrays, but for `masked_BS`."""
        shape = (*episodes_BS.shape, frames)
        local = frame_indices(self.lengths[episodes_BS.ravel()], frames)
        index = (local + self.first[episodes_BS.ravel()][:, None]).reshape(shape)
        before = np.concatenate([index[..., :1], index[..., :-1]], axis=-1)
        gap = np.maximum(index - before, 1)
        mean = (self._reward_sums[index] - self._reward_sums[before]) / gap
        # Two frames on one step (short episodes): the mean over nothing is the step's own reward.
        mean = np.where(index == before, self.rewards[index], mean)
        return {
            "observations_BSFO": self.observations[index],
            "actions_BSFA": self.actions[index],
            "rewards_BSF": self.rewards[index],
            "mean_rewards_BSF": mean.astype(np.float32),
            "successes_BSF": self.successes[index],
        }


def to_segments(arrays: dict[str, np.ndarray], masked_BS: np.ndarray) -> Segments:
    """Return the tensors of what `EpisodeTable.frames` gave."""
    tensors: dict[str, Any] = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    return Segments(**tensors, masked_BS=torch.from_numpy(masked_BS))


def make_context_batch(contexts: Sequence[Context], frames: int, reward_scale: float) -> ContextBatch:
    """Return contexts as a network reads them when it acts.

    Raises:
        ValueError: the contexts have different numbers of parts.
    """
    parts = {(len(c.demonstrations), len(c.trials)) for c in contexts}
    if len(parts) != 1:
        raise ValueError(
            f"all contexts of a batch must have as many demonstrations and trials, got {sorted(parts)}; split the batch"
        )

    def segments(rows: Sequence[Sequence[Trajectory]]) -> Segments | None:
        if not rows[0]:
            return None
        table = EpisodeTable([t for row in rows for t in row], reward_scale)
        index = np.arange(len(table.lengths)).reshape(len(rows), -1)
        masked = np.array([[not trajectory.outcome_known for trajectory in row] for row in rows], np.float32)
        return to_segments(table.frames(index, frames), masked)

    return ContextBatch(segments([c.demonstrations for c in contexts]), segments([c.trials for c in contexts]))
