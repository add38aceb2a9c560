"""Learned control: a network that copies from a warped reference what fits the present state.

Every frame of the reference is scored by how the present state differs from it. Heads of attention over the frames
copy what was done there, where the hand was, and where it went next; each of these, warped to where things stand now,
is one proposal, and the network weighs proposals and corrects their mixture. All that it reads are differences of
positions, so a world that is shifted as a whole looks the same, and each is on a logarithmic scale, so millimetres
count near contact and decimetres on the way. It has no memory: what it does is a function of the present state.

Source: attention over the frames of a demonstration as in One-Shot Imitation Learning (arXiv 1703.07326, section
4.2); waypoints relative to objects as in trajectory transfer (MT3, arXiv 2511.10110).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import torch
from torch import Tensor, nn

from wtl.core.bounds import Between, Bounded, Frames, Listed, Positive, Width
from wtl.core.task import FamilySpec
from wtl.data.segments import SETTLE_STEPS, Segments

_MOVED_STEPS = 2.0
_GAINS = (0.1, 0.25)  # of a proposal that leads to a place: action for each hand step of the way there


Ahead = Annotated[int, Between(1, 1000)]


@dataclass(frozen=True)
class CopierConfig(Bounded):
    """Sizes of the network that controls."""

    frames: Frames = 40
    """F, of the reference."""
    width: Width = 64
    """E, of the network that scores frames."""
    heads: Annotated[int, Between(1, 64)] = 4
    """H, of attention over the frames."""
    copied: Width = 24
    """Learned numbers that each head copies of a frame."""
    hidden: Width = 128
    """Width of the network behind the heads."""
    ahead_frames: Annotated[tuple[Ahead, ...], Listed(1)] = (2, 5, 10, 20)
    """K: of each frame the network also reads where the hand was so many frames later."""
    resolution_steps: Positive = 0.5
    """Where the logarithmic scale of lengths begins to bend, in hand steps."""


@dataclass(frozen=True)
class ReferenceFrames:
    """What B references say about each of their F frames; N objects, D coordinates."""

    objects_BFND: Tensor
    there_BN: Tensor
    """1 for the objects that there are."""
    gripper_BFG: Tensor
    """The opening of the gripper; G is 0 where there is none."""
    progress_BF: Tensor
    """From 0 to 1: how far the first object had been brought, or the hand where that was not moved."""
    seen_BFVD: Tensor
    """The vectors of a frame that are compared with those of a state. What follows from the reference alone is computed
    once an episode and not once a step: these,"""
    own_BFE: Tensor
    """what the network makes of a frame before it has seen a state, and"""
    held_BFX: Tensor
    """what heads copy of it."""

    def rows(self, rows: Tensor) -> ReferenceFrames:
        """Return the references of these numbers."""
        return ReferenceFrames(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class States:
    """Q states of each of B episodes, as the network reads them."""

    now_BQO: Tensor
    starts_BQO: Tensor
    """How each state's episode began."""
    offsets_BQD: Tensor
    """Where the end has gone: the goal of each state's episode minus the goal of the reference."""


