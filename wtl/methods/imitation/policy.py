"""What trial and retrial policy share: a context network that imitates experts, saved, loaded and acting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch, Segments, segments_of
from wtl.methods.imitation.network import ContextNetwork, NetworkConfig, Reading
from wtl.methods.learner import Losses, inherit_weights, load_weights, save_policy, spec_from_json, spec_to_json
from wtl.methods.nn.acting import ActingConfig, MixtureActor
from wtl.methods.nn.mixture import Mixture


@dataclass(frozen=True)
class PolicyConfig:
    """A context policy: its network, its behaviour, its losses."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    acting: ActingConfig = field(default_factory=ActingConfig)
    belief_weight: float = 1.0
    """Of the auxiliary loss on the hidden goal; the pilot used .3 without feeding the belief to the actor."""


class _Readings:
    """The contexts of a batch of episodes, each read when its episode's first observation is there."""

    def __init__(self, network: ContextNetwork, segments: Segments) -> None:
        self._network, self._segments = network, segments
        self._row_of: dict[int, int] = {}
        self._reading: Reading | None = None
        self._last: tuple[list[int], Reading] | None = None

    def of(self, rows_R: Tensor, observations_RO: Tensor) -> Reading:
        """The readings of these rows. Rows change seldom, so the last selection is kept."""
        rows = rows_R.tolist()
        if self._last is None or self._last[0] != rows:
            new = [i for i, row in enumerate(rows) if row not in self._row_of]
            if new:
                self._read([rows[i] for i in new], observations_RO[new])
            assert self._reading is not None
            self._last = rows, self._reading.rows(torch.tensor([self._row_of[row] for row in rows]))
        return self._last[1]

    def _read(self, rows: list[int], observations_RO: Tensor) -> None:
        fresh = self._network.read(self._segments.rows(torch.tensor(rows)), observations_RO)
        self._row_of |= {row: len(self._row_of) + i for i, row in enumerate(rows)}
        self._reading = self._reading.joined(fresh) if self._reading else fresh


class ContextPolicy:
    """A trainable improver over a `ContextNetwork`; subclasses say which contexts they read."""

    method: str
    heir_of: tuple[str, ...] = ()
    """Methods of the same make whose weights this one may go on from."""
    compiles = True

    def __init__(self, config: PolicyConfig, spec: FamilySpec, frames: int, source: str = "untrained") -> None:
        self.config, self.spec, self.frames = config, spec, frames
        self._source = source
        self.network = ContextNetwork(config.network, spec)

    @property
    def source(self) -> str:
        """See `Improver.source`."""
        return self._source

    def readable(self, context: Context) -> Context:
        """The context as this policy reads it. Raises ValueError for one that it cannot read."""
        raise NotImplementedError

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`: likelihood of the expert's actions, and the hidden goal as a side task."""
        assert batch.segments is not None
        reading = self.network.read(batch.segments, batch.start_BO)
        mixture = self.network.answer(reading, batch.observations_BQO)
        action = -mixture.log_probability(batch.labels_BQA).mean()
        belief = self.network.belief_error(reading.belief_BG, batch.goal_BG)
        if batch.segments.has_demonstration:
            belief = belief + self.network.belief_error(reading.shown_BG, batch.shown_goal_BG)
        return Losses(action + self.config.belief_weight * belief, action, belief)

    @torch.inference_mode()
    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> MixtureActor:
        """See `Improver.actor`. A context is encoded once for the episode, when the first observation is there."""
        self.network.eval()
        readable = [self.readable(context) for context in contexts]
        segments = segments_of(readable, self.frames, self.spec.reward_scale)
        readings = _Readings(self.network, segments)

        def answer(rows: Tensor, observations_RO: Tensor) -> Mixture:
            mixture = self.network.answer(readings.of(rows, observations_RO), observations_RO[:, None])
            return Mixture(mixture.logits_M[:, 0], mixture.means_MA[:, 0], mixture.log_deviations_MA[:, 0])

        return MixtureActor(self.config.acting, answer, seeds, [context.solved for context in contexts])

    def save(self, directory: Path) -> None:
        """Write the policy's folder."""
        settings = {"config": asdict(self.config), "spec": spec_to_json(self.spec), "frames": self.frames}
        save_policy(directory, self.method, self.network, settings)

    @classmethod
    def from_description(cls, directory: Path, content: Mapping[str, Any]) -> Self:
        """The policy that `save` wrote. Raises ValueError if it does not fit."""
        config = PolicyConfig(
            NetworkConfig(**content["config"]["network"]),
            ActingConfig(**content["config"]["acting"]),
            content["config"]["belief_weight"],
        )
        source = f"{cls.method} {content['sha256'][:12]}"
        policy = cls(config, spec_from_json(content["spec"]), content["frames"], source)
        load_weights(directory, policy.network)
        return policy

    def start_from(self, directory: Path) -> None:
        """Take the weights of a saved policy of the same make."""
        inherit_weights(directory, self.network, self.method, *self.heir_of)
