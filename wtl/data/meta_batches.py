"""Meta-batches: contexts of many tasks, and queries of each task with the answers.

Every family has the same weight in a meta-batch. Traps, each met in a pilot: few contexts with many queries
memorise; the previous frame in the query makes a copycat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from wtl.core.bounds import Between, Bounded, Share
from wtl.core.episode import Context, Episode
from wtl.core.rng import seed_for, stream
from wtl.core.task import FamilySpec, Regime
from wtl.data.augmentation import Translation
from wtl.data.demonstrations import ContextSource, DemonstrationSampler, with_sources
from wtl.data.grades import rung_of
from wtl.data.sampling import Queries, RaggedArray, TaskSampler, choose_asked, choose_indices
from wtl.data.segments import SETTLE_STEPS, ContextBatch, EpisodeTable, Segments, to_segments


@dataclass(frozen=True)
class Windows:
    """W consecutive steps of each of B x Q queries, the query's own step last; steps before the episode are padding."""

    observations_BQWO: Tensor
    actions_BQWA: Tensor
    """What was done at each step."""
    rewards_BQW: Tensor
    """The reward that led to each observation, scaled."""
    returns_to_go_BQW: Tensor
    """The sum of scaled rewards from each step to the end of its episode."""
    steps_BQW: Tensor
    """The number of each step in its episode, int64."""
    steps_to_go_BQW: Tensor
    """How many steps are left, this one included, int64."""
    valid_BQW: Tensor
    """False where the episode had not begun."""


@dataclass(frozen=True)
class Batch:
    """What one training step reads: contexts, and Q queries of each task with the answers."""

    context: ContextBatch | None
    known: tuple[Context, ...]
    """What else is known of each of the B tasks (`Needs.sources`), without trajectories."""
    observations_BQO: Tensor
    expert_actions_BQA: Tensor
    """What the expert would do; NaN where it was not asked."""
    actions_BQA: Tensor
    """What was done."""
    returns_to_go_BQ: Tensor
    """The sum of scaled rewards from the query's step to the end of its episode."""
    start_BO: Tensor
    """The observation with which the first query's episode began."""
    goal_BG: Tensor
    """Where the expert of the first query's episode goes: a label, never an input of what is learned to infer it."""
    starts_BQO: Tensor
    """How each query's episode began, once things had come to rest (`SETTLE_STEPS`)."""
    goals_BQG: Tensor
    """Where the expert of each query's episode goes."""
    noise_BQ: Tensor
    """The rung of each query's episode, in units of the action; NaN where it is not of the noise ladder."""
    trial_goals_BSG: Tensor
    """The same for each trial of the context, in its order: another one where the goal goes along with the start."""
    demonstrated_goal_BG: Tensor
    """The same for the first demonstration's task; zeros without one."""
    peak_BD: Tensor
    """Where the hand was when the first query's episode earned most: a label that takes no expert."""
    windows: Windows | None = None
    seed: int = 0
    """The seed of what a loss draws itself: a function of step and micro-batch, as everything here."""

    def to(self, device: torch.device) -> Batch:
        """Return the same on a device."""
        tensors: dict[str, Any] = {n: value.to(device) for n, value in vars(self).items() if isinstance(value, Tensor)}
        windows = self.windows
        if windows:
            windows = Windows(*(getattr(windows, f.name).to(device) for f in fields(windows)))
        return replace(self, context=self.context.to(device) if self.context else None, windows=windows, **tensors)


@dataclass(frozen=True)
class BatchConfig(Bounded):
    """How meta-batches are drawn."""

    contexts: Annotated[int, Between(1, 65_536)] = 128
    """B. Many contexts with few queries each, not the other way round."""
    queries: Annotated[int, Between(1, 65_536)] = 8
    """Q, of each context."""
    trial_queries: Share = 0.5
    """Share of the queries that are states of trials (off the expert's path) and not of demonstrations. At 1, tasks
    without trials are left out."""
    translation: Annotated[float, Between(0, 1000)] = 0.1
    """Largest shift of everything along each axis, in the units of positions, alike in context and queries."""
    no_demonstration: Share = 0.1
    """Share of the batches without a demonstration (makes the control of that name a fair one)."""
    masked_outcome: Share = 0.05
    """Share of the contexts whose trials show no reward (makes the control of that name a fair one)."""


