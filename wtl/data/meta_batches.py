"""From episodes to tensors: frames, meta-batches, and the only border between numpy and torch.

All contexts of a batch have the same parts (demonstration or not, k trials), so nothing is padded and
nothing is masked. Every family has the same weight in a meta-batch. Traps, each met in a pilot: few contexts
with many queries memorise; the previous frame in the query makes a copycat; frames must reach the end
of a trial, or its outcome is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.rng import seed_for, stream
from wtl.core.task import ObservationLayout, Regime
from wtl.data.augmentation import World
from wtl.data.sampling import RaggedArray, TaskSampler, choose_indices


@dataclass(frozen=True)
class Segments:
    """Subsampled trajectories: B contexts, S segments each (demonstration first), F frames each."""

    observations_BSFO: Tensor
    actions_BSFA: Tensor
    """What was done from this frame on; zeros at the last one."""
    rewards_BSF: Tensor
    """Of the step that led to the frame."""
    mean_rewards_BSF: Tensor
    """Over all steps since the frame before."""
    successes_BSF: Tensor
    """1 from the first success on."""
    masked_BS: Tensor
    """1 where rewards and successes are withheld."""
    has_demonstration: bool

    def _each(self, change: Callable[[Tensor], Tensor]) -> Segments:
        changed: dict[str, Any] = {
            f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "has_demonstration"
        }
        return replace(self, **changed)

    def to(self, device: torch.device) -> Segments:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, rows: Tensor) -> Segments:
        """The contexts of these numbers."""
        return self._each(lambda tensor: tensor[rows])


@dataclass(frozen=True)
class Batch:
    """What one training step reads: contexts, and Q queries of each task with the expert's answer."""

    segments: Segments | None
    observations_BQO: Tensor
    labels_BQA: Tensor
    start_BO: Tensor
    """The observation with which episodes of the task begin."""
    goal_BG: Tensor
    """Where the expert of the task goes: a label of the auxiliary loss, never an input."""
    shown_goal_BG: Tensor
    """The same for the demonstration's task; zeros without one."""
    seed: int = 0
    """Of what a loss draws itself: a function of step and micro-batch, as everything here."""

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        tensors: dict[str, Any] = {n: value.to(device) for n, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, segments=self.segments.to(device) if self.segments else None, **tensors)


@dataclass(frozen=True)
class BatchConfig:
    """How meta-batches are drawn."""

    contexts: int = 128
    """B. Many contexts with few queries each, not the other way round."""
    queries: int = 8
    """Q, of each context."""
    frames: int = 24
    """F, of each demonstration and each trial."""
    trial_queries: float = 0.5
    """Share of the queries that are states of trials (off the expert's path) and not of demonstrations."""
    world_shift: float = 0.1
    """Largest shift of the whole world along each axis, in its units, alike in context and queries."""
    hidden_goal_weight: int = 1
    """As how many families one counts that hides its goal: there is more to learn of it."""
    no_demonstration: float = 0.1
    """Share of the batches without a demonstration (makes the control of that name a fair one)."""
    masked_outcome: float = 0.05
    """Share of the contexts whose trials show no reward (makes the control of that name a fair one)."""


def frame_indices(lengths: np.ndarray, frames: int) -> np.ndarray:
    """(E,) numbers of observations -> (E, F) evenly spaced indices, first and last included."""
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

    def frames(self, episodes_BS: np.ndarray, frames: int) -> dict[str, np.ndarray]:
        """The fields of `Segments` for these episodes, as numpy arrays."""
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


def segments_of(contexts: Sequence[Context], frames: int, reward_scale: float) -> Segments:
    """Contexts as a policy reads them when it acts.

    Raises:
        ValueError: the contexts have different numbers of parts, or none at all.
    """
    parts = {(c.demonstration is not None, len(c.trials)) for c in contexts}
    if len(parts) != 1:
        raise ValueError(f"all contexts of a batch must have the same parts, got {sorted(parts)}; split the batch")
    has_demonstration, trials = parts.pop()
    if not has_demonstration and trials == 0:
        raise ValueError(
            "a context without demonstration and trials holds nothing to read; use a method without context"
        )
    rows = [((c.demonstration,) if c.demonstration else ()) + c.trials for c in contexts]
    table = EpisodeTable([t for row in rows for t in row], reward_scale)
    index = np.arange(len(table.lengths)).reshape(len(contexts), -1)
    arrays = table.frames(index, frames)
    masked = np.array([[not trajectory.outcome_known for trajectory in row] for row in rows], np.float32)
    return _segments(arrays, masked, has_demonstration)


