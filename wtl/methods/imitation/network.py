"""The network of trial and retrial policy: read a context once, then answer queries.

Frames of demonstration and trials, and the start of the present episode, become tokens; a transformer
reads them; two beliefs are pooled out of them and supervised (their labels exist in training only): the
goal of the demonstration and the hidden goal of the task. With those, every frame and every query has a
*view*: places as seen from one another, from the start, from the goal. A query (the present observation,
without the frame before it, so that there is nothing to copy) looks into the frames by its view, and ends
in a mixture over actions. The context is encoded once per episode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Segments
from wtl.methods.nn.attention import Offer, RelativeAttentionBlock, SelfAttentionBlock, sinusoids
from wtl.methods.nn.features import OUTCOMES, ObservationFeatures, outcomes
from wtl.methods.nn.mixture import Mixture, MixtureHead


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the context network."""

    width: int = 64
    """E."""
    heads: int = 4
    encoder_layers: int = 3
    """Over the tokens of the context."""
    reader_layers: int = 2
    """From the query into the frames."""
    components: int = 5
    """M; the paper uses 10."""
    max_trials: int = 4
    """Trials that a context can hold; of more, the newest are read."""


@dataclass(frozen=True)
class Reading:
    """A context after it was read: all that a control step needs."""

    start_BO: Tensor
    """The present episode's first observation."""
    belief_BG: Tensor
    """Where the network thinks the hidden goal is, in world coordinates."""
    shown_BG: Tensor
    """Where it thinks the demonstration's goal was; zeros without one."""
    offers: tuple[Offer, ...]

    def rows(self, rows: Tensor) -> Reading:
        """The contexts of these numbers."""
        offers = tuple(tuple(part[rows] for part in offer) for offer in self.offers)
        return Reading(self.start_BO[rows], self.belief_BG[rows], self.shown_BG[rows], offers)

    def joined(self, other: Reading) -> Reading:
        """These contexts and then the others."""

        def both(a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a, b])

        pairs = zip(self.offers, other.offers, strict=True)
        offers = tuple(tuple(map(both, one, another)) for one, another in pairs)
        return Reading(
            both(self.start_BO, other.start_BO),
            both(self.belief_BG, other.belief_BG),
            both(self.shown_BG, other.shown_BG),
            offers,
        )


class Votes(nn.Module):
    """A place as an average of places that were seen, each with an offset, weighted by what a token says.

    Pointing at the best frame is learned at once, and the rest is triangulation from there.
    """

    def __init__(self, width: int, points: int, dimensions: int) -> None:
        super().__init__()
        self.points, self.dimensions = points, dimensions
        self.ballot = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, points * (1 + dimensions))
        )

    def forward(self, x_BLE: Tensor, places_BLPD: Tensor, present_BLP: Tensor, unit: Tensor) -> Tensor:
        """Tokens and the places in their frames -> (B, D)."""
        ballot = self.ballot(x_BLE).float().unflatten(-1, (self.points, 1 + self.dimensions))
        weight = ballot[..., 0].masked_fill(~present_BLP, -1e4).flatten(1).softmax(dim=1)
        votes = places_BLPD + ballot[..., 1:] * unit
        return (weight[..., None] * votes.flatten(1, 2)).sum(dim=1)