@dataclass(frozen=True)
class Needs:
    """What a method's training reads in a batch."""

    context: bool = True
    """Whether contexts are read at all."""
    trials: tuple[int, int] = (0, 0)
    """The smallest and the largest number of trials in a context, drawn anew for every batch."""
    frames: int = 24
    """F, of each demonstration and each trial."""
    window_steps: int = 0
    """W, steps that end at each query; 0 where none are read."""
    sources: tuple[ContextSource, ...] = ()
    """What else is known of a task."""
    queries: Queries = "any"
    """Whose states are asked about."""


class MetaBatches:
    """Draws the meta-batch of any step; the same step always gives the same batch, so a resumed run goes on exactly."""

    def __init__(
        self,
        config: BatchConfig,
        needs: Needs,
        episodes: Iterable[Episode],
        spec: FamilySpec,
        *,
        regime: Regime,
        seed: int,
        weights: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Index the demonstrations and trials of one split.

        Args:
            spec: the sizes that all families share.
            weights: how many families each counts as, 1 if it is not named.

        Raises:
            ValueError: no task has what the contexts need.
        """
        self.config, self.needs, self.seed = config, needs, seed
        self.regime: Regime = regime if needs.context else "none"
        self._weights, self._spec, self._layout = weights, spec, spec.layout
        # Demonstrations stand first: their numbers are the sampler's.
        everything = sorted(episodes, key=lambda episode: episode.role != "demonstration")
        self._table = EpisodeTable([e.trajectory for e in everything], spec.reward_scale)
        self._labels = self._table.actions.copy()
        for start, e in zip(self._table.first, everything, strict=True):
            self._labels[start : start + len(e.trajectory)] = e.expert_actions
        hand = slice(spec.layout.points[0], spec.layout.points[0] + spec.layout.dimensions)
        earned_most = [int(e.trajectory.rewards.argmax()) + 1 for e in everything]
        self._peaks = np.stack(
            [e.trajectory.observations[i, hand] for e, i in zip(everything, earned_most, strict=True)]
        )
        self._goals = np.stack([e.goal for e in everything])
        self._attempt = np.array([e.attempt for e in everything])
        self._rungs = np.array([rung_of(e) for e in everything])
        self._index(everything)

    def _index(self, episodes: Sequence[Episode]) -> None:
        own: dict[str, tuple[list[int], list[int]]] = {}
        for i, e in enumerate(episodes):
            demonstrations, trials = own.setdefault(e.task.name, ([], []))
            (demonstrations if e.role == "demonstration" else trials).append(i)
        task_of = {e.task.name: e.task for e in episodes}
        tasks = [task_of[name] for name in own]
        # The episodes of each task: its demonstrations, then its trials.
        self._own = RaggedArray([demonstrations + trials for demonstrations, trials in own.values()])
        self._own_demonstrations = np.array([len(demonstrations) for demonstrations, _ in own.values()])
        earned = [e.trajectory.total_reward() for e in episodes]
        # The trials of each task, those that earned least first.
        self._ranked = RaggedArray([sorted(trials, key=earned.__getitem__) for _, trials in own.values()])
        sampler = DemonstrationSampler([e.task for e in episodes if e.role == "demonstration"], self.regime)
        self._candidates = RaggedArray([sampler.candidates(task) for task in tasks])
        self._known = [with_sources(task, Context(), self.needs.sources) for task in tasks]
        trials = [len(trials) for _, trials in own.values()]
        low, high = self.needs.trials
        least, beside = int(self.config.trial_queries == 1.0), int(self.needs.queries != "any")
        self._task_samplers = {
            k: self._task_sampler(
                k, [(i, task.family) for i, task in enumerate(tasks) if trials[i] >= max(k + beside, least)]
            )
            for k in range(low, high + 1)
        }

    def _task_sampler(self, k: int, tasks: Sequence[tuple[int, str]]) -> TaskSampler:
        if not tasks:
            beside = "" if self.needs.queries == "any" else " and another one to ask about"
            raise ValueError(f"no task has {k} trials{beside}; collect more trials or lower the trials in the context")
        return TaskSampler(tasks, self.config.contexts, self._weights)

    def some_observations(self) -> Tensor:
        """Return (N, O) observations as batches show them, to fit the normalisation of inputs."""
        batches = [self(step) for step in range(4)]
        size = self._layout.size
        parts = [b.observations_BQO.reshape(-1, size) for b in batches]
        parts += [b.context.all.observations_BSFO.reshape(-1, size) for b in batches if b.context]
        return torch.cat(parts)

    def __call__(self, step: int, part: int = 0) -> Batch:
        """Return micro-batch `part` of this training step; its contexts have the same parts as those of all others."""
        own = (step, part) if part else (step,)  # micro-batch 0 is the batch of a step that has no others
        generator = stream(self.seed, "batch", step)
        low, high = self.needs.trials
        k = int(generator.integers(low, high + 1))
        shows = self.regime != "none" and (k == 0 or generator.random() >= self.config.no_demonstration)
        if part:
            generator = stream(self.seed, "batch", *own)
        tasks = self._task_samplers[k].sample(seed_for(self.seed, "tasks", *own))
        shown = self._pick_demonstrations(generator, tasks) if shows else None
        trials, asked = self._pick_trials(generator, tasks, k)
        translation = self._translation(stream(self.seed, "world", *own), len(tasks))
        context, demonstrated_goal = None, np.zeros_like(translation.shift_BD)
        if shown is not None or trials is not None:
            context = self._context(shown, trials, translation, generator)
        if shown is not None:
            demonstrated_goal = translation.positions(self._goals[shown[:, 0]])
        trial_goals = np.zeros((len(tasks), 0, self._goals.shape[-1]))
        if trials is not None:
            trial_goals = translation.positions(self._goals[trials])
        return self._batch(
            context,
            (demonstrated_goal, trial_goals),
            tasks,
            self._pick_steps(generator, self._pick_queries(generator, tasks) if asked is None else asked),
            translation,
            seed_for(self.seed, "loss", *own),
        )

    def _batch(
        self,
        context: ContextBatch | None,
        goals: tuple[np.ndarray, np.ndarray],
        tasks: np.ndarray,
        queries: tuple[np.ndarray, np.ndarray],
        translation: Translation,
        seed: int,
    ) -> Batch:
        episodes, steps = queries
        demonstrated_goal, trial_goals = goals
        table, layout = self._table, self._layout
        return Batch(
            context=context,
            known=tuple(self._known[task] for task in tasks.tolist()),
            observations_BQO=_tensor(translation.observations(table.observations[steps], layout)),
            expert_actions_BQA=_tensor(self._labels[steps]),
            actions_BQA=_tensor(table.actions[steps]),
            returns_to_go_BQ=_tensor(table.returns_to_go(episodes, steps)),
            start_BO=_tensor(translation.observations(table.observations[table.first[episodes[:, 0]]], layout)),
            goal_BG=_tensor(translation.positions(self._goals[episodes[:, 0]])),
            starts_BQO=_tensor(translation.observations(table.observations[self._settled(episodes, steps)], layout)),
            goals_BQG=_tensor(translation.positions(self._goals[episodes])),
            noise_BQ=_tensor(self._rungs[episodes]),
            trial_goals_BSG=_tensor(trial_goals),
            demonstrated_goal_BG=_tensor(demonstrated_goal),
            peak_BD=_tensor(translation.positions(self._peaks[episodes[:, 0]])),
            windows=self._windows(episodes, steps, translation) if self.needs.window_steps else None,
            seed=seed,
        )

    def _settled(self, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the flat index of what counts as the start of each query's episode, never later than the query."""
        return np.minimum(self._table.first[episodes] + SETTLE_STEPS, steps)

    def _translation(self, generator: np.random.Generator, count: int) -> Translation:
        shift = generator.uniform(-1, 1, (count, self._layout.dimensions)).astype(np.float32)
        return Translation(shift * self.config.translation)

    def _context(
        self,
        shown_BS: np.ndarray | None,
        trials_BS: np.ndarray | None,
        translation: Translation,
        generator: np.random.Generator,
    ) -> ContextBatch:
        def segments(episodes_BS: np.ndarray, masked_B: np.ndarray) -> Segments:
            arrays = self._table.frames(episodes_BS, self.needs.frames)
            arrays["observations_BSFO"] = translation.observations(arrays["observations_BSFO"], self._layout)
            for name in ("rewards_BSF", "mean_rewards_BSF", "successes_BSF"):
                arrays[name] = arrays[name] * (1.0 - masked_B[:, None, None])
            return to_segments(arrays, np.repeat(masked_B[:, None], episodes_BS.shape[1], axis=1))

        count = len(translation.shift_BD)
        masked_B = (generator.random(count) < self.config.masked_outcome).astype(np.float32)
        return ContextBatch(
            demonstrations=segments(shown_BS, np.zeros(count, np.float32)) if shown_BS is not None else None,
            trials=segments(trials_BS, masked_B) if trials_BS is not None else None,
        )

    def _pick_demonstrations(self, generator: np.random.Generator, tasks: np.ndarray) -> np.ndarray:
        indices = choose_indices(generator, self._candidates.counts[tasks], 1)
        return self._candidates.at(tasks, indices)

    def _pick_trials(
        self, generator: np.random.Generator, tasks: np.ndarray, k: int
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return (B, k) trials of each context, and (B, Q) the one that is asked about; None: none, and any."""
        if self.needs.queries == "any":
            if not k:
                return None, None
            before = self._own_demonstrations[tasks]
            indices = choose_indices(generator, self._own.counts[tasks] - before, k)
            return self._in_turn(self._own.at(tasks, indices + before[:, None])), None
        ranks, asked = choose_asked(generator, self._ranked.counts[tasks], k, self.needs.queries)
        trials = self._in_turn(self._ranked.at(tasks, ranks)) if k else None
        return trials, self._ranked.at(tasks, asked[:, None]).repeat(self.config.queries, axis=1)

    def _in_turn(self, picked: np.ndarray) -> np.ndarray:
        order = np.argsort(self._attempt[picked], axis=1, kind="stable")
        return np.take_along_axis(picked, order, axis=1)

    def _pick_queries(self, generator: np.random.Generator, tasks: np.ndarray) -> np.ndarray:
        wanted = generator.random((len(tasks), self.config.queries)) < self.config.trial_queries
        demonstrations = self._own_demonstrations[tasks][:, None]
        trials = self._own.counts[tasks][:, None] - demonstrations
        from_trials = (trials > 0) & (wanted | (demonstrations == 0))
        indices = generator.integers(np.where(from_trials, trials, demonstrations))
        return self._own.at(tasks, indices + from_trials * demonstrations)

    def _pick_steps(self, generator: np.random.Generator, episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The last observation of an episode has no action.
        steps = (generator.random(episodes.shape) * (self._table.lengths[episodes] - 1)).astype(int)
        return episodes, steps + self._table.first[episodes]

    def _windows(self, episodes_BQ: np.ndarray, steps_BQ: np.ndarray, translation: Translation) -> Windows:
        back_W = np.arange(1 - self.needs.window_steps, 1)
        first_BQ1 = self._table.first[episodes_BQ][..., None]
        wanted_BQW = steps_BQ[..., None] + back_W
        index_BQW = np.maximum(wanted_BQW, first_BQ1)
        table = self._table
        return Windows(
            observations_BQWO=_tensor(translation.observations(table.observations[index_BQW], self._layout)),
            actions_BQWA=_tensor(table.actions[index_BQW]),
            rewards_BQW=_tensor(table.rewards[index_BQW]),
            returns_to_go_BQW=_tensor(table.returns_to_go(episodes_BQ[..., None], index_BQW)),
            steps_BQW=torch.from_numpy(index_BQW - first_BQ1),
            steps_to_go_BQW=torch.from_numpy(first_BQ1 + table.lengths[episodes_BQ][..., None] - 1 - index_BQW),
            valid_BQW=torch.from_numpy(wanted_BQW >= first_BQ1),
        )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))
