"""A network that reads demonstrations and trials: encode a context once, then answer queries.

Frames of demonstration and trials, and the start of the present episode, become tokens; a transformer encodes them;
two goals are localised in them and supervised (their labels exist in training only): the demonstration's and the
hidden goal of the task. With those, every frame and every query has a *view*: positions as seen from one another,
from the start, from the goal. A query (the present observation, without the frame before it, so that there is
nothing to copy) attends to the frames by its view, and ends in a mixture over actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from wtl.core.bounds import Between, Bounded, Components, Layers, Width
from wtl.core.task import FamilySpec
from wtl.data.segments import ContextBatch, Segments
from wtl.methods.nn.attention import KeyValueCache, RelativeAttentionBlock, SelfAttentionBlock, sinusoids
from wtl.methods.nn.features import OUTCOMES, ObservationFeatures, outcomes
from wtl.methods.nn.mixture import Mixture, MixtureHead


@dataclass(frozen=True)
class NetworkConfig(Bounded):
    """Sizes of the context network."""

    width: Width = 64
    """E."""
    heads: Annotated[int, Between(1, 256)] = 4
    """Heads of each attention layer; `width` must be a multiple."""
    encoder_layers: Layers = 3
    """Over the tokens of the context."""
    reader_layers: Layers = 2
    """From the query into the frames."""
    components: Components = 5
    """M; the paper uses 10."""
    max_trials: Annotated[int, Between(1, 100)] = 4
    """Trials that a context can hold; of more, the newest are read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"network.width must be a multiple of network.heads, got {self.width} and {self.heads}")


@dataclass(frozen=True)
class EncodedContext:
    """A context after it was encoded: all that a control step needs."""

    start_BO: Tensor
    """The present episode's first observation."""
    goal_BG: Tensor
    """The estimate of the hidden goal, in world coordinates."""
    demonstrated_goal_BG: Tensor
    """The estimate of the demonstration's goal; zeros without one."""
    caches: tuple[KeyValueCache, ...]
    """One a reader layer."""

    def rows(self, rows: Tensor) -> EncodedContext:
        """Return the contexts of these numbers."""
        caches = tuple(tuple(part[rows] for part in cache) for cache in self.caches)
        return EncodedContext(self.start_BO[rows], self.goal_BG[rows], self.demonstrated_goal_BG[rows], caches)

    def joined(self, other: EncodedContext) -> EncodedContext:
        """Return these contexts and then the others."""

        def both(a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a, b])

        pairs = zip(self.caches, other.caches, strict=True)
        return EncodedContext(
            both(self.start_BO, other.start_BO),
            both(self.goal_BG, other.goal_BG),
            both(self.demonstrated_goal_BG, other.demonstrated_goal_BG),
            tuple(tuple(map(both, one, another)) for one, another in pairs),
        )


class GoalLocaliser(nn.Module):
    """A position as an average of positions that were seen, each with an offset, weighted by what a token says.

    Pointing at the best frame is learned at once, and the rest is triangulation from there.
    """

    def __init__(self, width: int, points: int, dimensions: int) -> None:
        super().__init__()
        self.points, self.dimensions = points, dimensions
        self.head = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, points * (1 + dimensions))
        )

    def forward(self, x_BLE: Tensor, positions_BLPD: Tensor, present_BLP: Tensor, unit: Tensor) -> Tensor:
        """Return the (B, D) estimate from tokens and the positions in their frames."""
        out = self.head(x_BLE).float().unflatten(-1, (self.points, 1 + self.dimensions))
        weight = out[..., 0].masked_fill(~present_BLP, -1e4).flatten(1).softmax(dim=1)
        estimates = positions_BLPD + out[..., 1:] * unit
        return (weight[..., None] * estimates.flatten(1, 2)).sum(dim=1)


