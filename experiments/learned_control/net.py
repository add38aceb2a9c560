"""The network: every frame of a warped reference is scored against the present state, the best are copied.

All that it reads are differences of positions (so a world that is shifted as a whole looks the same), each on a
logarithmic scale (so millimetres count near contact and decimetres on the way). Heads of attention over the frames
copy the actions, the way to the frames' hands under several warps, and a learned feature; a small network turns what
was copied into a correction of the copied action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from learned.phase import Tracker
from torch import Tensor, nn

SETTLED = 2
"""Steps after which an episode's first observation is replaced as its start: some objects fall or are reported late."""


def stuck_steps(hand_T3: np.ndarray) -> np.ndarray:
    """(T,) for how many steps beyond 8 the hand has stayed within 2 cm: the only memory of the controller.

    On an expert's path it is nearly always zero, so it does not give away the expert's last action.
    """
    counts, anchor, count = np.zeros(len(hand_T3), np.float32), hand_T3[0], 0
    for t, hand in enumerate(hand_T3):
        if float(np.square(hand - anchor).sum()) > 4e-4:
            anchor, count = hand, 0
        counts[t] = max(0, count - 8)
        count += 1
    return counts


def with_memory(observations: np.ndarray) -> np.ndarray:
    """(T, 18) -> (T, 19)."""
    return np.concatenate([observations, stuck_steps(observations[:, :3])[:, None]], -1).astype(np.float32)


@dataclass(frozen=True)
class NetConfig:
    """Sizes."""

    frames: int = 48
    """F, at most, of a reference."""
    width: int = 64
    """Of the scorer of frames."""
    heads: int = 4
    copied: int = 24
    """Learned numbers that each head copies."""
    hidden: int = 128
    """Of the network behind the heads."""
    horizons: tuple[int, ...] = (3, 8, 16, 32)
    """K: of each frame it is also read where the hand was so many steps later."""
    resolution: float = 0.005
    """Metres, where the logarithmic scale begins to bend."""


@dataclass
class Reference:
    """References as tensors, (B, F, ...): what a demonstration says about each of its frames."""

    hand: Tensor
    grip: Tensor
    one: Tensor
    two: Tensor
    actions: Tensor
    progress: Tensor
    """(B, F) how far the first moved object has been brought, 0 to 1."""
    late: Tensor
    ahead: Tensor
    """(B, F, K, 3) where the hand is some steps later."""
    progress_ahead: Tensor
    """(B, F, K)."""
    start_hand: Tensor
    start_one: Tensor
    start_two: Tensor
    end_one: Tensor
    mask: Tensor
    """(B, F) bool, frames that are there."""
    two_there: Tensor
    rest: Tensor
    """(B,) steps of the longest rest of the hand."""

    def rows(self, rows: Tensor) -> Reference:
        """Some of them."""
        return Reference(**{name: value[rows] for name, value in self.__dict__.items()})

    @staticmethod
    def stack(references: list[dict[str, np.ndarray]]) -> Reference:
        """From `reference_of`, padded alike."""
        return Reference(**{n: torch.from_numpy(np.stack([r[n] for r in references])) for n in references[0]})


def settled_start(observations: np.ndarray) -> np.ndarray:
    """(18,) the observation that counts as an episode's start."""
    return observations[min(SETTLED, len(observations) - 1)]