class ContextNetwork(nn.Module):
    """Segments, the start of an episode and queries in, mixtures over actions out."""

    def __init__(self, config: NetworkConfig, spec: FamilySpec) -> None:
        super().__init__()
        if spec.goal_size != spec.layout.dimensions:
            raise ValueError(f"a goal must be a place of {spec.layout.dimensions} coordinates, got {spec.goal_size}")
        self.config = config
        width, points, dimensions = config.width, len(spec.layout.points), spec.layout.dimensions
        self.features = ObservationFeatures(spec.layout)
        view, scalars = self.features.view_vectors * dimensions, len(spec.layout.scalars)
        told = spec.action_size + points * dimensions
        self.frame = nn.Sequential(
            nn.Linear(view - points * dimensions + scalars + told + OUTCOMES, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        # Segment 0 is the demonstration, then the trials, the newest last, then the start of this episode.
        self.segment = nn.Parameter(0.02 * torch.randn(2 + config.max_trials, width))
        self.encoder = nn.ModuleList(SelfAttentionBlock(width, config.heads) for _ in range(config.encoder_layers))
        self.encoded = nn.LayerNorm(width)
        self.goal = Votes(width, points, dimensions)
        self.shown_goal = Votes(width, points, dimensions)
        self.query = nn.Sequential(nn.Linear(view + scalars, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.reader = nn.ModuleList(
            RelativeAttentionBlock(width, config.heads, self.features.view_vectors, dimensions, told)
            for _ in range(config.reader_layers)
        )
        self.trunk = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.GELU()
        )
        self.head = MixtureHead(width, config.components, spec.action_size)

    def _told(self, segments: Segments, places: Tensor, present: Tensor) -> Tensor:
        """(B, S, F, C) what each frame hands over as it is: its action, and the way of all places to the next frame."""
        following = torch.cat([places[:, :, 1:], places[:, :, -1:]], dim=2)
        ahead = (following - places) * present[..., None] / self.features.scale
        return torch.cat([segments.actions_BSFA, ahead.flatten(-2)], dim=-1)

    def _tokens(self, segments: Segments, told: Tensor, start_BO: Tensor) -> Tensor:
        seen = self._seen(segments.observations_BSFO, segments.observations_BSFO[:, :, :1])
        x = torch.cat([seen, told, outcomes(segments)], dim=-1)
        x_BSFE = self.frame(x) + sinusoids(x.shape[2], self.config.width).to(x)
        trials = x.shape[1] - segments.has_demonstration
        kinds = [0] * segments.has_demonstration + list(range(1, 1 + trials))
        frames = (x_BSFE + self.segment[kinds][:, None]).flatten(1, 2)
        now = self._seen(start_BO, start_BO)
        now = torch.cat([now, now.new_zeros(len(now), x.shape[-1] - now.shape[-1])], dim=-1)
        return torch.cat([frames, (self.frame(now) + self.segment[-1])[:, None]], dim=1)

    def _seen(self, observations: Tensor, start: Tensor) -> Tensor:
        start = start.expand_as(observations)
        return torch.cat(
            [self.features.view(observations, start).flatten(-2), self.features.change(observations, start)], -1
        )

    def read(self, segments: Segments, start_BO: Tensor) -> Reading:
        """Encode B contexts, each for an episode that begins with this observation."""
        observations = segments.observations_BSFO
        frames = observations.shape[2]
        places, present = self.features.places(observations)
        told = self._told(segments, places, present)
        x_BLE = self._tokens(segments, told, start_BO)
        for block in self.encoder:
            x_BLE = block(x_BLE)
        x_BLE = self.encoded(x_BLE)

        now, here = self.features.places(start_BO[:, None])
        places_BLPD = torch.cat([places.flatten(1, 2), now], dim=1)
        present_BLP = torch.cat([present.flatten(1, 2), here], dim=1)
        belief_BG = self.goal(x_BLE, places_BLPD, present_BLP, self.features.scale)
        shown_BG = torch.zeros_like(belief_BG)
        goals_BSG = belief_BG[:, None].expand(-1, observations.shape[1], -1)
        if segments.has_demonstration:
            own = slice(0, frames)
            shown_BG = self.shown_goal(x_BLE[:, own], places_BLPD[:, own], present_BLP[:, own], self.features.scale)
            goals_BSG = torch.cat([shown_BG[:, None], goals_BSG[:, 1:]], dim=1)
        first = observations[:, :, :1].expand_as(observations)
        view = self.features.view(observations, first, goals_BSG[:, :, None]).flatten(1, 2)
        offers = tuple(block.offer(x_BLE[:, :-1], view, told.flatten(1, 2)) for block in self.reader)  # type: ignore[operator]
        return Reading(start_BO, belief_BG, shown_BG, offers)

    def answer(self, reading: Reading, observations_BQO: Tensor) -> Mixture:
        """Mixtures over the actions of B x Q queries."""
        start_BQO = reading.start_BO[:, None].expand_as(observations_BQO)
        view_BQVD = self.features.view(observations_BQO, start_BQO, reading.belief_BG[:, None])
        change = self.features.change(observations_BQO, start_BQO)
        x_BQE = self.query(torch.cat([view_BQVD.flatten(-2), change], dim=-1))
        for block, offer in zip(self.reader, reading.offers, strict=True):
            x_BQE = block(x_BQE, view_BQVD, offer)
        return self.head(self.trunk(x_BQE))

    def belief_error(self, belief_BG: Tensor, goal_BG: Tensor) -> Tensor:
        """Mean smooth-L1 distance of belief and goal in deviations of the hand's position."""
        scale = self.features.deviation[: self.features.layout.dimensions]
        return nn.functional.smooth_l1_loss(belief_BG / scale, goal_BG / scale, beta=0.1)
