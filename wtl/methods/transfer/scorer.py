"""Where has the end of what was demonstrated gone? A context in, scores of hypotheses (goal offsets) out.

A hypothesis is a rule that gives the end for any start: it goes along with a position (an object's start, or with
nothing), plus an offset. Each is scored by its consequences. If it were true, each object of the demonstration would
have to come to rest at a position that can be computed, in every trial from that trial's own start; every frame of the
trial is then seen from there, beside the reward that it got and beside what the demonstration says about how rewards
rise on the way. All candidates are scored by the same small network, one by one, so what is learned of one family's
rewards holds for others. Training is InfoNCE over candidates, with an energy-based model as in Implicit Behavioral
Cloning, arXiv 2109.00137.
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
_NEAR = 0.15  # the same of candidates around the best, when it acts
_SAME = 0.2  # a rule is true of an episode if it misses its end by less, in lengths of `ObservationFeatures.scale`
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
    visible: in a family never seen the scorer can be sure of the wrong one, and these are few and soon tried. With k
    trials, in which they were tried, it is this much to the power of 1 + k."""


@dataclass(frozen=True)
class TrueGoals:
    """Where experts go: labels, never inputs."""

    own_BG: Tensor
    """In the episode that a hypothesis is scored for."""
    demonstrated_BG: Tensor
    """In the demonstration."""
    trials_BSG: Tensor
    """In each trial."""