class Copier(nn.Module):
    """References and states in, actions (B, Q, A) out."""

    def __init__(self, config: CopierConfig, spec: FamilySpec) -> None:
        super().__init__()
        self.config, self.layout, self.action_size = config, spec.layout, spec.action_size
        size, objects, self.grippers = spec.layout.dimensions, len(spec.layout.points) - 1, len(spec.layout.scalars[:1])
        if objects < 1:
            raise ValueError("learned control needs a position beside the hand's in what is observed, got none")
        self.size, self.objects, ahead = size, objects, len(config.ahead_frames)
        vector = size + 1
        self.pair = nn.Linear((3 + 2 * objects) * vector + 2 * self.grippers, config.width)
        self.own = nn.Linear(vector * (2 + ahead) + spec.action_size + self.grippers + 3, config.width, bias=False)
        state = self.grippers + 3 * objects + 1
        self.state = nn.Linear(state, config.width, bias=False)
        self.frame = nn.Sequential(nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU())
        self.scores = nn.Linear(config.width, config.heads)
        self.values = nn.Linear(config.width, config.copied)
        ways = 3 + objects + 2 * ahead
        self.places = 1 + objects + 2 * ahead
        self.proposals = config.heads * (1 + len(_GAINS) * self.places)
        copied = config.heads * (config.copied + spec.action_size + ways * size + self.grippers + 2)
        last = nn.Linear(config.hidden, spec.action_size + self.proposals)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.after = nn.Sequential(
            nn.Linear(copied + (2 + 2 * objects) * vector + state, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            last,
        )

    # Lengths.

    def _log(self, lengths: Tensor) -> Tensor:
        unit = self.config.resolution_steps * self.layout.hand_step
        return lengths.sign() * torch.log1p(lengths.abs() * (1.0 / unit)) * 0.5

    def _vectors(self, x: Tensor) -> Tensor:
        """Return (..., V (D + 1)): each coordinate of the vectors (..., V, D), and their lengths."""
        length = (x.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        return self._log(torch.cat([x, length], dim=-1)).flatten(-2)

    def _points(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hand (..., D) and the objects (..., N, D) of observations (..., O)."""
        layout = self.layout
        points = [observations[..., p : p + layout.dimensions] for p in layout.points]
        return points[0], torch.stack(points[1:], dim=-2)

    def _gripper(self, observations: Tensor) -> Tensor:
        # A slice: a list would be turned into a tensor at each of the hundreds of control steps of an episode.
        index = self.layout.scalars[0] if self.grippers else 0
        return observations[..., index : index + self.grippers]

    def read(self, demonstrations: Segments) -> ReferenceFrames:
        """Return what the first demonstration of each context says about its frames."""
        observations, actions = demonstrations.observations_BSFO[:, 0], demonstrations.actions_BSFA[:, 0]
        hand, objects = self._points(observations)
        settled = min(SETTLE_STEPS, objects.shape[1] - 1)
        objects = torch.cat([objects[:, settled : settled + 1].expand(-1, settled, -1, -1), objects[:, settled:]], 1)
        there = (objects[:, 0].abs().sum(-1) > 0).to(hand)
        moved = (objects[:, :, 0] - objects[:, :1, 0]).norm(dim=-1).cummax(dim=1).values
        way = (hand[:, 1:] - hand[:, :-1]).norm(dim=-1).cumsum(dim=1)
        way = torch.cat([way.new_zeros(len(way), 1), way], dim=1)
        way = torch.where(moved[:, -1:] > _MOVED_STEPS * self.layout.hand_step, moved, way)
        progress = way / way[:, -1:].clamp(min=1e-6)
        gripper = self._gripper(observations)
        apart = (objects - hand[:, :, None]) * there[:, None, :, None]
        moved = (objects - objects[:, :1]) * there[:, None, :, None]
        first = objects[:, :, :1]
        seen = torch.cat([hand[:, :, None], first, hand[:, :, None], apart, moved], dim=2)
        ways = torch.cat([apart[:, :, :1], first[:, -1:] - first, self._ahead(hand) - hand[:, :, None]], dim=2)
        late = torch.linspace(0.0, 1.0, hand.shape[1]).to(hand).expand(hand.shape[:2])[..., None]
        rest = [actions, gripper, late, progress[..., None], self._log(moved[:, :, 0].norm(dim=-1, keepdim=True))]
        own = self.own(torch.cat([self._vectors(ways), *rest], dim=-1))
        held = self._held(hand, objects, gripper, actions, progress)
        return ReferenceFrames(objects, there, gripper, progress, seen, own, held)

    def _held(self, hand: Tensor, objects: Tensor, gripper: Tensor, actions: Tensor, progress: Tensor) -> Tensor:
        """Return (B, F, X): what heads copy of a frame."""
        later = self._ahead(torch.cat([hand, progress[..., None]], dim=-1)).flatten(2)
        number = torch.ones_like(progress)[..., None].cumsum(1) / 40
        return torch.cat([actions, hand, objects.flatten(2), later, gripper, progress[..., None], number], dim=-1)

    def forward(self, r: ReferenceFrames, states: States) -> Tensor:
        """Return (B, Q, A) actions; they may lie beyond [-1, 1] by a little."""
        hand, objects = self._points(states.now_BQO)
        _, begun = self._points(states.starts_BQO)
        there = r.there_BN[:, None, :, None]  # (B, 1, N, 1)
        end = states.offsets_BQD
        shift = begun[..., 0, :] - r.objects_BFND[:, :1, 0]  # (B, Q, D) how far the first object's start has gone
        moved = (objects - begun) * there
        apart = (objects - hand[..., None, :]) * there
        left = r.objects_BFND[:, -1:, 0] + end - objects[..., 0, :]
        gripper = self._gripper(states.now_BQO)
        present = torch.cat(
            [
                gripper,
                self._log(moved.norm(dim=-1)),
                self._log(apart.norm(dim=-1)),
                self._log(left.norm(dim=-1, keepdim=True)),
                r.there_BN[:, None].expand(*gripper.shape[:2], -1),
            ],
            dim=-1,
        )
        x = self._pairs(r, hand, objects, apart, moved, gripper, shift, end)
        x = x + self.state(present)[:, :, None]
        x = self.frame(x)
        weights = self.scores(x).softmax(dim=2).transpose(2, 3)  # (B, Q, H, F)
        learned = weights @ self.values(x)
        actions, ways, rest = self._copied(r, weights, hand, objects, shift, end)
        read = torch.cat([learned, actions, self._log(ways).flatten(-2), rest], dim=-1).flatten(2)
        seen = torch.cat([moved, apart, left[..., None, :], end[..., None, :]], dim=-2)
        out = self.after(torch.cat([read, self._vectors(seen), present], dim=-1))
        correction, mixture = out.split([self.action_size, self.proposals], dim=-1)
        proposals = self._proposals(actions, ways[..., : self.places, :])
        return (mixture.softmax(dim=-1)[..., None] * proposals).sum(dim=2) + correction

    def _pairs(
        self, r: ReferenceFrames, hand: Tensor, objects: Tensor, apart: Tensor, moved: Tensor, gripper: Tensor,
        shift: Tensor, end: Tensor,
    ) -> Tensor:  # fmt: skip
        """Return (B, Q, F, E): every frame of the reference beside every state."""
        to_end = torch.stack([hand - shift, objects[..., 0, :] - end, hand - end], dim=2)
        ours = torch.cat([to_end, apart, moved], dim=2)[:, :, None]
        away = r.seen_BFVD[:, None] - ours  # (B, Q, F, V, D)
        bend = r.progress_BF[:, None, :, None] * (end - shift)[:, :, None]
        away = torch.cat([(away[..., 0, :] + bend)[..., None, :], away[..., 1:, :]], dim=-2)
        change = gripper[:, :, None] - r.gripper_BFG[:, None]
        x = self.pair(torch.cat([self._vectors(away), change, change.abs()], dim=-1))
        return x + r.own_BFE[:, None]

    def _ahead(self, values_BFX: Tensor) -> Tensor:
        """Return (B, F, K, X): the values (B, F, X) some frames later, the last where there is none."""
        last = values_BFX.shape[1] - 1
        steps = torch.arange(last + 1, device=values_BFX.device)
        return torch.stack([values_BFX[:, (steps + k).clamp(max=last)] for k in self.config.ahead_frames], dim=2)

    def _copied(
        self, r: ReferenceFrames, weights: Tensor, hand: Tensor, objects: Tensor, shift: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what each head copies, (B, Q, H, ...): actions, ways (W, D) to places, and the rest."""
        size, count, ahead = self.size, self.objects, len(self.config.ahead_frames)
        copied = (weights.flatten(1, 2) @ r.held_BFX).unflatten(1, weights.shape[1:3])
        parts = [self.action_size, size, count * size, ahead * (size + 1), self.grippers + 2]
        actions, then_hand, then_objects, later, rest = copied.split(parts, dim=-1)
        then_objects, later = then_objects.unflatten(-1, (count, size)), later.unflatten(-1, (ahead, size + 1))
        hand, objects, shift, end = (x[:, :, None] for x in (hand, objects, shift, end))  # beside heads
        there = r.there_BN[:, None, None, :, None]
        progress = rest[..., -2:-1]
        bent = then_hand + (1 - progress) * shift + progress * end - hand
        beside = ((objects - hand[..., None, :]) - (then_objects - then_hand[..., None, :])) * there
        places, gone = later[..., :size], later[..., size:]
        bent_later = places + (1 - gone) * shift[..., None, :] + gone * end[..., None, :] - hand[..., None, :]
        beside_later = places + ((objects[..., 0, :] - then_objects[..., 0, :]) - hand)[..., None, :]
        object_left = then_objects[..., 0, :] + end - objects[..., 0, :]
        to_end = then_hand + end - hand
        ways = torch.cat(
            [bent[..., None, :], beside, bent_later, beside_later, object_left[..., None, :], to_end[..., None, :]], -2
        )
        return actions, ways, rest

    def _proposals(self, actions: Tensor, ways: Tensor) -> Tensor:
        """Return (B, Q, proposals, A): copied actions, and those that lead to the places, proportional to the way."""
        to_places = [(ways * (gain / self.layout.hand_step)).clamp(-1.0, 1.0) for gain in _GAINS]
        motions = torch.cat([actions[..., None, : self.size], *to_places], dim=-2)  # (B, Q, H, 1 + ..., D)
        others = actions[..., None, self.size :].expand(*motions.shape[:-1], -1)
        return torch.cat([motions, others], dim=-1).flatten(2, 3)
