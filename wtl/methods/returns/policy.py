"""Asking a policy for a return: the command of each step, and the window that it sees.

What was earned is taken off what is asked for, step by step. Where rewards are seen only when an attempt is over
(`protocol.feedback=end`), the return is presumed to be earned evenly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wtl.core.episode import Context
from wtl.core.rng import stream
from wtl.core.task import FamilySpec
from wtl.data.segments import make_context_batch
from wtl.methods.nn.mixture import Mixture
from wtl.methods.returns.config import ReturnsConfig
from wtl.methods.returns.network import ReturnNetwork, to_command
from wtl.play.policy import StepBatch


class ReturnMethod:
    """Contexts with a desired return in, policies out."""

    def __init__(self, config: ReturnsConfig, spec: FamilySpec, network: ReturnNetwork, source: str) -> None:
        self.config, self.spec, self.network, self.source = config, spec, network, source
        network.eval()

    @torch.inference_mode()
    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> ReturnPolicy:
        """See `Method.adapt`. Trials are not read."""
        prompt = None
        if self.config.prompt_frames and all(context.demonstrations for context in contexts):
            first = [Context(context.demonstrations[:1]) for context in contexts]
            batch = make_context_batch(first, self.config.prompt_frames, self.spec.reward_scale)
            prompt = self.network.encode_prompt(batch.demonstrations)
        asked = [self.asked(context) for context in contexts]
        return ReturnPolicy(self.config, self.spec, self.network, prompt, asked, seeds)

    def asked(self, context: Context) -> float:
        """Return what is asked for, in units of `reward_scale`."""
        scale, horizon = self.spec.reward_scale, int(self.network.horizon)
        if context.desired_return is not None:
            return context.desired_return / scale
        if context.demonstration is not None:
            return self.config.asked * context.demonstration.total_reward(horizon) / scale
        return self.config.asked * horizon


class ReturnPolicy:
    """A `Policy` that keeps, for each row, what is still asked for and the last W steps."""

    def __init__(
        self,
        config: ReturnsConfig,
        spec: FamilySpec,
        network: ReturnNetwork,
        prompt_BFE: Tensor | None,
        asked_B: Sequence[float],
        seeds: Sequence[int],
    ) -> None:
        self._config, self._spec, self._network, self._prompt_BFE = config, spec, network, prompt_BFE
        self._asked_B = np.array(asked_B, np.float64)
        self._left_B = self._asked_B.copy()
        self._horizon = int(network.horizon)
        self._generators = [stream(seed, "actions") for seed in seeds]
        self._window: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=config.window_steps)
        self._actions_BA = torch.zeros(len(seeds), spec.action_size)

    @torch.inference_mode()
    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        rows = step.rows
        if step.number:
            evenly = self._asked_B[rows] / self._horizon
            earned = step.previous_rewards / self._spec.reward_scale
            self._left_B[rows] -= np.where(np.isnan(earned), evenly, earned)
        observations_BO = torch.zeros(len(self._left_B), step.observations.shape[1])
        observations_BO[rows] = torch.from_numpy(np.asarray(step.observations, np.float32))
        self._window.append((self._commands(step.number), observations_BO, self._actions_BA.clone()))
        index = torch.from_numpy(rows)
        commands, observations, actions = (torch.stack([s[i] for s in self._window], 1)[index] for i in range(3))
        actions[:, 0] = 0.0
        prompt = None if self._prompt_BFE is None else self._prompt_BFE[index]
        valid = torch.ones(len(rows), len(self._window), dtype=torch.bool)
        mixture = self._network(prompt, commands, observations, actions, valid)
        chosen = self._choose(Mixture(*(part[:, -1] for part in vars(mixture).values())), rows)
        self._actions_BA[index] = chosen.float()
        return chosen.numpy()

    def _commands(self, number: int) -> Tensor:
        steps = max(self._horizon - number, 1)
        mean = self._asked_B / self._horizon * steps  # stays what it was asked to be
        returns = mean if self._config.command == "mean_return" else self._left_B
        to_go = torch.full((len(returns),), float(steps))
        return to_command(self._config.command, torch.from_numpy(returns).float(), to_go, self._network.horizon)

    def _choose(self, mixture: Mixture, rows: np.ndarray) -> Tensor:
        """Return (R, A) actions within [-1, 1]; each row draws from a stream of its own."""
        if self._config.acting == "likeliest":
            return mixture.component_mean(mixture.logits_M.argmax(-1)).clamp(-1.0, 1.0).double()
        size = self._spec.action_size
        drawn = [(self._generators[r].random(), self._generators[r].standard_normal(size)) for r in rows.tolist()]
        quantile = torch.tensor([one for one, _ in drawn])
        heights = mixture.logits_M.softmax(-1).cumsum(-1)
        component = (heights < quantile[:, None]).sum(-1).clamp(max=heights.shape[-1] - 1)
        spread = mixture.log_deviations_MA.exp()
        deviation = Mixture(mixture.logits_M, spread, spread).component_mean(component)
        noise = torch.from_numpy(np.stack([normal for _, normal in drawn]))
        return (mixture.component_mean(component) + deviation * noise).clamp(-1.0, 1.0).double()
