"""Mixture-density head: "left or right?" is two modes and not their mean. Source: arXiv 1906.03352."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_LOW, _HIGH = math.log(0.05), math.log(1.0)  # deviations in units of the action; labels clipped at 1 would push to 0


@dataclass(frozen=True)
class Mixture:
    """Diagonal Gaussians over actions."""

    logits_M: Tensor
    means_MA: Tensor
    log_deviations_MA: Tensor

    def log_probability(self, action_A: Tensor) -> Tensor:
        """(..., A) -> (...)."""
        z = (action_A.unsqueeze(-2) - self.means_MA) / self.log_deviations_MA.exp()
        log_normal = -0.5 * (z.square() + math.log(2 * math.pi)) - self.log_deviations_MA
        return torch.logsumexp(self.logits_M.log_softmax(-1) + log_normal.sum(-1), dim=-1)

    def component_mean(self, component: Tensor) -> Tensor:
        """(...) component numbers -> (..., A)."""
        index = component[..., None, None].expand(*component.shape, 1, self.means_MA.shape[-1])
        return self.means_MA.gather(-2, index).squeeze(-2)


class MixtureHead(nn.Module):
    """(..., E) -> a mixture of M components over A action numbers."""

    def __init__(self, width: int, components: int, action_size: int) -> None:
        super().__init__()
        self.components, self.action_size = components, action_size
        self.linear = nn.Linear(width, components * (1 + 2 * action_size))

    def forward(self, x: Tensor) -> Mixture:
        """Means lie in [-1, 1], where all actions lie."""
        out = self.linear(x).unflatten(-1, (self.components, 1 + 2 * self.action_size)).float()
        logits, means, spread = out.split([1, self.action_size, self.action_size], dim=-1)
        log_deviations = _LOW + (_HIGH - _LOW) * torch.sigmoid(spread)
        return Mixture(logits.squeeze(-1), means.tanh() * 1.05, log_deviations)
