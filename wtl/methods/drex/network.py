"""A reward that is learned from rankings alone: a state beside a demonstration in, a number out.

What is seen are distances: from where the episode began, from where the demonstration ended, and between what was done
and what was demonstrated. Directions are left out, so that one network serves all families and few episodes teach it.
Traps: the scale and the zero of a learned reward mean nothing (`wtl.methods.drex.rewards` gives them a meaning); and
where the goal is hidden, the demonstration ends at another one, so the reward cannot know it. Sources: D-REX (arXiv
1907.03976, section 4) for the ranking loss; SSRR (arXiv 2010.11723, section 4.2) for the sigmoid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.methods.drex.config import RankingConfig
from wtl.methods.learner import Losses
from wtl.methods.nn.features import ObservationFeatures
from wtl.methods.nn.mlp import two_layers

_LIMIT = 5.0
_NEAR = 0.3  # lengths below this share of `ObservationFeatures.scale` are told apart more finely


def bradley_terry(scores_BQ: Tensor, better_BQQ: Tensor) -> Tensor:
    """Return the mean surprise (nats) at each pair in which the first of two of one row is better; 0 without a pair.

    The first wins with probability exp(s_i) / (exp(s_i) + exp(s_j)). Source: arXiv 1907.03976, equation 3.

    Args:
        scores_BQ: the sum of rewards of each snippet.
        better_BQQ: bool, whether snippet i is better than snippet j.
    """
    surprise = nn.functional.softplus(scores_BQ[:, None, :] - scores_BQ[:, :, None])
    return (surprise * better_BQQ).sum() / better_BQQ.sum().clamp(min=1)


def sigmoid_of_noise(noise_BQ: Tensor, shape_B4: Tensor) -> Tensor:
    """Return (B, Q), the performance at each level of noise: floor + height / (1 + exp(slope (noise - middle))).

    Args:
        noise_BQ: in units of the action.
        shape_B4: floor, height, slope and middle; height and slope not negative, so that noise never helps.
    """
    floor, height, slope, middle = shape_B4[:, None].unbind(-1)
    return floor + height * torch.sigmoid(-slope * (noise_BQ - middle))


class RewardNetwork(nn.Module):
    """(..., size) features of states -> (...) rewards."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.trunk = two_layers(size, width)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.head(self.trunk(features)).squeeze(-1)


class Ranker(nn.Module):
    """States, the start of their episode and a demonstration in; a reward for each state out."""

    def __init__(self, config: RankingConfig, spec: FamilySpec, fits_sigmoid: bool) -> None:
        super().__init__()
        self.features = ObservationFeatures(spec.layout)
        points, pairs, dimensions = len(spec.layout.points), len(self.features.pairs), spec.layout.dimensions
        moved = points * dimensions
        size = (4 * points + pairs) * 2 + 2 * len(spec.layout.scalars)
        self.ranking = RewardNetwork(size, config.width)
        self.regressed = RewardNetwork(size, config.width) if fits_sigmoid else None
        self.shape = nn.Sequential(nn.Linear(moved, 32), nn.GELU(), nn.Linear(32, 4)) if fits_sigmoid else None

    def forward(self, observations: Tensor, start: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """Return (...) rewards of observations (..., O).

        Args:
            start: (..., O) how the episode began.
            begin, end: (..., O) the first and the last frame of the demonstration.
        """
        network = self.ranking if self.regressed is None else self.regressed
        return network(self.seen(observations, start, begin, end))

    def seen(self, observations: Tensor, start: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """Return (..., size): what a reward sees of a state; the arguments are those of `forward`."""
        features = self.features
        (now, here), (then, was), (first, was_first), (last, is_last) = (
            features.positions(x) for x in (observations, start, begin, end)
        )
        moved, asked = now - then, last - first
        apart, both = features.apart(now, here)
        apart_last, both_last = features.apart(last, is_last)
        there, shown = here & was, was_first & is_last
        vectors = torch.cat([now - last, moved, asked, moved - asked, apart - apart_last], dim=-2)
        present = torch.cat([here & is_last, there, shown, there & shown, both & both_last], dim=-1)
        lengths = (vectors / features.scale).norm(dim=-1) * present
        changes = [features.change(observations, start).abs(), features.change(observations, end).abs()]
        return torch.cat([lengths.clamp(max=_LIMIT), (lengths / _NEAR).clamp(max=1.0), *changes], dim=-1)

    def sigmoid(self, begin_BO: Tensor, end_BO: Tensor) -> Tensor:
        """Return (B, 4), how performance falls with noise where this was demonstrated; see `sigmoid_of_noise`."""
        assert self.shape is not None
        (first, was), (last, there) = (self.features.positions(x) for x in (begin_BO, end_BO))
        moved = ((last - first) * (was & there)[..., None] / self.features.scale).clamp(-_LIMIT, _LIMIT)
        floor, height, slope, middle = self.shape(moved.flatten(-2)).unbind(-1)
        softplus = nn.functional.softplus
        return torch.stack([floor, softplus(height), 4.0 * softplus(slope), softplus(middle)], dim=-1)


@dataclass(frozen=True)
class RankerLearner:
    """Trains a ranker on snippets of the ladder; true rewards are never read."""

    network: Ranker
    config: RankingConfig
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        assert batch.windows is not None and batch.context is not None and batch.context.demonstrations is not None
        states = batch.windows.observations_BQWO[:, :, :: self.config.stride_steps]
        shown = batch.context.demonstrations.observations_BSFO[:, 0]
        begin, end = shown[:, 0], shown[:, -1]
        rows = (*begin.shape[:1], 1, 1, begin.shape[-1])
        around = (batch.starts_BQO[:, :, None].expand_as(states), begin.view(rows), end.view(rows))
        seen = self.network.seen(states, around[0], around[1].expand_as(states), around[2].expand_as(states))
        scores = self.network.ranking(seen).sum(-1)
        steps = batch.windows.steps_BQW[..., -1]
        better = worse_by(batch.noise_BQ, self.config.margin) & near(steps, self.config.apart_steps)
        total = bradley_terry(scores, better)
        if self.network.regressed is not None:
            total = total + self._sigmoid_loss(batch, scores.detach(), seen, (begin, end))
        return Losses(total)

    def _sigmoid_loss(self, batch: Batch, scores: Tensor, seen: Tensor, shown: tuple[Tensor, Tensor]) -> Tensor:
        """The ranking's scores give the sigmoid, and the sigmoid gives the reward; each learns from the one before."""
        assert self.network.regressed is not None
        scores = scores / seen.shape[-2]
        fitted = sigmoid_of_noise(batch.noise_BQ, self.network.sigmoid(*shown))
        regressed = self.network.regressed(seen).mean(-1)
        return (fitted - scores).square().mean() + (regressed - fitted.detach()).square().mean()


def worse_by(noise_BQ: Tensor, margin: float) -> Tensor:
    """Return (B, Q, Q) bool: whether j has at least `margin` more noise than i, so that i is better."""
    return noise_BQ[:, None, :] - noise_BQ[:, :, None] >= margin


def near(steps_BQ: Tensor, apart_steps: int) -> Tensor:
    """Return (B, Q, Q) bool: whether two snippets end within so many steps of their episodes."""
    return (steps_BQ[:, None, :] - steps_BQ[:, :, None]).abs() <= apart_steps
