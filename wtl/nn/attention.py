"""Transformer blocks: self-attention over a context, cross-attention from queries into it. Pre-norm, SDPA."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

KeyValue = tuple[Tensor, Tensor]
"""(B, H, L, E / H) each: what a context offers to queries, computed once per episode."""


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
        """(B, L, E) -> (B, L, E)."""
        q, k, v = (_split_heads(part, self.heads) for part in self.qkv(self.norm(x_BLE)).chunk(3, dim=-1))
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        x_BLE = x_BLE + self.out(attended)
        return x_BLE + self.feed_forward(x_BLE)


class CrossAttentionBlock(nn.Module):
    """Queries look into a context; each query by itself, so a control step costs only the query."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = _FeedForward(width)

    def offer(self, context_BLE: Tensor) -> KeyValue:
        """Keys and values of a context."""
        k, v = self.kv(context_BLE).chunk(2, dim=-1)
        return _split_heads(k, self.heads), _split_heads(v, self.heads)

    def forward(self, x_BQE: Tensor, offered: KeyValue | None) -> Tensor:
        """(B, Q, E) -> (B, Q, E); None where there is no context to look into."""
        if offered is not None:
            q = _split_heads(self.q(self.norm(x_BQE)), self.heads)
            attended = scaled_dot_product_attention(q, *offered).transpose(1, 2).flatten(-2)
            x_BQE = x_BQE + self.out(attended)
        return x_BQE + self.feed_forward(x_BQE)


def sinusoids(positions: int, width: int) -> Tensor:
    """(positions, width) fixed embedding of time. Source: arXiv 1706.03762, section 3.5."""
    angle = torch.arange(positions)[:, None] / 100.0 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :width]
