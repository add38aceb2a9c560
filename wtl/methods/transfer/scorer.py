"""Where has the end of what was demonstrated gone? A context in, scores of possible shifts out.

A shift is judged by its story. If it were the true one, each place of the demonstration would have to come to rest
at a place that can be computed; every frame of every trial is then seen from there, beside the reward that it got
and beside what the demonstration says about how rewards rise on the way. All candidates are judged by the
same small network, one by one, so that what is learned of one family's rewards holds for others. Without trials the
judgement rests on what the shift goes along with: the start of an object, or nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Segments
from wtl.methods.nn.features import OUTCOMES, ObservationFeatures, outcomes

_LIMIT = 5.0
_WIDE = 1.5  # deviation of candidates, in lengths of `ObservationFeatures.scale`


@dataclass(frozen=True)
class ShiftConfig:
    """Sizes of the judge, and how candidates are found."""

    width: int = 48
    """E."""
    decoys: int = 32
    """Candidates that stand beside the true shift in training."""
    proposals: int = 800
    """Candidates that are judged when it acts."""
    visible_prior: float = 0.3
    """When it acts, at least this much of the probability goes, in equal parts, to shifts along with something visible:
    in a family never seen the judge can be sure of the wrong one, and these are few and soon tried."""

    def __post_init__(self) -> None:
        for name in ("width", "decoys", "proposals"):
            if getattr(self, name) < 1:
                raise ValueError(f"following.shift.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.visible_prior < 1:
            raise ValueError(f"following.shift.visible_prior must lie in [0, 1), got {self.visible_prior}")


class ShiftNetwork(nn.Module):
    """Segments, the demonstration first, the start of an episode, and candidates in; a score for each out."""

    def __init__(self, config: ShiftConfig, spec: FamilySpec) -> None:
        super().__init__()
        if spec.goal_size != spec.layout.dimensions:
            raise ValueError(f"a goal must be a place of {spec.layout.dimensions} coordinates, got {spec.goal_size}")
        self.config = config
        width, points, dimensions = config.width, len(spec.layout.points), spec.layout.dimensions
        self.features = ObservationFeatures(spec.layout)
        seen_from = points * (dimensions + 2)
        self.pair = nn.Linear(seen_from, width)
        self.frame = nn.Linear(points * (points - 1) // 2 + points + len(spec.layout.scalars) + OUTCOMES + 1, width)
        self.deeper = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.weight = nn.Linear(width, 1)
        self.shown = nn.Linear(3 * width + 3 * points * dimensions, width)
        self.told = nn.Linear(width, width)
        along = points * (dimensions + 3)
        self.judge = nn.Sequential(
            nn.Linear(3 * width + 1 + along + dimensions + width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Linear(width, 1),
        )

    def visible(self, segments: Segments, start_BO: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, D) shifts that go along with something visible, (B, P) whether it is there: first with nothing (the
        hand starts where it likes), then with the start of each object.

        Raises:
            ValueError: no demonstration, so there is nothing that could have been shifted.
        """
        if not segments.has_demonstration:
            raise ValueError("a shift is a shift of what was demonstrated, but the context has no demonstration")
        then, was = self.features.places(segments.observations_BSFO[:, 0, 0])
        now, here = self.features.places(start_BO)
        there = was & here
        shifts = (now - then) * there[..., None]
        shifts[:, 0] = 0.0
        there[:, 0] = True
        return shifts, there

    def forward(self, segments: Segments, start_BO: Tensor, candidates_BCD: Tensor) -> Tensor:
        """(B, C) scores: logarithms of how likely each candidate is, up to a constant of the context."""
        visible_BPD, there_BP = self.visible(segments, start_BO)
        scale = self.features.scale
        places, present = self.features.places(segments.observations_BSFO)
        end, ended = places[:, 0, -1], present[:, 0, -1]
        frame = self.frame(self._told_by(segments, places, present))

        own = self._stories(frame[:, :1], places[:, :1], present[:, :1], end[:, None], ended, None)
        now, here = self.features.places(start_BO)
        middle = self.features.middle
        setting = [(end - places[:, 0, 0]) * ended[..., None], (now - middle) * here[..., None]]
        setting.append((places[:, 0, 0] - middle) * present[:, 0, 0][..., None])
        shown = self.shown(torch.cat([own[:, 0], *((part / scale).flatten(1) for part in setting)], dim=-1))

        count = candidates_BCD.shape[1]
        if places.shape[1] > 1:
            ends_BCPD = end[:, None] + candidates_BCD[:, :, None]
            story = self._stories(frame[:, 1:], places[:, 1:], present[:, 1:], ends_BCPD, ended, self.told(shown))
        else:
            story = own.new_zeros(len(own), count, own.shape[-1])
        tried = story.new_full((*story.shape[:2], 1), float(places.shape[1] > 1))
        beside = candidates_BCD[:, :, None] - visible_BPD[:, None]
        far = beside.norm(dim=-1, keepdim=True)
        known = there_BP[:, None, :, None].expand(-1, count, -1, -1)
        along = torch.cat(
            [(beside / scale).clamp(-_LIMIT, _LIMIT), far / scale, (far / (0.1 * scale)).clamp(max=_LIMIT)], -1
        )
        along = torch.cat([along * known, known.to(along)], dim=-1)
        parts = [story, tried, along.flatten(-2), candidates_BCD / scale, shown[:, None].expand(-1, count, -1)]
        return self.judge(torch.cat(parts, dim=-1)).squeeze(-1).float()

    def _told_by(self, segments: Segments, places: Tensor, present: Tensor) -> Tensor:
        """(B, S, F, ...) what a frame says whatever the candidate."""
        scale, first = self.features.scale, places[:, :, :1]
        apart, both = self.features.apart(places, present)
        apart = apart.norm(dim=-1) / scale
        moved = ((places - first) * present[..., None]).norm(dim=-1) / scale
        start = segments.observations_BSFO[:, :, :1].expand_as(segments.observations_BSFO)
        change = self.features.change(segments.observations_BSFO, start)
        rewards = segments.rewards_BSF
        late = torch.linspace(0.0, 1.0, rewards.shape[-1]).to(rewards).expand_as(rewards)[..., None]
        return torch.cat(
            [(apart * both).clamp(max=_LIMIT), moved.clamp(max=_LIMIT), change, outcomes(segments), late], dim=-1
        )

    def _stories(
        self, frame: Tensor, places: Tensor, present: Tensor, ends_BCPD: Tensor, ended: Tensor, told_BE: Tensor | None
    ) -> Tensor:
        """Frames (B, S, F, ...) as seen from where each of C candidates ends -> (B, C, 3 E).

        `told_BE`: what to read them by; nothing for the demonstration itself.
        """
        scale = self.features.scale
        places, present, frame = (x.flatten(1, 2)[:, None] for x in (places, present, frame))  # (B, 1, L, ...)
        here = (present & ended[:, None, None])[..., None]
        away = (places - ends_BCPD[:, :, None]) / scale * here
        far = away.norm(dim=-1, keepdim=True)
        seen = torch.cat([away.clamp(-_LIMIT, _LIMIT), far.clamp(max=_LIMIT), (far / 0.3).clamp(max=1.0)], dim=-1)
        x = self.pair(seen.flatten(-2)) + frame
        if told_BE is not None:
            x = x + told_BE[:, None, None]
        x = self.deeper(x)
        attention = self.weight(x).softmax(dim=2)
        return torch.cat([x.mean(dim=2), x.amax(dim=2), (attention * x).sum(dim=2)], dim=-1)

    def loss(self, segments: Segments, start_BO: Tensor, true_BD: Tensor, generator: torch.Generator) -> Tensor:
        """Mean surprise (nats) at the true shift among decoys; `generator`, of the CPU, draws them."""
        rows, size = true_BD.shape
        count, scale = self.config.decoys, self.features.scale
        visible, there = self.visible(segments, start_BO)

        def normal(number: int) -> Tensor:
            return torch.randn(rows, number, size, generator=generator).to(true_BD)

        wide = _WIDE * scale * normal(count // 2)
        others = true_BD[torch.randint(rows, (rows, count // 4), generator=generator).to(true_BD.device)]
        spread = 0.1 * scale * 10.0 ** torch.rand(rows, count // 4, 1, generator=generator).to(true_BD)
        near = true_BD[:, None] + spread * normal(count // 4)
        candidates = torch.cat([true_BD[:, None], visible, wide, others, near], dim=1)
        scores = self(segments, start_BO, candidates)
        # What is as good as the truth is no decoy.
        same = (candidates[:, 1:] - true_BD[:, None]).norm(dim=-1) < 0.02 * scale
        absent = torch.cat([~there, same.new_zeros(rows, candidates.shape[1] - 1 - there.shape[1])], dim=1)
        scores = torch.cat([scores[:, :1], scores[:, 1:].masked_fill(same | absent, -1e4)], dim=1)
        return -scores.log_softmax(dim=1)[:, 0].mean()

    def posterior(self, segments: Segments, start_BO: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, C, D) candidates and (B, C) how much of the probability each stands for; what is visible comes first."""
        visible, there = self.visible(segments, start_BO)
        count, scale = self.config.proposals, self.features.scale
        anywhere = _WIDE * scale * torch.randn(len(visible), count, visible.shape[-1], generator=generator)
        candidates = torch.cat([visible, anywhere], dim=1)
        scores = self(segments, start_BO, candidates)
        # What is visible stood among so many decoys when its score was learned, and stands among more now.
        crowd = torch.full_like(scores[:1], math.log(self.config.decoys / count))
        crowd[:, : there.shape[1]] = 0.0
        scores = scores + crowd
        scores[:, : there.shape[1]].masked_fill_(~there, -1e4)
        prior = self.config.visible_prior
        mass = (1.0 - prior) * scores.softmax(dim=1)
        mass[:, : there.shape[1]] += prior * there / there.sum(dim=1, keepdim=True)
        return candidates, mass


def most_promising(candidates_CD: Tensor, mass_C: Tensor, radius: float, count: int) -> Tensor:
    """(count, D) candidates, each with the most probability around it of what those before it leave over.

    `radius`: how far a try reaches, in the units of places.
    """
    near_CC = torch.cdist(candidates_CD, candidates_CD) < radius
    left_C = mass_C.clone()
    chosen = []
    for _ in range(count):
        covered = near_CC.to(left_C) @ left_C
        # Of those that cover the same, the likeliest itself.
        best = (covered + 1e-3 * left_C).argmax()
        chosen.append(candidates_CD[best])
        left_C = left_C.masked_fill(near_CC[best], 0.0)
    return torch.stack(chosen)
