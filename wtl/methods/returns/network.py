"""A causal transformer over commands, observations and actions, with the demonstration as a prompt.

Decision Transformer (arXiv 2106.01345) has three tokens a step: return-to-go, observation, action. Here a step is one
token that holds the command, the observation and the action *before* it, so that every action is predicted from the
very same past with a third of the tokens. With a window of one step it is a policy without memory, as its one-step
relatives are. By default the actions of the past are left out (`past_actions`). The prompt is that of Prompt-DT (arXiv
2206.13499), frames instead of snippets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch, Windows
from wtl.data.segments import Segments
from wtl.methods.learner import Losses
from wtl.methods.nn.attention import sinusoids
from wtl.methods.nn.features import ObservationFeatures
from wtl.methods.nn.mixture import Mixture, MixtureHead
from wtl.methods.returns.config import Command, ReturnsConfig

COMMAND_SIZES: dict[Command, int] = {"return_to_go": 1, "return_and_horizon": 2, "mean_return": 1, "none": 0}


def to_command(command: Command, returns_to_go: Tensor, steps_to_go: Tensor, horizon: Tensor) -> Tensor:
    """Return the (..., C) numbers of a command.

    Args:
        returns_to_go: (...), scaled rewards from this step to the end.
        steps_to_go: (...), the steps that are left, this one included; at least 1.
        horizon: the longest episode, in steps.
    """
    parts = {
        "return_to_go": [returns_to_go / horizon],
        "return_and_horizon": [returns_to_go / horizon, steps_to_go / horizon],
        "mean_return": [returns_to_go / steps_to_go],
        "none": [],
    }[command]
    return torch.stack(parts, dim=-1) if parts else returns_to_go.new_zeros((*returns_to_go.shape, 0))


class _Block(nn.Module):
    """Causal self-attention with a mask, and a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_BLE: Tensor, seen_BLL: Tensor) -> Tensor:
        parts = self.qkv(self.norm(x_BLE)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=seen_BLL[:, None]).transpose(1, 2).flatten(-2)
        x_BLE = x_BLE + self.out(attended)
        return x_BLE + self.feed_forward(x_BLE)


class ReturnNetwork(nn.Module):
    """Prompts and windows of steps in, a mixture over the action of every step out."""

    horizon: Tensor
    """The longest episode that it has learned from, in steps: the horizon that it is asked for."""

    def __init__(self, config: ReturnsConfig, spec: FamilySpec) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.features = ObservationFeatures(spec.layout)
        size = self.features.size + spec.action_size
        self.register_buffer("horizon", torch.ones(()))
        self.prompt = nn.Linear(size, width)
        self.step = nn.Linear(size + COMMAND_SIZES[config.command], width)
        self.place = nn.Parameter(0.02 * torch.randn(config.window_steps, width))
        self.blocks = nn.ModuleList(_Block(width, config.heads) for _ in range(config.layers))
        self.trunk = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU())
        self.head = MixtureHead(2 * width, config.components, spec.action_size)

    def encode_prompt(self, demonstrations: Segments | None) -> Tensor | None:
        """Return (B, F, E) tokens of each context's first demonstration; None without any."""
        if demonstrations is None or not self.config.prompt_frames:
            return None
        observations = self.features(demonstrations.observations_BSFO[:, 0])
        x_BFE = self.prompt(torch.cat([observations, demonstrations.actions_BSFA[:, 0]], dim=-1))
        return x_BFE + sinusoids(x_BFE.shape[1], x_BFE.shape[2]).to(x_BFE)

    def forward(
        self, prompt_BFE: Tensor | None, commands_BWC: Tensor, observations_BWO: Tensor, actions_BWA: Tensor,
        valid_BW: Tensor,
    ) -> Mixture:  # fmt: skip
        """Return the mixtures (B, W) over what to do at each step, from that step and the ones before.

        Args:
            actions_BWA: what was done *before* each step; zeros at the first one of a window.
            valid_BW: False for steps before the episode began, which nothing looks at.
        """
        steps = observations_BWO.shape[1]
        done = actions_BWA if self.config.past_actions == "seen" else torch.zeros_like(actions_BWA)
        x = torch.cat([self.features(observations_BWO), done, commands_BWC], dim=-1)
        x_BLE = self.step(x) + self.place[-steps:]
        frames = 0
        if prompt_BFE is not None:
            frames, x_BLE = prompt_BFE.shape[1], torch.cat([prompt_BFE, x_BLE], dim=1)
        seen_BLL = _seen(frames, valid_BW)
        for block in self.blocks:
            x_BLE = block(x_BLE, seen_BLL)
        return self.head(self.trunk(x_BLE[:, frames:]))


def _seen(frames: int, valid_BW: Tensor) -> Tensor:
    """Return (B, L, L), whether a token looks at another: at the prompt, itself, and valid steps before it."""
    count, steps = valid_BW.shape
    causal = torch.ones(frames + steps, frames + steps, dtype=torch.bool, device=valid_BW.device).tril()
    causal[:frames, :frames] = True
    there = torch.cat([valid_BW.new_ones(count, frames), valid_BW], dim=1)
    itself = torch.eye(frames + steps, dtype=torch.bool, device=valid_BW.device)
    return (causal & there[:, None]) | itself


def actions_before(actions_BWA: Tensor) -> Tensor:
    """Return what was done before each step of a window, zeros before its first one."""
    return torch.cat([torch.zeros_like(actions_BWA[:, :1]), actions_BWA[:, :-1]], dim=1)


class ReturnLearner:
    """Trains a policy to do what was done, given the return that came of it."""

    compiles = False

    def __init__(self, network: ReturnNetwork) -> None:
        self.network = network

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        assert batch.windows is not None
        network, queries = self.network, batch.observations_BQO.shape[1]
        prompt = network.encode_prompt(batch.context.demonstrations if batch.context else None)
        if prompt is not None:
            prompt = prompt.repeat_interleave(queries, dim=0)
        flat = Windows(**{name: part.flatten(0, 1) for name, part in vars(batch.windows).items()})
        if network.training:
            longest = (flat.steps_BQW + flat.steps_to_go_BQW).max().to(network.horizon)
            network.horizon.copy_(torch.maximum(network.horizon, longest))
        commands = to_command(
            network.config.command, flat.returns_to_go_BQW, flat.steps_to_go_BQW.clamp(min=1).float(), network.horizon
        )
        if network.config.returns == "shuffled":
            order = torch.randperm(len(commands), generator=torch.Generator().manual_seed(batch.seed))
            commands = commands[order.to(commands.device)]
        before = actions_before(flat.actions_BQWA)
        mixture = network(prompt, commands, flat.observations_BQWO, before, flat.valid_BQW)
        unlikely = -mixture.log_probability(flat.actions_BQWA)
        action = (unlikely * flat.valid_BQW).sum() / flat.valid_BQW.sum()
        return Losses(action, action)
