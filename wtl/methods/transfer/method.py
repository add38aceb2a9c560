"""Improvement as inference, at its plainest: the demonstrated trajectory, warped by one goal offset.

The network maps demonstration and trials to that offset, and `controller` tracks the warped trajectory. What has
succeeded is repeated. Nothing of a family needs to be recognised, so families never seen are handled like all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wtl.core.episode import Context, Trajectory
from wtl.core.rng import stream
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.data.segments import make_context_batch
from wtl.methods.learner import Losses
from wtl.methods.transfer.config import TransferConfig
from wtl.methods.transfer.controller import TransferPolicy
from wtl.methods.transfer.scorer import OffsetScorer, most_promising


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
        offset_BD = batch.goal_BG - batch.demonstrated_goal_BG
        goal = self.network.loss(batch.context, batch.start_BO, offset_BD, generator)
        return Losses(goal, goal=goal)


class TransferMethod:
    """Contexts in, policies that track a warped reference out."""

    def __init__(self, config: TransferConfig, spec: FamilySpec, scorer: OffsetScorer, source: str) -> None:
        self.config, self.spec, self.scorer, self.source = config, spec, scorer, source
        scorer.eval()

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> TransferPolicy:
        """See `Method.adapt`. Raises ValueError for a context without any trajectory."""
        config, unit = self.config, self.spec.layout.hand_step
        references = [choose_reference(context) for context in contexts]
        unsolved = [not context.solved for context in contexts]
        demonstrated = [context.demonstration is not None for context in contexts]

        def hypotheses(rows: np.ndarray, observations: np.ndarray) -> np.ndarray:
            offsets = np.zeros((len(rows), config.hypotheses, self.spec.layout.dimensions))
            generators = [stream(seeds[row], "guesses") for row in rows.tolist()]
            for i, row in enumerate(rows.tolist()):
                if unsolved[row] and not demonstrated[row]:
                    spread = config.unknown_spread_steps * unit
                    offsets[i, 1:] = spread * generators[i].standard_normal(offsets[i, 1:].shape)
            asked = [i for i, row in enumerate(rows.tolist()) if unsolved[row] and demonstrated[row]]
            if asked:
                read = [contexts[rows[i]] for i in asked]
                offsets[asked] = self._infer(read, observations[asked], [generators[i] for i in asked])
            return offsets

        return TransferPolicy(config.controller, self.spec.layout, references, hypotheses, seeds)

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
    """Return the newest trial that succeeded, else the demonstration, else the trial with the best mean reward.

    Raises:
        ValueError: there is nothing.
    """
    solved = [trial for trial in context.trials if trial.success]
    if solved:
        return solved[-1]
    if context.demonstration is not None:
        return context.demonstration
    if context.trials:
        return max(context.trials, key=lambda trial: float(trial.rewards.mean()))
    raise ValueError("trajectory transfer expects a demonstration or a trial, got neither; choose another method")