def reference_of(observations: np.ndarray, actions: np.ndarray, config: NetConfig) -> dict[str, np.ndarray]:
    """A demonstration (T + 1, 18), (T, 4) as the network reads it, resampled to at most `frames` frames."""
    frames = config.frames
    o, steps = np.asarray(observations, np.float32), len(actions)
    picked = np.unique(np.linspace(0, steps - 1, min(frames, steps)).round().astype(int))
    start = settled_start(o)
    one = o[: steps + 1, 4:7].copy()
    two = o[: steps + 1, 11:14].copy()
    one[:SETTLED], two[:SETTLED] = start[4:7], start[11:14]
    hand = o[: steps + 1, :3]
    moved = np.linalg.norm(one - one[0], axis=-1)
    if moved.max() > 0.02:
        way = np.maximum.accumulate(moved)
    else:
        way = np.append(0.0, np.linalg.norm(np.diff(hand, axis=0), axis=-1).cumsum())
    progress = (way / max(way[-1], 1e-6)).astype(np.float32)
    later = np.minimum(np.arange(steps)[:, None] + np.array(config.horizons), steps)

    def padded(values: np.ndarray) -> np.ndarray:
        chosen = values[picked]
        extra = np.repeat(chosen[-1:], frames - len(chosen), axis=0)
        return np.ascontiguousarray(np.concatenate([chosen, extra]), dtype=np.float32)

    return {
        "hand": padded(hand[:steps]), "grip": padded(o[:steps, 3]), "one": padded(one[:steps]),
        "two": padded(two[:steps]), "actions": padded(np.clip(np.asarray(actions, np.float32), -1, 1)),
        "progress": padded(progress[:steps]), "late": padded(np.arange(steps, dtype=np.float32) / steps),
        "ahead": padded(hand[later]), "progress_ahead": padded(progress[later]), "start_hand": hand[0].copy(), "start_one": one[0].copy(),
        "start_two": two[0].copy(), "end_one": one[-1].copy(), "mask": np.arange(frames) < len(picked),
        "rest": np.array(stuck_steps(hand[:steps]).max() + 8, np.float32),
        "two_there": np.array(float(two.any()), np.float32),
    }  # fmt: skip


