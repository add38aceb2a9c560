"""The network of trial and retrial policy: read a context once, then answer queries.

Frames of demonstration and trials become tokens; a transformer reads them; a belief about the hidden
goal is pooled out of them and supervised (its label exists in training only); a query (the present
observation, without the frame before it, so that there is nothing to copy) is joined with the belief,
looks into the tokens, and ends in a mixture over actions. The context is encoded once per episode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wtl.batch import Segments
from wtl.nn.attention import CrossAttentionBlock, KeyValue, SelfAttentionBlock, sinusoids
from wtl.nn.features import ObservationFeatures
from wtl.nn.mixture import Mixture, MixtureHead
from wtl.task import FamilySpec


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the context network."""

    width: int = 64
    """E."""
    heads: int = 4
    encoder_layers: int = 3
    """Over the tokens of the context."""
    reader_layers: int = 2
    """Cross-attention from the query."""
    components: int = 5
    """M; the paper uses 10."""
    max_trials: int = 4
    """Trials that a context can hold; of more, the newest are read."""


@dataclass(frozen=True)
class Reading:
    """A context after it was read: all that a control step needs."""

    offers: tuple[KeyValue, ...]
    belief_BG: Tensor
    """Where the network thinks the hidden goal is, in world coordinates."""


class ContextNetwork(nn.Module):
    """Segments and queries in, mixtures over actions out."""

    def __init__(self, config: NetworkConfig, spec: FamilySpec) -> None:
        super().__init__()
        if spec.goal_size != spec.layout.dimensions:
            raise ValueError(f"a goal must be a place of {spec.layout.dimensions} coordinates, got {spec.goal_size}")
        self.config = config
        width = config.width
        self.features = ObservationFeatures(spec.layout)
        self.frame = nn.Sequential(
            nn.Linear(self.features.size + spec.action_size + 6, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        # Segment 0 is the demonstration, then the trials, the newest last.
        self.segment = nn.Parameter(0.02 * torch.randn(1 + config.max_trials, width))
        self.encoder = nn.ModuleList(SelfAttentionBlock(width, config.heads) for _ in range(config.encoder_layers))
        self.encoded = nn.LayerNorm(width)
        # The belief is an average of places where the hand was, each with an offset: pointing at the best
        # frame is learned at once, and the rest is triangulation from there.
        self.vote = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 1 + spec.goal_size))
        self.query = nn.Sequential(
            nn.Linear(self.features.size + len(spec.layout.points) * spec.layout.dimensions, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        self.reader = nn.ModuleList(CrossAttentionBlock(width, config.heads) for _ in range(config.reader_layers))
        self.trunk = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.GELU()
        )
        self.head = MixtureHead(width, config.components, spec.action_size)

    def _tokens(self, segments: Segments) -> Tensor:
        frames = segments.rewards_BSF.shape[-1]
        rewards = segments.rewards_BSF
        centred = rewards - rewards.mean(dim=-1, keepdim=True)
        outcome = torch.stack(
            [
                rewards,
                # Within an episode: which frames were better than others, whatever the family's scale.
                centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + 0.01),
                torch.log(rewards.clamp(min=0.0) + 0.03),
                segments.mean_rewards_BSF,
                segments.successes_BSF,
                segments.masked_BS[..., None].expand_as(segments.rewards_BSF),
            ],
            dim=-1,
        )
        x = torch.cat([self.features(segments.observations_BSFO), segments.actions_BSFA, outcome], dim=-1)
        x_BSFE = self.frame(x) + sinusoids(frames, self.config.width).to(x)
        trials = x.shape[1] - segments.has_demonstration
        kinds = [0] * segments.has_demonstration + list(range(1, 1 + trials))
        return (x_BSFE + self.segment[kinds][:, None]).flatten(1, 2)

    def read(self, segments: Segments) -> Reading:
        """Encode B contexts."""
        x_BLE = self._tokens(segments)
        for block in self.encoder:
            x_BLE = block(x_BLE)
        x_BLE = self.encoded(x_BLE)
        weight_BL1, offset_BLG = self.vote(x_BLE).float().split([1, self.features.layout.dimensions], dim=-1)
        hand, size = self.features.layout.points[0], self.features.layout.dimensions
        place_BLG = segments.observations_BSFO[..., hand : hand + size].flatten(1, 2)
        votes_BLG = place_BLG + offset_BLG * self.features.deviation[:size]
        belief_BG = (weight_BL1.softmax(dim=1) * votes_BLG).sum(dim=1)
        offers = tuple(block.offer(x_BLE) for block in self.reader)  # type: ignore[operator]
        return Reading(offers, belief_BG)

    def answer(self, reading: Reading, observations_BQO: Tensor) -> Mixture:
        """Mixtures over the actions of B x Q queries."""
        belief_BQG = reading.belief_BG[:, None].expand(-1, observations_BQO.shape[1], -1)
        there = self.features.relative(belief_BQG, observations_BQO)
        x_BQE = self.query(torch.cat([self.features(observations_BQO), there], dim=-1))
        for block, offer in zip(self.reader, reading.offers, strict=True):
            x_BQE = block(x_BQE, offer)
        return self.head(self.trunk(x_BQE))

    def belief_error(self, belief_BG: Tensor, goal_BG: Tensor) -> Tensor:
        """Mean smooth-L1 distance of belief and goal in deviations of the hand's position."""
        scale = self.features.deviation[: self.features.layout.dimensions]
        return nn.functional.smooth_l1_loss(belief_BG / scale, goal_BG / scale, beta=0.1)