def _segments(arrays: dict[str, np.ndarray], masked_BS: np.ndarray, has_demonstration: bool) -> Segments:
    tensors: dict[str, Any] = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    return Segments(**tensors, masked_BS=torch.from_numpy(masked_BS), has_demonstration=has_demonstration)


class MetaBatches:
    """Draws the meta-batch of any step; the same step always gives the same batch, so a resumed run goes on exactly."""

    def __init__(
        self,
        config: BatchConfig,
        demonstrations: Iterable[Episode],
        trials: Iterable[Episode],
        *,
        layout: ObservationLayout,
        reward_scale: float,
        regime: Regime,
        seed: int,
        trials_in_context: tuple[int, int] = (0, 0),
        weights: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`trials_in_context` is the smallest and the largest k; k is drawn anew for every batch.

        `weights`: as how many families one counts, 1 if it is not named.

        Raises:
            ValueError: no task has what the contexts need.
        """
        self.config, self.seed, self.regime = config, seed, regime
        self._trials_in_context, self._weights = trials_in_context, weights
        self._layout = layout
        episodes = [*demonstrations, *trials]
        self._table = EpisodeTable([e.trajectory for e in episodes], reward_scale)
        self._labels = self._table.actions.copy()
        for start, e in zip(self._table.first, episodes, strict=True):
            self._labels[start : start + len(e.trajectory)] = e.expert_actions
        self._goals = np.stack([e.goal for e in episodes])
        self._index(episodes)

    def _index(self, episodes: Sequence[Episode]) -> None:
        own: dict[str, tuple[list[int], list[int]]] = {}
        for i, e in enumerate(episodes):
            demonstrations, trials = own.setdefault(e.task.name, ([], []))
            (demonstrations if e.role == "demonstration" else trials).append(i)
        task_of = {e.task.name: e.task for e in episodes}
        self._attempt = np.array([e.attempt for e in episodes])
        names = list(own)
        # Of each task its demonstrations, then its trials.
        self._own = RaggedArray([demonstrations + trials for demonstrations, trials in own.values()])
        self._own_demonstrations = np.array([len(demonstrations) for demonstrations, _ in own.values()])
        # Demonstrations that may stand in a task's context: never of the task itself.
        by_key: dict[str, list[int]] = {}
        for i, e in enumerate(episodes):
            if e.role == "demonstration":
                by_key.setdefault(e.task.goal_name if self.regime == "goal" else e.task.family, []).append(i)
        candidates = []
        for name in names:
            task = task_of[name]
            everyone = np.array(by_key.get(task.goal_name if self.regime == "goal" else task.family, []), dtype=int)
            candidates.append(everyone[~np.isin(everyone, own[name][0])])
            if self.regime != "none" and len(candidates[-1]) == 0:
                raise ValueError(f"task {name} has no demonstration of another task in regime `{self.regime}`")
        self._candidates = RaggedArray(candidates)
        low, high = self._trials_in_context
        self._task_samplers = {
            k: self._task_sampler(
                k, [(i, task_of[name].family) for i, name in enumerate(names) if len(own[name][1]) >= k]
            )
            for k in range(low, high + 1)
        }

    def _task_sampler(self, k: int, tasks: Sequence[tuple[int, str]]) -> TaskSampler:
        if not tasks:
            raise ValueError(f"no task has {k} trials; collect more trials or lower the trials in the context")
        return TaskSampler(tasks, self.config.contexts, self._weights)

    def some_observations(self) -> Tensor:
        """(N, O) observations as batches show them, to fit the normalisation of inputs."""
        batches = [self(step) for step in range(4)]
        size = self._layout.size
        parts = [b.observations_BQO.reshape(-1, size) for b in batches]
        parts += [b.segments.observations_BSFO.reshape(-1, size) for b in batches if b.segments]
        return torch.cat(parts)

    def __call__(self, step: int, part: int = 0) -> Batch:
        """Micro-batch `part` of this training step; its contexts have the same parts as those of all others."""
        config = self.config
        generator = stream(self.seed, "batch", step)
        low, high = self._trials_in_context
        k = int(generator.integers(low, high + 1))
        with_demonstration = self.regime != "none" and (k == 0 or generator.random() >= config.no_demonstration)
        own = (step, part) if part else (step,)  # micro-batch 0 is the batch of a step that has no others
        if part:
            generator = stream(self.seed, "batch", *own)
        tasks = self._task_samplers[k].sample(seed_for(self.seed, "tasks", *own))
        parts = []
        if with_demonstration:
            places = choose_indices(generator, self._candidates.counts[tasks], 1)
            parts.append(self._candidates.at(tasks, places))
        if k:
            parts.append(self._pick_trials(generator, tasks, k))
        world = self._world(stream(self.seed, "world", *own), len(tasks))
        segments, shown_goal = None, np.zeros_like(world.shift_BD)
        if parts:
            segments = self._segments(np.concatenate(parts, axis=1), world, generator, with_demonstration)
        if with_demonstration:
            shown_goal = world.place(self._goals[parts[0][:, 0]])
        episodes, steps = self._pick_queries(generator, tasks)
        observations = world.observations(self._table.observations[steps], self._layout)
        start = world.observations(self._table.observations[self._table.first[episodes[:, 0]]], self._layout)
        goal = world.place(self._goals[episodes[:, 0]])
        return Batch(
            segments,
            _tensor(observations),
            _tensor(self._labels[steps]),
            _tensor(start),
            _tensor(goal),
            _tensor(shown_goal),
            seed_for(self.seed, "loss", *own),
        )

    def _world(self, generator: np.random.Generator, count: int) -> World:
        shift = generator.uniform(-1, 1, (count, self._layout.dimensions)).astype(np.float32)
        return World(shift * self.config.world_shift)

    def _segments(
        self, episodes_BS: np.ndarray, world: World, generator: np.random.Generator, has_demonstration: bool
    ) -> Segments:
        arrays = self._table.frames(episodes_BS, self.config.frames)
        arrays["observations_BSFO"] = world.observations(arrays["observations_BSFO"], self._layout)
        masked = np.zeros(episodes_BS.shape, np.float32)
        masked[generator.random(len(masked)) < self.config.masked_outcome, int(has_demonstration) :] = 1.0
        for name in ("rewards_BSF", "mean_rewards_BSF", "successes_BSF"):
            arrays[name] = arrays[name] * (1.0 - masked[..., None])
        return _segments(arrays, masked, has_demonstration)

    def _pick_trials(self, generator: np.random.Generator, tasks: np.ndarray, k: int) -> np.ndarray:
        before = self._own_demonstrations[tasks]
        places = choose_indices(generator, self._own.counts[tasks] - before, k)
        picked = self._own.at(tasks, places + before[:, None])
        order = np.argsort(self._attempt[picked], axis=1, kind="stable")
        return np.take_along_axis(picked, order, axis=1)

    def _pick_queries(self, generator: np.random.Generator, tasks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted = generator.random((len(tasks), self.config.queries)) < self.config.trial_queries
        demonstrations = self._own_demonstrations[tasks][:, None]
        trials = self._own.counts[tasks][:, None] - demonstrations
        from_trials = (trials > 0) & (wanted | (demonstrations == 0))
        places = generator.integers(np.where(from_trials, trials, demonstrations))
        episodes = self._own.at(tasks, places + from_trials * demonstrations)
        # The last observation of an episode has no action.
        steps = (generator.random(episodes.shape) * (self._table.lengths[episodes] - 1)).astype(int)
        return episodes, steps + self._table.first[episodes]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))