class Controller(nn.Module):
    """Reference (B, ...), offset of the end (B, Q, 3), present states with memory (B, Q, 21), starts (B, Q, 18) -> (B, Q, 4)."""

    def __init__(self, config: NetConfig = NetConfig()) -> None:
        super().__init__()
        self.config = config
        c = config
        self.pair = nn.Linear(7 * 4 + 2 + 3, c.width)
        k = len(c.horizons)
        self.own = nn.Linear(4 * (2 + k) + 8, c.width, bias=False)
        self.present = nn.Linear(8, c.width, bias=False)
        self.frame = nn.Sequential(nn.ReLU(), nn.Linear(c.width, c.width), nn.ReLU())
        self.scores = nn.Linear(c.width, c.heads)
        self.values = nn.Linear(c.width, c.copied)
        summed = c.heads * (c.copied + 4 + 5 * 3 + 2 * 3 * k + 3) + 4 * 4 + 9
        self.after = nn.Sequential(
            nn.Linear(summed, c.hidden), nn.ReLU(), nn.Linear(c.hidden, c.hidden), nn.ReLU(),
            nn.Linear(c.hidden, 4 + c.heads),
        )  # fmt: skip
        nn.init.zeros_(self.after[-1].weight)
        nn.init.zeros_(self.after[-1].bias)

    def log(self, x: Tensor) -> Tensor:
        """Sign and logarithm of lengths."""
        return x.sign() * torch.log1p(x.abs() * (1.0 / self.config.resolution)) * 0.5

    def vector(self, x: Tensor) -> Tensor:
        """(..., 3) -> (..., 4): each coordinate and the length."""
        return self.log(torch.cat([x, (x.square().sum(-1, keepdim=True) + 1e-12).sqrt()], dim=-1))

    def forward(self, r: Reference, offset: Tensor, now: Tensor, start: Tensor) -> Tensor:
        """See the class."""
        hand, grip, one, two = now[..., :3], now[..., 3:4], now[..., 4:7], now[..., 11:14]
        there = r.two_there[:, None, None]  # (B, 1, 1)
        g, s = offset, start[..., 4:7] - r.start_one[:, None]  # (B, Q, 3)
        p = r.progress[..., None]  # (B, F, 1)
        moved_one, moved_two = one - start[..., 4:7], (two - start[..., 11:14]) * there
        left = r.end_one[:, None] + g - one
        present = torch.cat(
            [
                grip,
                self.log(moved_one.norm(dim=-1, keepdim=True)),
                self.log(left.norm(dim=-1, keepdim=True)),
                there.expand(*grip.shape),
                self.log(moved_two.norm(dim=-1, keepdim=True)),
                torch.log1p(now[..., 18:19]) * 0.5,
                torch.log1p(now[..., 20:21]) * 0.5,
                now[..., 19:20] / r.mask.sum(-1)[:, None, None],
            ],
            dim=-1,
        )
        ref_moved = r.one - r.start_one[:, None]
        own = torch.cat(
            [
                self.vector(r.one - r.hand),
                self.vector(r.end_one[:, None] - r.one),
                self.vector(r.ahead - r.hand[:, :, None]).flatten(2),
                r.actions,
                r.grip[..., None],
                r.late[..., None],
                p,
                self.log(ref_moved.norm(dim=-1, keepdim=True)),
            ],
            dim=-1,
        )
        # Everything that stands on both sides: (B, 1, F, .) of the reference against (B, Q, 1, .) of now.
        theirs = torch.cat(
            [
                r.hand,
                r.one - r.hand,
                (r.two - r.hand) * r.two_there[:, None, None],
                r.one,
                r.hand,
                ref_moved,
                (r.two - r.start_two[:, None]) * r.two_there[:, None, None],
            ],
            dim=-1,
        )[:, None]
        ours = torch.cat([
            hand - s, one - hand, (two - hand) * there, one - g, hand - g, moved_one, moved_two,
        ], dim=-1)[:, :, None]  # fmt: skip
        apart = theirs - ours  # (B, Q, F, 21)
        bend = p[:, None] * (g - s)[:, :, None]
        apart = torch.cat([apart[..., :3] + bend, apart[..., 3:]], dim=-1)
        lengths = (apart.unflatten(-1, (7, 3)).square().sum(-1) + 1e-12).sqrt()
        change = grip[:, :, None] - r.grip[:, None, :, None]
        steps = torch.arange(apart.shape[2]).to(now) - now[..., 19:20]  # (B, Q, F)
        ahead = torch.stack(
            [
                steps.sign() * torch.log1p(steps.abs()) * 0.5,
                (-0.5 * steps.abs()).exp(),
                (-0.5 * (steps - 4).abs()).exp(),
            ],
            dim=-1,
        )
        x = torch.cat([self.log(torch.cat([apart, lengths], dim=-1)), change, change.abs(), ahead], dim=-1)
        x = self.pair(x) + self.own(own)[:, None] + self.present(present)[:, :, None]
        x = self.frame(x)
        weights = self.scores(x).masked_fill(~r.mask[:, None, :, None], -1e4).softmax(dim=2)  # (B, Q, F, H)
        weights = weights.transpose(2, 3)  # (B, Q, H, F)
        learned = weights @ self.values(x)
        B, Q, H, F = weights.shape
        K = len(self.config.horizons)
        held = torch.cat(
            [
                r.actions,
                r.hand,
                r.one,
                r.two,
                r.ahead.flatten(2),
                r.progress_ahead,
                r.grip[..., None],
                r.late[..., None],
                p,
            ],
            dim=-1,
        )
        copied = (weights.reshape(B, Q * H, F) @ held).reshape(B, Q, H, -1)
        actions, c_hand, c_one, c_two, c_ahead, c_parts, c_rest = copied.split([4, 3, 3, 3, 3 * K, K, 3], dim=-1)
        part = c_rest[..., 2:]
        hand_, one_, two_, g_, s_ = (x[:, :, None] for x in (hand, one, two, g, s))
        parts, c_ahead = c_parts[..., None], c_ahead.unflatten(-1, (K, 3))
        later = c_ahead + (1 - parts) * s_[..., None, :] + parts * g_[..., None, :] - hand_[..., None, :]
        beside = c_ahead + (one_ - c_one - hand_)[..., None, :]
        ways = torch.cat(
            [
                c_hand + (1 - part) * s_ + part * g_ - hand_,
                (one_ - hand_) - (c_one - c_hand),
                ((two_ - hand_) - (c_two - c_hand)) * there[..., None],
                c_one + g_ - one_,
                c_hand + g_ - hand_,
                later.flatten(-2),
                beside.flatten(-2),
            ],
            dim=-1,
        )
        read = torch.cat([learned, actions, self.log(ways), c_rest], dim=-1)
        rest = torch.cat(
            [
                read.flatten(2),
                self.vector(moved_one),
                self.vector(left),
                self.vector(one - hand),
                self.vector((two - hand) * there),
                present,
                weights[:, :, 0].amax(dim=-1, keepdim=True),
            ],
            dim=-1,
        )
        out = self.after(rest)
        mix = out[..., 4:].softmax(dim=-1)
        return (mix[..., None] * actions).sum(dim=2) + out[..., :4]


