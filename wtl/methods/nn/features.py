"""What a network sees of observations (positions, also relative to one another, and other numbers) and of rewards."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from wtl.core.task import ObservationLayout
from wtl.data.segments import Segments

OUTCOMES = 6
_LIMIT = 5.0  # standard deviations; a position off the map must not drown the rest


class ObservationFeatures(nn.Module):
    """(..., O) observations -> (..., size) normalised features, absent objects as zeros."""

    mean: Tensor
    deviation: Tensor
    _positions: Tensor
    _scalars: Tensor
    _first: Tensor
    _second: Tensor

    def __init__(self, layout: ObservationLayout) -> None:
        super().__init__()
        self.layout = layout
        self.pairs = list(itertools.combinations(range(len(layout.points)), 2))
        self.vectors = len(layout.points) + len(self.pairs)
        self.size = self.vectors * layout.dimensions + len(layout.scalars)
        # Indices as tensors: a list would be turned into one at each of the hundreds of control steps of an episode.
        positions = [p + d for p in layout.points for d in range(layout.dimensions)]
        indices = {"_positions": positions, "_scalars": layout.scalars, "_first": [a for a, _ in self.pairs]}
        for name, numbers in (indices | {"_second": [b for _, b in self.pairs]}).items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.int64), persistent=False)
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("deviation", torch.ones(self.size))

    def _raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        size = self.layout.dimensions
        positions, here = self.positions(x)
        apart, both = self.apart(positions, here)
        vectors, present = torch.cat([positions, apart], dim=-2), torch.cat([here, both], dim=-1)
        scalars = x.index_select(-1, self._scalars)
        mask = torch.cat([present.repeat_interleave(size, dim=-1), torch.ones_like(scalars, dtype=torch.bool)], -1)
        return torch.cat([vectors.flatten(-2), scalars], dim=-1), mask

    def fit(self, observations_NO: Tensor) -> None:
        """Take mean and deviation from data; each coordinate of the same vector keeps one deviation."""
        raw, mask = self._raw(observations_NO)
        count = mask.sum(0).clamp(min=1)
        mean = (raw * mask).sum(0) / count
        deviation = (((raw - mean) * mask).square().sum(0) / count).sqrt()
        size = self.vectors * self.layout.dimensions
        together = deviation[:size].unflatten(0, (self.vectors, -1)).square().mean(-1).sqrt()
        deviation[:size] = together.repeat_interleave(self.layout.dimensions)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=0.02))

    def forward(self, observations: Tensor) -> Tensor:
        """(..., O) -> (..., size)."""
        raw, mask = self._raw(observations)
        return ((raw - self.mean) / self.deviation).clamp(-_LIMIT, _LIMIT) * mask

    @property
    def view_vectors(self) -> int:
        """V, the vectors of a view."""
        points = len(self.layout.points)
        return points * (points + 2) + len(self.pairs)

    def positions(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """(..., O) -> (..., P, D) positions in world coordinates and (..., P) whether each is present."""
        positions = observations.index_select(-1, self._positions).unflatten(-1, (-1, self.layout.dimensions))
        return positions, positions.abs().sum(-1) > 0

    def apart(self, positions: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """(..., P, D) and (..., P) -> the vectors between all pairs of positions and whether both are there."""
        vectors = positions.index_select(-2, self._second) - positions.index_select(-2, self._first)
        return vectors, present.index_select(-1, self._first) & present.index_select(-1, self._second)

    @property
    def middle(self) -> Tensor:
        """(P, D) where each point is on average."""
        points, size = len(self.layout.points), self.layout.dimensions
        return self.mean[: points * size].unflatten(0, (points, size))

    @property
    def scale(self) -> Tensor:
        """() one length for all vectors of a view: how far the hand gets about."""
        return self.deviation[: self.layout.dimensions].mean()

    def view(self, observations: Tensor, start: Tensor, goal: Tensor | None = None) -> Tensor:
        """How things stand in an episode: (..., O) now, (..., O) at its start, (..., D) its goal -> (..., V, D).

        All positions as seen from the world, from one another, from where all were at the start, and from the goal
        (without one, V is smaller by the points); in lengths of `scale`; vectors to or from an absent object are zeros.
        """
        now, here = self.positions(observations)
        then, was = self.positions(start)
        since = (now[..., :, None, :] - then[..., None, :, :]).flatten(-3, -2)
        since_here = (here[..., :, None] & was[..., None, :]).flatten(-2)
        apart, both = self.apart(now, here)
        vectors, present = [now - self.middle, apart, since], [here, both, since_here]
        if goal is not None:
            vectors.append(now - goal[..., None, :])
            present.append(here)
        view = torch.cat(vectors, dim=-2) / self.scale
        return view.clamp(-_LIMIT, _LIMIT) * torch.cat(present, dim=-1)[..., None]

    def change(self, observations: Tensor, start: Tensor) -> Tensor:
        """(..., O) now and at the start -> (..., number of scalars): how the other numbers changed, normalised.

        Their values identify a family; their changes mean the same in all of them.
        """
        if not self.layout.scalars:
            return observations[..., :0]
        change = observations.index_select(-1, self._scalars) - start.index_select(-1, self._scalars)
        change = change / self.deviation[-len(self.layout.scalars) :]
        return change.clamp(-_LIMIT, _LIMIT)


def outcomes(segments: Segments) -> Tensor:
    """(B, S, F, OUTCOMES) what frames say of rewards and successes."""
    rewards = segments.rewards_BSF
    centred = rewards - rewards.mean(dim=-1, keepdim=True)
    parts = [
        rewards,
        # Within an episode: which frames were better than others, whatever the family's scale.
        centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + 0.01),
        torch.log(rewards.clamp(min=0.0) + 0.03),
        segments.mean_rewards_BSF,
        segments.successes_BSF,
        segments.masked_BS[..., None].expand_as(rewards),
    ]
    return torch.stack(parts, dim=-1)
