"""Where has the end of what was demonstrated gone? A context in, scores of hypotheses (goal offsets) out.

Each hypothesis is scored by its consequences. If it were true, each object of the demonstration would have to come to
rest at a position that can be computed; every frame of every trial is then seen from there, beside the reward that it
got and beside what the demonstration says about how rewards rise on the way. All candidates are scored by the same
small network, one by one, so what is learned of one family's rewards holds for others. Without trials the score rests
on what the offset goes along with: the start of an object, or nothing. Training is InfoNCE over candidates, with an
energy-based model as in Implicit Behavioral Cloning, arXiv 2109.00137.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from wtl.core.bounds import Between, Bounded, Count, Width
from wtl.core.task import FamilySpec
from wtl.data.segments import ContextBatch, Segments
from wtl.methods.nn.features import OUTCOMES, ObservationFeatures, outcomes

_LIMIT = 5.0
_WIDE = 1.5  # deviation of candidates, in lengths of `ObservationFeatures.scale`


@dataclass(frozen=True)
class ScorerConfig(Bounded):
    """Sizes of the scorer, and how candidates are found."""

    width: Width = 48
    """E."""
    negatives: Annotated[int, Between(1, 100_000)] = 32
    """Candidates that stand beside the true offset in training."""
    proposals: Count = 800
    """Candidates that are scored when it acts."""
    visible_prior: Annotated[float, Between(0, 1, open_high=True)] = 0.3
    """When it acts, at least this much of the probability goes, in equal parts, to offsets along with something
    visible: in a family never seen the scorer can be sure of the wrong one, and these are few and soon tried."""


class OffsetScorer(nn.Module):
    """Contexts, the start of an episode, and candidates in; a score for each out."""

    def __init__(self, config: ScorerConfig, spec: FamilySpec) -> None:
        super().__init__()
        if spec.goal_size != spec.layout.dimensions:
            raise ValueError(f"a goal must be a position of {spec.layout.dimensions} numbers, got {spec.goal_size}")
        self.config = config
        width, points, dimensions = config.width, len(spec.layout.points), spec.layout.dimensions
        self.features = ObservationFeatures(spec.layout)
        seen_from = points * (dimensions + 2)
        self.pair = nn.Linear(seen_from, width)
        self.frame = nn.Linear(points * (points - 1) // 2 + points + len(spec.layout.scalars) + OUTCOMES + 1, width)
        self.deeper = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.weight = nn.Linear(width, 1)
        self.demonstration = nn.Linear(3 * width + 3 * points * dimensions, width)
        self.conditioning = nn.Linear(width, width)
        along = points * (dimensions + 3)
        self.score = nn.Sequential(
            nn.Linear(3 * width + 1 + along + dimensions + width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Linear(width, 1),
        )

    def visible(self, context: ContextBatch, start_BO: Tensor) -> tuple[Tensor, Tensor]:
        """Return the offsets that go along with something visible, and whether each is there.

        Returns:
            (B, P, D) offsets, first along with nothing (the hand starts where it likes), then with the start of each
            object; (B, P) bool.

        Raises:
            ValueError: no demonstration, so there is nothing that could have been offset.
        """
        if context.demonstrations is None:
            raise ValueError("a goal offset is relative to a demonstration, but the context has none")
        then, was = self.features.positions(context.demonstrations.observations_BSFO[:, 0, 0])
        now, here = self.features.positions(start_BO)
        there = was & here
        offsets = (now - then) * there[..., None]
        offsets[:, 0] = 0.0
        there[:, 0] = True
        return offsets, there

    def forward(self, context: ContextBatch, start_BO: Tensor, candidates_BCD: Tensor) -> Tensor:
        """Return (B, C) scores: logarithms of how likely each candidate is, up to a constant of the context."""
        visible_BPD, there_BP = self.visible(context, start_BO)
        segments, scale = context.all, self.features.scale
        positions, present = self.features.positions(segments.observations_BSFO)
        end, ended = positions[:, 0, -1], present[:, 0, -1]
        frame = self.frame(self._frame_features(segments, positions, present))
        own = self._consequences(frame[:, :1], positions[:, :1], present[:, :1], end[:, None], ended)
        demonstration_BE = self._demonstration(own, positions[:, 0], present[:, 0], start_BO)

        count = candidates_BCD.shape[1]
        if context.trials is not None:
            first = positions.shape[1] - context.trials.masked_BS.shape[1]
            ends_BCPD = end[:, None] + candidates_BCD[:, :, None]
            tried = (frame[:, first:], positions[:, first:], present[:, first:])
            consequences = self._consequences(*tried, ends_BCPD, ended, self.conditioning(demonstration_BE))
        else:
            consequences = own.new_zeros(len(own), count, own.shape[-1])
        has_trials = consequences.new_full((*consequences.shape[:2], 1), float(context.trials is not None))
        parts = [consequences, has_trials, self._along(candidates_BCD, visible_BPD, there_BP), candidates_BCD / scale]
        parts.append(demonstration_BE[:, None].expand(-1, count, -1))
        return self.score(torch.cat(parts, dim=-1)).squeeze(-1).float()

    def _demonstration(self, own: Tensor, positions_BFPD: Tensor, present_BFP: Tensor, start_BO: Tensor) -> Tensor:
        """Return (B, E): the demonstration, with where it began and ended and where the present episode begins."""
        now, here = self.features.positions(start_BO)
        begin, end, middle = positions_BFPD[:, 0], positions_BFPD[:, -1], self.features.middle
        setting = [(end - begin) * present_BFP[:, -1][..., None], (now - middle) * here[..., None]]
        setting.append((begin - middle) * present_BFP[:, 0][..., None])
        flat = [(part / self.features.scale).flatten(1) for part in setting]
        return self.demonstration(torch.cat([own[:, 0], *flat], dim=-1))

    def _along(self, candidates_BCD: Tensor, visible_BPD: Tensor, there_BP: Tensor) -> Tensor:
        """Return (B, C, ...): how far each candidate is from the offsets that go along with something visible."""
        scale = self.features.scale
        beside = candidates_BCD[:, :, None] - visible_BPD[:, None]
        far = beside.norm(dim=-1, keepdim=True)
        known = there_BP[:, None, :, None].expand(-1, candidates_BCD.shape[1], -1, -1)
        along = torch.cat(
            [(beside / scale).clamp(-_LIMIT, _LIMIT), far / scale, (far / (0.1 * scale)).clamp(max=_LIMIT)], -1
        )
        return torch.cat([along * known, known.to(along)], dim=-1).flatten(-2)

    def _frame_features(self, segments: Segments, positions: Tensor, present: Tensor) -> Tensor:
        """Return (B, S, F, ...): what a frame says whatever the candidate."""
        scale, first = self.features.scale, positions[:, :, :1]
        apart, both = self.features.apart(positions, present)
        apart = apart.norm(dim=-1) / scale
        moved = ((positions - first) * present[..., None]).norm(dim=-1) / scale
        start = segments.observations_BSFO[:, :, :1].expand_as(segments.observations_BSFO)
        change = self.features.change(segments.observations_BSFO, start)
        rewards = segments.rewards_BSF
        late = torch.linspace(0.0, 1.0, rewards.shape[-1]).to(rewards).expand_as(rewards)[..., None]
        return torch.cat(
            [(apart * both).clamp(max=_LIMIT), moved.clamp(max=_LIMIT), change, outcomes(segments), late], dim=-1
        )

    def _consequences(
        self,
        frame: Tensor,
        positions: Tensor,
        present: Tensor,
        ends_BCPD: Tensor,
        ended: Tensor,
        conditioning_BE: Tensor | None = None,
    ) -> Tensor:
        """Return (B, C, 3 E): frames (B, S, F, ...) as seen from where each of C candidates ends.

        `conditioning_BE` is what to read them by; nothing for the demonstration itself.
        """
        scale = self.features.scale
        positions, present, frame = (x.flatten(1, 2)[:, None] for x in (positions, present, frame))  # (B, 1, L, ...)
        here = (present & ended[:, None, None])[..., None]
        away = (positions - ends_BCPD[:, :, None]) / scale * here
        far = away.norm(dim=-1, keepdim=True)
        seen = torch.cat([away.clamp(-_LIMIT, _LIMIT), far.clamp(max=_LIMIT), (far / 0.3).clamp(max=1.0)], dim=-1)
        x = self.pair(seen.flatten(-2)) + frame
        if conditioning_BE is not None:
            x = x + conditioning_BE[:, None, None]
        x = self.deeper(x)
        attention = self.weight(x).softmax(dim=2)
        return torch.cat([x.mean(dim=2), x.amax(dim=2), (attention * x).sum(dim=2)], dim=-1)

    def loss(self, context: ContextBatch, start_BO: Tensor, true_BD: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean surprise (nats) at the true offset among negatives that `generator`, of the CPU, draws.

        Source: InfoNCE, as in arXiv 2109.00137, section 3.
        """
        rows, size = true_BD.shape
        count, scale = self.config.negatives, self.features.scale
        visible, there = self.visible(context, start_BO)

        def normal(number: int) -> Tensor:
            return torch.randn(rows, number, size, generator=generator).to(true_BD)

        wide = _WIDE * scale * normal(count // 2)
        others = true_BD[torch.randint(rows, (rows, count // 4), generator=generator).to(true_BD.device)]
        spread = 0.1 * scale * 10.0 ** torch.rand(rows, count // 4, 1, generator=generator).to(true_BD)
        near = true_BD[:, None] + spread * normal(count // 4)
        candidates = torch.cat([true_BD[:, None], visible, wide, others, near], dim=1)
        scores = self(context, start_BO, candidates)
        # What is as good as the truth is no negative.
        same = (candidates[:, 1:] - true_BD[:, None]).norm(dim=-1) < 0.02 * scale
        absent = torch.cat([~there, same.new_zeros(rows, candidates.shape[1] - 1 - there.shape[1])], dim=1)
        scores = torch.cat([scores[:, :1], scores[:, 1:].masked_fill(same | absent, -1e4)], dim=1)
        return -scores.log_softmax(dim=1)[:, 0].mean()

    def posterior(self, context: ContextBatch, start_BO: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (B, C, D) candidates and (B, C) their probabilities; what is visible comes first."""
        visible, there = self.visible(context, start_BO)
        count, scale = self.config.proposals, self.features.scale
        anywhere = _WIDE * scale * torch.randn(len(visible), count, visible.shape[-1], generator=generator)
        candidates = torch.cat([visible, anywhere], dim=1)
        scores = self(context, start_BO, candidates)
        # When its score was learned, what is visible stood among fewer candidates than it does now.
        crowd = torch.full_like(scores[:1], math.log(self.config.negatives / count))
        crowd[:, : there.shape[1]] = 0.0
        scores = scores + crowd
        scores[:, : there.shape[1]].masked_fill_(~there, -1e4)
        prior = self.config.visible_prior
        probability = (1.0 - prior) * scores.softmax(dim=1)
        probability[:, : there.shape[1]] += prior * there / there.sum(dim=1, keepdim=True)
        return candidates, probability


def most_promising(candidates_CD: Tensor, probability_C: Tensor, radius: float, count: int) -> Tensor:
    """Return (count, D) candidates, each with the most probability around it of what those before it leave over.

    `radius` is how far a try reaches, in the units of positions.
    """
    near_CC = torch.cdist(candidates_CD, candidates_CD) < radius
    left_C = probability_C.clone()
    chosen = []
    for _ in range(count):
        covered = near_CC.to(left_C) @ left_C
        # Of those that cover the same, the likeliest itself.
        best = (covered + 1e-3 * left_C).argmax()
        chosen.append(candidates_CD[best])
        left_C = left_C.masked_fill(near_CC[best], 0.0)
    return torch.stack(chosen)
