"""Improvement as inference, at its plainest: the demonstrated trajectory, warped by one goal offset.

The scorer maps demonstration and trials to that offset, and a controller tracks the warped trajectory. What has
succeeded from the identical start is repeated; from another start, `rules` says where the end goes now. Nothing of a
family needs to be recognised, so families never seen are handled like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wtl.core.episode import Context, Trajectory
from wtl.core.rng import stream
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.data.segments import make_context_batch
from wtl.methods.learner import Losses
from wtl.methods.transfer.config import InferenceConfig
from wtl.methods.transfer.repeating import RepeatingPolicy, repeatable
from wtl.methods.transfer.rules import offsets_after_success
from wtl.methods.transfer.scorer import OffsetScorer, TrueGoals, most_promising
from wtl.methods.transfer.tracking import Tracking, TrackingPolicy
from wtl.play.policy import StepBatch

NOTHING_TO_FOLLOW = "trajectory transfer expects a demonstration or a trial, got neither; choose another method"


@dataclass(frozen=True)
class ScorerLearner:
    """Trains the scorer: the goals are known in training, and with them the offset."""

    network: OffsetScorer
    compiles: bool = False  # its loss draws negatives with a generator of its own, for which torch.compile stops

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        assert batch.context is not None
        generator = torch.Generator().manual_seed(batch.seed)
        goals = TrueGoals(batch.goal_BG, batch.demonstrated_goal_BG, batch.trial_goals_BSG)
        goal = self.network.loss(batch.context, batch.start_BO, goals, generator)
        return Losses(goal, goal=goal)


class TransferMethod:
    """Contexts in, policies that track a warped reference out."""

    def __init__(
        self, config: InferenceConfig, spec: FamilySpec, scorer: OffsetScorer, track: Tracking, source: str
    ) -> None:
        self.config, self.spec, self.scorer, self.track, self.source = config, spec, scorer, track, source
        scorer.eval()

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> AtFirstSight:
        """See `Method.adapt`. Raises ValueError for a context without any trajectory."""
        if any(not (context.demonstrations or context.trials) for context in contexts):
            raise ValueError(
                "trajectory transfer expects a demonstration or a trial, got neither; choose another method"
            )

        def make(rows: list[int], start_RO: np.ndarray) -> TrackingPolicy:
            return self._policy([contexts[row] for row in rows], start_RO, [seeds[row] for row in rows])

        return AtFirstSight(make)

    def _policy(self, contexts: Sequence[Context], start_BO: np.ndarray, seeds: Sequence[int]) -> TrackingPolicy:
        config, layout = self.config, self.spec.layout
        references = [choose_reference(context) for context in contexts]
        generators = [stream(seed, "guesses") for seed in seeds]
        offsets = np.zeros((len(contexts), config.hypotheses, layout.dimensions))
        asked = []
        for row, (context, reference) in enumerate(zip(contexts, references, strict=True)):
            if reference is not context.demonstration:
                if not context.solved:
                    spread = config.unknown_spread_steps * layout.hand_step
                    offsets[row, 1:] = spread * generators[row].standard_normal(offsets[row, 1:].shape)
            else:
                asked.append(row)
        if asked:
            read = [contexts[row] for row in asked]
            offsets[asked] = self._infer(read, start_BO[asked], [generators[row] for row in asked])
        for row in asked:
            if contexts[row].solved:
                offsets[row] = self._after_success(contexts[row], start_BO[row], offsets[row])
        policy = self.track(layout, references, lambda rows, _: offsets[rows], seeds)
        recorded = [repeatable(context, start) for context, start in zip(contexts, start_BO, strict=True)]
        return RepeatingPolicy(policy, recorded, layout) if any(recorded) else policy

    def _after_success(self, context: Context, start_O: np.ndarray, others_HD: np.ndarray) -> np.ndarray:
        """Return (H, D): what the successes say, then what was inferred from rewards."""
        assert context.demonstration is not None
        solved, config = [trial for trial in context.trials if trial.success], self.config
        doubt = 0.5 * config.reach_steps * self.spec.layout.hand_step
        told = offsets_after_success(context.demonstration, solved, start_O, self.spec.layout, config.reference, doubt)
        return np.concatenate([told, others_HD])[: len(others_HD)]

    @torch.inference_mode()
    def _infer(
        self, contexts: Sequence[Context], observations_RO: np.ndarray, generators: Sequence[np.random.Generator]
    ) -> np.ndarray:
        """Return (R, H, D), the most promising offsets, in order."""
        readable = [context.newest(self.config.max_trials) for context in contexts]
        batch = make_context_batch(readable, self.config.frames, self.spec.reward_scale)
        start = torch.from_numpy(observations_RO.astype(np.float32))
        reach = self.config.reach_steps * self.spec.layout.hand_step
        found = []
        for row, generator in enumerate(generators):  # one by one: a row's draws are its own
            own = torch.tensor([row])
            seeded = torch.Generator().manual_seed(int(generator.integers(2**62)))
            candidates, probability = self.scorer.posterior(batch.rows(own), start[own], seeded)
            best = most_promising(candidates[0], probability[0], reach, self.config.hypotheses)
            found.append(best.double().numpy())
        return np.stack(found)


def choose_reference(context: Context) -> Trajectory:
    """Return what an episode goes by: the demonstration, else the newest success, else the trial with the best reward.

    A success is no better reference than the demonstration: it holds every failed hypothesis before it.

    Raises:
        ValueError: there is nothing.
    """
    if context.demonstration is not None:
        return context.demonstration
    solved = [trial for trial in context.trials if trial.success]
    if solved:
        return solved[-1]
    if context.trials:
        return max(context.trials, key=lambda trial: float(trial.rewards.mean()))
    raise ValueError(NOTHING_TO_FOLLOW)


class AtFirstSight:
    """A `Policy` that is made for each episode when its first observation is there; nearly always for all at once."""

    def __init__(self, make: Callable[[list[int], np.ndarray], TrackingPolicy]) -> None:
        """Take what makes the policy of these rows from their first observations (R, O)."""
        self._make = make
        self.policies: list[TrackingPolicy] = []
        self._place: dict[int, tuple[int, int]] = {}

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        rows = step.rows.tolist()
        new = [i for i, row in enumerate(rows) if row not in self._place]
        if new:
            self._place |= {rows[i]: (len(self.policies), place) for place, i in enumerate(new)}
            self.policies.append(self._make([rows[i] for i in new], step.observations[new]))
        if len(self.policies) == 1:
            return self.policies[0].act(replace(step, rows=np.array([self._place[row][1] for row in rows])))
        actions = np.zeros((len(rows), self.policies[0].action_size))
        for number, policy in enumerate(self.policies):
            mine = [i for i, row in enumerate(rows) if self._place[row][0] == number]
            if mine:
                own = np.array([self._place[rows[i]][1] for i in mine])
                actions[mine] = policy.act(replace(step, rows=own, observations=step.observations[mine]))
        return actions
