"""Transformer blocks: self-attention over a context, attention from queries into it. Pre-norm, SDPA."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_SHARPEST = math.log(200.0)  # weight of a squared length: 7 % of a unit of length tells two frames apart

KeyValueCache = tuple[Tensor, ...]
"""What queries attend to, computed once per episode: keys and values (B, H, L, E / H) of each head, and those that all
heads share, (B, L, ...)."""


def _split_heads(x_BLE: Tensor, heads: int) -> Tensor:
    return x_BLE.unflatten(-1, (heads, -1)).transpose(1, 2)


class _FeedForward(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class SelfAttentionBlock(nn.Module):
    """Tokens of one context look at each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = _FeedForward(width)

    def forward(self, x_BLE: Tensor) -> Tensor:
        """Return (B, L, E) tokens after they looked at one another."""
        q, k, v = (_split_heads(part, self.heads) for part in self.qkv(self.norm(x_BLE)).chunk(3, dim=-1))
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        x_BLE = x_BLE + self.out(attended)
        return x_BLE + self.feed_forward(x_BLE)


class RelativeAttentionBlock(nn.Module):
    """Queries look into a context by what they have in common with it: learned content and relative positions.

    Besides the dot product of contents, a frame's score falls with the squared distance between the query's view
    (positions as seen from one another) and the frame's, in a metric that each query chooses for itself; that is a dot
    product too, with `(2 w v, -w)` as query and `(v, |v|^2)` as key. What comes back is the frame's content and how far
    the query is from it in each vector of the view: a family never seen can be followed without being recognised.
    """

    def __init__(self, width: int, heads: int, vectors: int, dimensions: int, payload: int) -> None:
        """Build the block for views of V vectors.

        Args:
            payload: numbers that each frame hands over as they are (its action, the way to the next frame).
        """
        super().__init__()
        self.heads, self.vectors, self.dimensions = heads, vectors, dimensions
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.metric = nn.Linear(width, heads * vectors)
        # Each head begins at its own range: from the whole path (a third of a unit's weight) to single frames.
        ranges = torch.linspace(math.log(0.3), math.log(15.0), heads)
        nn.init.normal_(self.metric.weight, std=0.02)
        with torch.no_grad():
            self.metric.bias.copy_(ranges.repeat_interleave(vectors))
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width + heads * ((vectors + 1) * dimensions + payload), width)
        self.feed_forward = _FeedForward(width)

    def keys_and_values(self, context_BLE: Tensor, view_BLVD: Tensor, payload_BLC: Tensor) -> KeyValueCache:
        """Return the keys and values of a context."""
        k, v = (_split_heads(part, self.heads) for part in self.kv(context_BLE).chunk(2, dim=-1))
        view = view_BLVD.flatten(-2)
        shared_key = torch.cat([view, view_BLVD.square().sum(-1)], dim=-1)
        # In one piece, or every control step would copy them into one.
        return k.contiguous(), v.contiguous(), shared_key, torch.cat([view, payload_BLC], dim=-1)

    def forward(self, x_BQE: Tensor, view_BQVD: Tensor, cache: KeyValueCache) -> Tensor:
        """Return (B, Q, E) queries after they looked into the context; `view_BQVD` is how things stand for each."""
        k, v, shared_key, shared_value = cache
        x = self.norm(x_BQE)
        q = _split_heads(self.q(x), self.heads)
        w = _split_heads(self.metric(x), self.heads).float().clamp(max=_SHARPEST).exp()  # (B, H, Q, V)
        view = view_BQVD[:, None].to(w)
        distance = torch.cat([(2 * w[..., None] * view).flatten(-2), -w], dim=-1)
        # Heads stand behind one another as further queries of what they share: fewer and larger products.
        score = (distance.flatten(1, 2) @ shared_key.mT.to(w)).unflatten(1, (self.heads, -1))
        weight = (score + (q @ k.mT) * q.shape[-1] ** -0.5).softmax(-1)
        shared = (weight.flatten(1, 2) @ shared_value.to(w)).unflatten(1, (self.heads, -1))
        there, payload = shared.split(
            [self.vectors * self.dimensions, shared.shape[-1] - self.vectors * self.dimensions], -1
        )
        away = there.unflatten(-1, view.shape[-2:]) - view
        # The way to the frame in the vectors that this head goes by.
        chosen = (w[..., None] * away).sum(-2) / w.sum(-1, keepdim=True).clamp(min=1e-6)
        found = torch.cat([weight.to(v) @ v, away.flatten(-2), chosen, payload], dim=-1)
        x_BQE = x_BQE + self.out(found.transpose(1, 2).flatten(-2))
        return x_BQE + self.feed_forward(x_BQE)


def sinusoids(positions: int, width: int) -> Tensor:
    """(positions, width) fixed embedding of time. Source: arXiv 1706.03762, section 3.5."""
    angle = torch.arange(positions)[:, None] / 100.0 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :width]
