"""From mixtures to actions: how a network that answers with a distribution behaves for an episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wtl.core.bounds import Bounded
from wtl.core.rng import stream
from wtl.methods.nn.mixture import Mixture
from wtl.play.policy import StepBatch


@dataclass(frozen=True)
class ActingConfig(Bounded):
    """How an action is chosen from a mixture."""

    component: Literal["held", "likeliest"] = "likeliest"
    """held: one quantile of the mixture is drawn per episode and kept, so an episode follows one hypothesis, until a
    trial has succeeded; likeliest: the mean of the heaviest component, as the paper does at test time."""


class MixturePolicy:
    """A `Policy` over a function from (row numbers, observations) to mixtures."""

    def __init__(
        self,
        config: ActingConfig,
        answer: Callable[[Tensor, Tensor], Mixture],
        seeds: Sequence[int],
        solved: Sequence[bool] = (),
    ) -> None:
        """Draw the quantile of each row.

        Args:
            solved: rows (none if empty) that have nothing left to look for.
        """
        self._answer = answer
        held = config.component == "held"
        self._held = torch.tensor([held and not known for known in solved or [False] * len(seeds)])
        self._quantile = torch.tensor([stream(seed, "component").random() for seed in seeds])

    @torch.inference_mode()
    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        rows_R = torch.from_numpy(step.rows)
        mixture = self._answer(rows_R, torch.from_numpy(np.asarray(step.observations, np.float32)))
        component = mixture.logits_M.argmax(-1)
        if self._held.any():
            heights = mixture.logits_M.softmax(-1).cumsum(-1)
            drawn = (heights < self._quantile[rows_R, None]).sum(-1).clamp(max=heights.shape[-1] - 1)
            component = torch.where(self._held[rows_R], drawn, component)
        return mixture.component_mean(component).numpy().astype(np.float64)