def _chosen(of_points_BSPD: Tensor, rules_BC: Tensor) -> Tensor:
    """Return (B, S, C, D): for each candidate what belongs to the point of its rule."""
    rows = torch.arange(len(rules_BC), device=rules_BC.device)[:, None]
    return of_points_BSPD.transpose(1, 2)[rows, rules_BC].transpose(1, 2)


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
        along = points * (dimensions + 4)
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

    def forward(self, context: ContextBatch, start_BO: Tensor, candidates_BCD: Tensor, rules_BC: Tensor) -> Tensor:
        """Return (B, C) scores: logarithms of how likely each candidate is, up to a constant of the context.

        Args:
            candidates_BCD: offsets of the end in the episode that begins with `start_BO`.
            rules_BC: which point of the layout each candidate's end goes along with; 0, the hand's: with nothing.
        """
        visible_BPD, there_BP = self.visible(context, start_BO)
        segments, scale = context.all, self.features.scale
        positions, present = self.features.positions(segments.observations_BSFO)
        end, ended = positions[:, 0, -1], present[:, 0, -1]
        frame = self.frame(self._frame_features(segments, positions, present))
        own = self._consequences(frame[:, :1], positions[:, :1], present[:, :1], end[:, None, None], ended)
        demonstration_BE = self._demonstration(own, positions[:, 0], present[:, 0], start_BO)

        count = candidates_BCD.shape[1]
        if context.trials is not None:
            first = positions.shape[1] - context.trials.masked_BS.shape[1]
            offsets = candidates_BCD - _chosen(visible_BPD[:, None], rules_BC)[:, 0]
            offsets_BSCD = offsets[:, None] + _chosen(self._gone_along(positions, present)[:, first:], rules_BC)
            ends_BSCPD = end[:, None, None] + offsets_BSCD[..., None, :]
            tried = (frame[:, first:], positions[:, first:], present[:, first:])
            consequences = self._consequences(*tried, ends_BSCPD, ended, self.conditioning(demonstration_BE))
        else:
            consequences = own.new_zeros(len(own), count, own.shape[-1])
        has_trials = consequences.new_full((*consequences.shape[:2], 1), float(context.trials is not None))
        which = nn.functional.one_hot(rules_BC, visible_BPD.shape[1]).to(consequences)
        parts = [consequences, has_trials, self._along(candidates_BCD, visible_BPD, there_BP), which]
        parts += [candidates_BCD / scale, demonstration_BE[:, None].expand(-1, count, -1)]
        return self.score(torch.cat(parts, dim=-1)).squeeze(-1).float()

    def _gone_along(self, positions_BSFPD: Tensor, present_BSFP: Tensor) -> Tensor:
        """Return (B, S, P, D): how far each episode's start is from the demonstration's; zeros for the hand."""
        both = present_BSFP[:, :, 0] & present_BSFP[:, :1, 0]
        gone = (positions_BSFPD[:, :, 0] - positions_BSFPD[:, :1, 0]) * both[..., None]
        return torch.cat([torch.zeros_like(gone[:, :, :1]), gone[:, :, 1:]], dim=2)

    def consistent(self, context: ContextBatch, start_BO: Tensor, goals: TrueGoals) -> Tensor:
        """Return (B, P): which rules give the true end in this episode and in all trials; the best where none does."""
        visible_BPD, there_BP = self.visible(context, start_BO)
        spread_BP = torch.zeros_like(visible_BPD[..., 0])
        if context.trials is not None:
            positions, present = self.features.positions(context.all.observations_BSFO)
            gone_BSPD = self._gone_along(positions, present)[:, -context.trials.masked_BS.shape[1] :]
            now_BPD = (goals.own_BG - goals.demonstrated_BG)[:, None] - visible_BPD
            then_BSPD = (goals.trials_BSG - goals.demonstrated_BG[:, None])[:, :, None] - gone_BSPD
            spread_BP = (then_BSPD - now_BPD[:, None]).norm(dim=-1).amax(dim=1)
        spread_BP = spread_BP.masked_fill(~there_BP, float("inf"))
        return spread_BP <= torch.maximum(spread_BP.amin(dim=1, keepdim=True), _SAME * self.features.scale)

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
        ends_BSCPD: Tensor,
        ended: Tensor,
        conditioning_BE: Tensor | None = None,
    ) -> Tensor:
        """Return (B, C, 3 E): frames (B, S, F, ...) as seen from where each of C candidates ends in their episode.

        `conditioning_BE` is what to read them by; nothing for the demonstration itself.
        """
        scale = self.features.scale
        away = (positions[:, None] - ends_BSCPD.transpose(1, 2)[:, :, :, None]).flatten(2, 3)  # (B, C, L, P, D)
        present, frame = present.flatten(1, 2)[:, None], frame.flatten(1, 2)[:, None]  # (B, 1, L, ...)
        here = (present & ended[:, None, None])[..., None]
        away = away / scale * here
        far = away.norm(dim=-1, keepdim=True)
        seen = torch.cat([away.clamp(-_LIMIT, _LIMIT), far.clamp(max=_LIMIT), (far / 0.3).clamp(max=1.0)], dim=-1)
        x = self.pair(seen.flatten(-2)) + frame
        if conditioning_BE is not None:
            x = x + conditioning_BE[:, None, None]
        x = self.deeper(x)
        attention = self.weight(x).softmax(dim=2)
        return torch.cat([x.mean(dim=2), x.amax(dim=2), (attention * x).sum(dim=2)], dim=-1)

    def loss(self, context: ContextBatch, start_BO: Tensor, goals: TrueGoals, generator: torch.Generator) -> Tensor:
        """Return the mean surprise (nats) at the true offset among negatives that `generator`, of the CPU, draws.

        Every rule that is true of all episodes is right. Source: InfoNCE, as in arXiv 2109.00137, section 3.
        """
        true_BD = goals.own_BG - goals.demonstrated_BG
        rows, size = true_BD.shape
        count, scale = self.config.negatives, self.features.scale
        visible, there = self.visible(context, start_BO)
        points = there.shape[1]

        def normal(number: int) -> Tensor:
            return torch.randn(rows, number, size, generator=generator).to(true_BD)

        wide = _WIDE * scale * normal(count // 2)
        others = true_BD[torch.randint(rows, (rows, count // 4), generator=generator).to(true_BD.device)]
        spread = 0.1 * scale * 10.0 ** torch.rand(rows, count // 4, 1, generator=generator).to(true_BD)
        near = true_BD[:, None] + spread * normal(count // 4)
        drawn = torch.cat([wide, others, near], dim=1)
        candidates = torch.cat([true_BD[:, None].expand(-1, points, -1), visible, drawn], dim=1)
        every = torch.arange(points, device=true_BD.device).expand(rows, -1)
        rules = torch.cat([every, every, self._some_rules(there, drawn.shape[1], generator)], dim=1)
        scores = self(context, start_BO, candidates, rules)
        right = torch.zeros_like(scores, dtype=torch.bool)
        right[:, :points] = self.consistent(context, start_BO, goals)
        # What is as good as the truth is no negative, whatever its rule.
        same = (candidates - true_BD[:, None]).norm(dim=-1) < 0.02 * scale
        absent = torch.cat([~there, ~there, torch.zeros_like(drawn[..., 0], dtype=torch.bool)], dim=1)
        wrong_rule = torch.zeros_like(same)
        wrong_rule[:, :points] = True
        scores = scores.masked_fill((absent | (same & ~wrong_rule)) & ~right, -1e4)
        return -(scores.masked_fill(~right, -1e4).logsumexp(1) - scores.logsumexp(1)).mean()

    def _some_rules(self, there_BP: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Return (B, count) rules: along with nothing, or (half of them) with any point that is there."""
        rows, points = there_BP.shape
        drawn = torch.randint(points, (rows, count), generator=generator).to(there_BP.device)
        drawn = drawn * (torch.rand(rows, count, generator=generator) < 0.5).to(there_BP.device)
        return drawn * there_BP.gather(1, drawn)

    def posterior(self, context: ContextBatch, start_BO: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (B, C, D) candidates and (B, C) their probabilities; what is visible comes first.

        Half of the candidates are drawn from the proposal of training, the other half around the best of those:
        importance sampling in two rounds, because a wide proposal alone leaves centimetres between candidates.
        """
        visible, there = self.visible(context, start_BO)
        count, wide, near = self.config.proposals, _WIDE * self.features.scale, _NEAR * self.features.scale
        rows, points, size = visible.shape
        every = torch.arange(points, device=there.device).expand(rows, -1)

        def normal() -> Tensor:
            return torch.randn(rows, count // 2, size, generator=generator).to(visible)

        candidates = torch.cat([visible, wide * normal()], dim=1)
        rules = torch.cat([every, self._some_rules(there, count // 2, generator)], dim=1)
        scores = self(context, start_BO, candidates, rules)
        drawn = scores[:, points:].softmax(dim=1).multinomial(count // 2, replacement=True, generator=generator)
        centres, again = candidates[:, points:].gather(1, drawn[..., None].expand(-1, -1, size)), rules[:, points:]
        more = centres + near * normal()
        candidates, rules = torch.cat([candidates, more], dim=1), torch.cat([rules, again.gather(1, drawn)], dim=1)
        scores = torch.cat([scores, self(context, start_BO, more, rules[:, -(count // 2) :])], dim=1)
        # How much likelier a candidate was to be drawn in both rounds than in training's proposal.
        away = torch.cdist(candidates[:, points:], centres).square() / (2 * near**2)
        around = (-away).logsumexp(dim=2) - math.log(count // 2) - size * near.log()
        from_training = -candidates[:, points:].square().sum(-1) / (2 * wide**2) - size * wide.log()
        weights = from_training - torch.logaddexp(from_training, around)
        # When its score was learned, what is visible stood among fewer candidates than it does now.
        crowd = torch.cat([torch.zeros_like(visible[..., 0]), weights + math.log(2 * self.config.negatives / count)], 1)
        scores = scores + crowd
        scores[:, :points] = scores[:, :points].masked_fill(~there, -1e4)
        tried = 0 if context.trials is None else context.trials.masked_BS.shape[1]
        prior = self.config.visible_prior ** (1 + tried)
        probability = (1.0 - prior) * scores.softmax(dim=1)
        probability[:, :points] += prior * there / there.sum(dim=1, keepdim=True)
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
