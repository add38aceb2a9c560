"""This is the shared policy with: a route that is followed, in place of actions that are imitated.

Improvement as inference, at its plainest: behaviour is the demonstrated route, bent by one shift
(`controller`), and the network maps demonstration and trials to that shift. What has succeeded is walked again.
Nothing of a family needs to be recognised, so families never seen are followed like all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from wtl.core.episode import Context, Trajectory
from wtl.core.rng import stream
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch, segments_of
from wtl.methods.learner import Losses, inherit_weights, load_weights, save_policy, spec_from_json, spec_to_json
from wtl.methods.transfer.controller import Follower, FollowerConfig
from wtl.methods.transfer.scorer import ShiftConfig, ShiftNetwork, most_promising


@dataclass(frozen=True)
class FollowingConfig:
    """The network that infers the shift, and the follower."""

    shift: ShiftConfig = field(default_factory=ShiftConfig)
    follower: FollowerConfig = field(default_factory=FollowerConfig)
    max_trials: int = 4
    """Trials that are read; of more, the newest."""
    guesses: int = 16
    """H, that an episode can try one after another."""
    reach_steps: float = 4.0
    """How far off, in hand steps, a guess may be and still be good."""
    unknown_spread_steps: float = 5.0
    """Deviation of the guesses, in hand steps, where there is no demonstration but an unsuccessful trial to follow."""


class FollowingPolicy:
    """Attempt k >= 0: demonstration and k trials in, a route to follow out."""

    method = "following"
    compiles = False  # its loss draws decoys with a generator of its own, which torch.compile would leave the graph for

    def __init__(self, config: FollowingConfig, spec: FamilySpec, frames: int, source: str = "untrained") -> None:
        self.config, self.spec, self.frames = config, spec, frames
        self._source = source
        self.network = ShiftNetwork(config.shift, spec)

    @property
    def source(self) -> str:
        """See `Improver.source`."""
        return self._source

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`: the goals are known in training, and with them the shift."""
        assert batch.segments is not None
        generator = torch.Generator().manual_seed(batch.seed)
        belief = self.network.loss(batch.segments, batch.start_BO, batch.goal_BG - batch.shown_goal_BG, generator)
        return Losses(belief, belief=belief)

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Follower:
        """See `Improver.actor`. Raises ValueError for a context with nothing to follow."""
        self.network.eval()
        guides = [guide_of(context) for context in contexts]
        shown = [context.demonstration is not None and not context.solved for context in contexts]

        def guess(rows: np.ndarray, observations: np.ndarray) -> np.ndarray:
            guesses = np.zeros((len(rows), self.config.guesses, self.spec.layout.dimensions))
            generators = [stream(seeds[row], "guesses") for row in rows.tolist()]
            for i, row in enumerate(rows.tolist()):
                if not shown[row] and not contexts[row].solved:
                    spread = self.config.unknown_spread_steps * self.spec.layout.hand_step
                    guesses[i, 1:] = spread * generators[i].standard_normal(guesses[i, 1:].shape)
            asked = [i for i, row in enumerate(rows.tolist()) if shown[row]]
            if asked:
                read = [contexts[rows[i]] for i in asked]
                guesses[asked] = self._guesses(read, observations[asked], [generators[i] for i in asked])
            return guesses

        return Follower(self.config.follower, self.spec.layout, guides, guess, seeds)

    @torch.inference_mode()
    def _guesses(
        self, contexts: Sequence[Context], observations_RO: np.ndarray, generators: Sequence[np.random.Generator]
    ) -> np.ndarray:
        """(R, H, D) the most promising shifts, in order."""
        readable = [context.newest(self.config.max_trials) for context in contexts]
        segments = segments_of(readable, self.frames, self.spec.reward_scale)
        start = torch.from_numpy(observations_RO.astype(np.float32))
        reach = self.config.reach_steps * self.spec.layout.hand_step
        guesses = []
        for row, generator in enumerate(generators):  # one by one: a row's draws are its own
            own = torch.tensor([row])
            seeded = torch.Generator().manual_seed(int(generator.integers(2**62)))
            candidates, mass = self.network.posterior(segments.rows(own), start[own], seeded)
            guesses.append(most_promising(candidates[0], mass[0], reach, self.config.guesses).double().numpy())
        return np.stack(guesses)

    def save(self, directory: Path) -> None:
        """Write the policy's folder."""
        settings = {"config": asdict(self.config), "spec": spec_to_json(self.spec), "frames": self.frames}
        save_policy(directory, self.method, self.network, settings)

    @classmethod
    def from_description(cls, directory: Path, content: Mapping[str, Any]) -> Self:
        """The policy that `save` wrote. Raises ValueError if it does not fit."""
        settings = dict(content["config"])
        settings |= {"shift": ShiftConfig(**settings["shift"]), "follower": FollowerConfig(**settings["follower"])}
        source = f"{cls.method} {content['sha256'][:12]}"
        policy = cls(FollowingConfig(**settings), spec_from_json(content["spec"]), content["frames"], source)
        load_weights(directory, policy.network)
        return policy

    def start_from(self, directory: Path) -> None:
        """Take the weights of a saved policy of the same make."""
        inherit_weights(directory, self.network, self.method)


def guide_of(context: Context) -> Trajectory:
    """The newest trial that succeeded, else the demonstration, else the trial with the best mean reward.

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
    raise ValueError("following expects a demonstration or a trial, got neither; use cloning for attempt 0")