def turn(matrix: Tensor, x: Tensor) -> Tensor:
    """Rotate or mirror the first two numbers of the last axis, one matrix (B, 2, 2) a row."""
    flat = x.reshape(len(x), -1, x.shape[-1])
    xy = torch.einsum("bij,bnj->bni", matrix, flat[..., :2])
    return torch.cat([xy, flat[..., 2:]], -1).reshape(x.shape)


def turned(r: Reference, matrix: Tensor) -> Reference:
    """References in mirrored worlds."""
    names = ("hand", "one", "two", "actions", "ahead", "start_hand", "start_one", "start_two", "end_one")
    changed = {}
    for name, value in r.__dict__.items():
        changed[name] = turn(matrix, value) if name in names else value
    return Reference(**changed)


MIRRORS = torch.tensor(
    [[[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[1, 0], [0, -1]], [[-1, 0], [0, -1]],
     [[0, 1], [1, 0]], [[0, -1], [1, 0]], [[0, 1], [-1, 0]], [[0, -1], [-1, 0]]], dtype=torch.float32,
)  # fmt: skip


class ControllerActor:
    """`wtl.rollout.Actor`: one reference a row."""

    def __init__(
        self, nets: list[Controller], references: list[dict[str, np.ndarray]], offsets: np.ndarray, *,
        mirrors: int = 1, retreat: int = 0,
    ) -> None:  # fmt: skip
        """`mirrors`: mirrored worlds over which actions are averaged; `retreat`: steps without motion, beyond the
        reference's own longest rest, after which the hand opens and goes up, to begin again; 0: never."""
        count = len(references)
        self._nets, self._r, self._mirrors = [n.eval() for n in nets], Reference.stack(references), mirrors
        self._offset = torch.from_numpy(np.asarray(offsets, np.float32))
        self._start = np.zeros((count, 18), np.float32)
        self._step = np.zeros(count, int)
        self._anchor = np.full((count, 3), np.inf)
        self._tracker = Tracker(references, offsets)
        self._count, self._away = np.zeros(count, int), np.zeros(count, int)
        self._limit = np.array([np.inf if not retreat else retreat + float(r["rest"]) for r in references])

    @torch.inference_mode()
    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Actor.act`."""
        fresh = self._step[rows] <= SETTLED
        self._start[rows[fresh]] = observations[fresh]
        self._step[rows] += 1
        hand = observations[:, :3]
        left = np.square(hand - self._anchor[rows]).sum(-1) > 4e-4
        self._anchor[rows[left]], self._count[rows[left]] = hand[left], 0
        stuck = np.maximum(0, self._count[rows] - 8)[:, None]
        self._count[rows] += 1
        self._tracker.step(rows, np.asarray(observations, np.float32), self._start[rows])
        memory = np.stack([self._tracker.pointer[rows], self._tracker.waited[rows]], -1)
        index = torch.from_numpy(rows)
        now = torch.from_numpy(np.concatenate([observations, stuck, memory], -1).astype(np.float32))[:, None]
        start = torch.from_numpy(self._start[rows])[:, None]
        r, offset = self._r.rows(index), self._offset[index][:, None]
        total = torch.zeros(len(rows), 4)
        for matrix in MIRRORS[: self._mirrors]:
            m = matrix.expand(len(rows), 2, 2)
            mr, mo, mn, ms = (r, offset, now, start) if self._mirrors == 1 else self._mirrored(m, r, offset, now, start)
            for net in self._nets:
                out = net(mr, mo, mn, ms)[:, 0].clamp(-1, 1)
                total += turn(m.transpose(1, 2), out) if self._mirrors > 1 else out
        actions = (total / (self._mirrors * len(self._nets))).numpy().astype(np.float64)
        begin = self._count[rows] > self._limit[rows]
        self._away[rows[begin]], self._count[rows[begin]] = 20, 0
        away = self._away[rows] > 0
        self._away[rows[away]] -= 1
        actions[away] = [0.0, 0.0, 1.0, -1.0]
        return actions

    @staticmethod
    def _mirrored(m: Tensor, r: Reference, offset: Tensor, now: Tensor, start: Tensor) -> tuple:
        now, start = now.clone(), start.clone()
        for x in (now, start):
            for a in (0, 4, 11):
                x[..., a : a + 3] = turn(m, x[..., a : a + 3])
        return turned(r, m), turn(m, offset), now, start
