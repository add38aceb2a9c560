"""From mixtures to actions: how a network that answers with a distribution behaves for an episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wtl.nn.mixture import Mixture
from wtl.seeding import stream


@dataclass(frozen=True)
class ActingConfig:
    """How an action is chosen from a mixture."""

    component: Literal["held", "likeliest"] = "likeliest"
    """held: one quantile of the mixture is drawn per episode and kept, so an episode follows one
    hypothesis; likeliest: the mean of the heaviest component, as the paper does at test time."""


class MixtureActor:
    """`wtl.rollout.Actor` over a function from (row numbers, observations) to mixtures."""

    def __init__(self, config: ActingConfig, answer: Callable[[Tensor, Tensor], Mixture], seeds: Sequence[int]) -> None:
        self._config, self._answer = config, answer
        self._quantile = torch.tensor([stream(seed, "component").random() for seed in seeds])

    @torch.inference_mode()
    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Actor.act`."""
        rows_R = torch.from_numpy(rows)
        mixture = self._answer(rows_R, torch.from_numpy(np.asarray(observations, np.float32)))
        if self._config.component == "held":
            heights = mixture.logits_M.softmax(-1).cumsum(-1)
            component = (heights < self._quantile[rows_R, None]).sum(-1).clamp(max=heights.shape[-1] - 1)
        else:
            component = mixture.logits_M.argmax(-1)
        return mixture.component_mean(component).numpy().astype(np.float64)