class ContextNetwork(nn.Module):
    """Contexts, the start of an episode and queries in, mixtures over actions out."""

    def __init__(self, config: NetworkConfig, spec: FamilySpec) -> None:
        super().__init__()
        if spec.goal_size != spec.layout.dimensions:
            raise ValueError(f"a goal must be a position of {spec.layout.dimensions} numbers, got {spec.goal_size}")
        self.config = config
        width, points, dimensions = config.width, len(spec.layout.points), spec.layout.dimensions
        self.features = ObservationFeatures(spec.layout)
        view, scalars = self.features.view_vectors * dimensions, len(spec.layout.scalars)
        payload = spec.action_size + points * dimensions
        self.frame = nn.Sequential(
            nn.Linear(view - points * dimensions + scalars + payload + OUTCOMES, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        # One for demonstrations, one for each trial (the newest last), one for the start of this episode.
        self.segment = nn.Parameter(0.02 * torch.randn(2 + config.max_trials, width))
        self.encoder = nn.ModuleList(SelfAttentionBlock(width, config.heads) for _ in range(config.encoder_layers))
        self.encoded = nn.LayerNorm(width)
        self.goal = GoalLocaliser(width, points, dimensions)
        self.demonstrated_goal = GoalLocaliser(width, points, dimensions)
        self.query = nn.Sequential(nn.Linear(view + scalars, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.reader = nn.ModuleList(
            RelativeAttentionBlock(width, config.heads, self.features.view_vectors, dimensions, payload)
            for _ in range(config.reader_layers)
        )
        self.trunk = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.GELU()
        )
        self.head = MixtureHead(width, config.components, spec.action_size)

    def _payload(self, segments: Segments, positions: Tensor, present: Tensor) -> Tensor:
        """Return (B, S, F, C): each frame's action, and the way of all positions to the next frame."""
        following = torch.cat([positions[:, :, 1:], positions[:, :, -1:]], dim=2)
        ahead = (following - positions) * present[..., None] / self.features.scale
        return torch.cat([segments.actions_BSFA, ahead.flatten(-2)], dim=-1)

    def _segment_embeddings(self, context: ContextBatch) -> Tensor:
        """Return (S, E)."""
        demonstrations = context.demonstrations.masked_BS.shape[1] if context.demonstrations else 0
        trials = context.trials.masked_BS.shape[1] if context.trials else 0
        return self.segment[[0] * demonstrations + list(range(1, 1 + trials))]

    def _tokens(self, context: ContextBatch, segments: Segments, payload: Tensor, start_BO: Tensor) -> Tensor:
        seen = self._seen(segments.observations_BSFO, segments.observations_BSFO[:, :, :1])
        x = torch.cat([seen, payload, outcomes(segments)], dim=-1)
        x_BSFE = self.frame(x) + sinusoids(x.shape[2], self.config.width).to(x)
        frames = (x_BSFE + self._segment_embeddings(context)[:, None]).flatten(1, 2)
        now = self._seen(start_BO, start_BO)
        now = torch.cat([now, now.new_zeros(len(now), x.shape[-1] - now.shape[-1])], dim=-1)
        return torch.cat([frames, (self.frame(now) + self.segment[-1])[:, None]], dim=1)

    def _seen(self, observations: Tensor, start: Tensor) -> Tensor:
        start = start.expand_as(observations)
        return torch.cat(
            [self.features.view(observations, start).flatten(-2), self.features.change(observations, start)], -1
        )

    def encode(self, context: ContextBatch, start_BO: Tensor) -> EncodedContext:
        """Return B encoded contexts, each for an episode that begins with this observation.

        Raises:
            ValueError: the contexts hold neither demonstrations nor trials.
        """
        segments = context.all
        observations = segments.observations_BSFO
        positions, present = self.features.positions(observations)
        payload = self._payload(segments, positions, present)
        x_BLE = self._tokens(context, segments, payload, start_BO)
        for block in self.encoder:
            x_BLE = block(x_BLE)
        x_BLE = self.encoded(x_BLE)

        now, here = self.features.positions(start_BO[:, None])
        positions_BLPD = torch.cat([positions.flatten(1, 2), now], dim=1)
        present_BLP = torch.cat([present.flatten(1, 2), here], dim=1)
        scale = self.features.scale
        goal_BG = self.goal(x_BLE, positions_BLPD, present_BLP, scale)
        demonstrated_BG = torch.zeros_like(goal_BG)
        goals_BSG = goal_BG[:, None].expand(-1, observations.shape[1], -1)
        if context.demonstrations is not None:
            count, frames = context.demonstrations.observations_BSFO.shape[1:3]
            own = slice(0, count * frames)
            demonstrated_BG = self.demonstrated_goal(x_BLE[:, own], positions_BLPD[:, own], present_BLP[:, own], scale)
            goals_BSG = torch.cat([demonstrated_BG[:, None].expand(-1, count, -1), goals_BSG[:, count:]], dim=1)
        first = observations[:, :, :1].expand_as(observations)
        view = self.features.view(observations, first, goals_BSG[:, :, None]).flatten(1, 2)
        caches = tuple(
            block.keys_and_values(x_BLE[:, :-1], view, payload.flatten(1, 2))  # type: ignore[operator]
            for block in self.reader
        )
        return EncodedContext(start_BO, goal_BG, demonstrated_BG, caches)

    def answer(self, encoded: EncodedContext, observations_BQO: Tensor) -> Mixture:
        """Return mixtures over the actions of B x Q queries."""
        start_BQO = encoded.start_BO[:, None].expand_as(observations_BQO)
        view_BQVD = self.features.view(observations_BQO, start_BQO, encoded.goal_BG[:, None])
        change = self.features.change(observations_BQO, start_BQO)
        x_BQE = self.query(torch.cat([view_BQVD.flatten(-2), change], dim=-1))
        for block, cache in zip(self.reader, encoded.caches, strict=True):
            x_BQE = block(x_BQE, view_BQVD, cache)
        return self.head(self.trunk(x_BQE))

    def goal_error(self, estimate_BG: Tensor, goal_BG: Tensor) -> Tensor:
        """Return the mean smooth-L1 distance of estimate and goal, in deviations of the hand's position."""
        scale = self.features.deviation[: self.features.layout.dimensions]
        return nn.functional.smooth_l1_loss(estimate_BG / scale, goal_BG / scale, beta=0.1)


class EncodedContexts:
    """The contexts of a batch of episodes, each encoded when its episode's first observation is there."""

    def __init__(self, network: ContextNetwork, contexts: ContextBatch) -> None:
        self._network, self._contexts = network, contexts
        self._index_of: dict[int, int] = {}
        self._encoded: EncodedContext | None = None
        self._last: tuple[list[int], EncodedContext] | None = None

    def select(self, rows_R: Tensor, observations_RO: Tensor) -> EncodedContext:
        """Return the contexts of these rows. Rows change seldom, so the last selection is kept."""
        rows = rows_R.tolist()
        if self._last is None or self._last[0] != rows:
            new = [i for i, row in enumerate(rows) if row not in self._index_of]
            if new:
                self._encode([rows[i] for i in new], observations_RO[new])
            assert self._encoded is not None
            self._last = rows, self._encoded.rows(torch.tensor([self._index_of[row] for row in rows]))
        return self._last[1]

    def answer(self, rows_R: Tensor, observations_RO: Tensor) -> Mixture:
        """Return the mixtures (R,) over what these rows do now; the argument of `MixturePolicy`."""
        mixture = self._network.answer(self.select(rows_R, observations_RO), observations_RO[:, None])
        return Mixture(*(part[:, 0] for part in vars(mixture).values()))

    def _encode(self, rows: list[int], observations_RO: Tensor) -> None:
        fresh = self._network.encode(self._contexts.rows(torch.tensor(rows)), observations_RO)
        self._index_of |= {row: len(self._index_of) + i for i, row in enumerate(rows)}
        self._encoded = self._encoded.joined(fresh) if self._encoded else fresh
