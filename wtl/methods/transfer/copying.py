"""How the learned controller plays, and how it is trained.

It is a function of the present state, so what is left for the policy is when to give a hypothesis up: where the hand
has stood still for longer than the reference ever did, it lets the object go and goes up, unless it still holds it.
Training is imitation of the expert on its own path, beside it, and where the controller itself has led (DAgger, arXiv
1011.0686), told the true goal throughout: inferring it is the scorer's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from wtl.core.bounds import Between, Bounded, Positive
from wtl.core.episode import Context, Trajectory
from wtl.core.rng import seed_for, stream
from wtl.core.task import ObservationLayout
from wtl.data.meta_batches import Batch
from wtl.data.segments import SETTLE_STEPS, make_context_batch
from wtl.methods.learner import Losses
from wtl.methods.transfer.copier import Copier, ReferenceFrames, States
from wtl.methods.transfer.reference import ReferenceConfig, read_reference, until_success
from wtl.methods.transfer.tracking import Hypotheses, TrackingPolicy
from wtl.play.policy import StepBatch

_STILL_STEPS = 2.0  # a hand that stays within this distance, in hand steps, stands still


@dataclass(frozen=True)
class CopyingConfig(Bounded):
    """When a hypothesis is given up. Lengths are in hand steps: the way of the hand in one step at full action."""

    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    """How much of a trajectory is the reference."""
    patience_steps: Annotated[int, Between(0, 10**6)] = 10
    """Control steps that the hand may stand still beyond the longest rest in the reference."""
    longest: Positive = 3.0
    """How much longer than the reference one try may be."""
    retreat_steps: Annotated[int, Between(0, 10**6)] = 20
    """Control steps of a retreat: the gripper opens and the hand goes up."""
    hold_steps: Positive = 3.0
    """The object is still in the hand if it is where it was at the reference's end, seen from the hand, within this."""
    tries: Annotated[int, Between(0, 10_000)] = 0
    """Hypotheses that an attempt may try; 0: as many as fit."""


def still_steps(hand_TD: np.ndarray, radius: float) -> np.ndarray:
    """Return (T,): for how many steps the hand has stayed within `radius` of where it came to stand."""
    counts, anchor, count = np.zeros(len(hand_TD), int), hand_TD[0], 0
    for t, hand in enumerate(hand_TD):
        if np.linalg.norm(hand - anchor) > radius:
            anchor, count = hand, 0
        counts[t] = count
        count += 1
    return counts


class CopyingPolicy:
    """A `Policy` with one reference a row, each warped to hypotheses of where its end has gone."""

    def __init__(
        self,
        config: CopyingConfig,
        network: Copier,
        layout: ObservationLayout,
        references: Sequence[Trajectory],
        hypotheses: Hypotheses,
        seeds: Sequence[int],
    ) -> None:
        """Read the references, one a row; nothing is drawn, so the seeds do not matter."""
        self._config, self._network, self._layout, self._hypotheses = config, network.eval(), layout, hypotheses
        cut = [until_success(reference, config.reference.tail_steps) for reference in references]
        batch = make_context_batch([Context((reference,)) for reference in cut], network.config.frames, 1.0)
        assert batch.demonstrations is not None
        with torch.inference_mode():
            self._frames = network.read(batch.demonstrations)
        self._held = [read_reference(reference, layout, config.reference) for reference in cut]
        unit, hand = layout.hand_step, layout.points[0]
        self._radius = _STILL_STEPS * unit
        self._patience = np.array(
            [
                still_steps(r.observations[:, hand : hand + layout.dimensions], self._radius).max()
                + config.patience_steps
                for r in cut
            ]
        )
        self._longest = np.array([config.longest * len(r) + 50 for r in cut])
        count = len(references)
        self._start = np.zeros((count, layout.size), np.float32)
        self._new = np.ones(count, bool)
        self._walk, self._tries = np.zeros(count, int), np.zeros(count, int)
        self._anchor, self._still = np.full((count, layout.dimensions), np.inf), np.zeros(count, int)
        self._away = np.zeros(count, int)
        self._queue = [np.zeros((1, layout.dimensions))] * count
        self._selection: tuple[list[int], ReferenceFrames] | None = None

    @property
    def action_size(self) -> int:
        """A."""
        return self._network.action_size

    @torch.inference_mode()
    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        rows, seen = step.rows, np.array(step.observations, np.float32)
        new = self._new[rows]
        if new.any():
            for row, offsets in zip(
                rows[new].tolist(), self._hypotheses(rows[new], step.observations[new]), strict=True
            ):
                self._queue[row] = offsets
        self._new[rows] = False
        self._walk[rows] += 1
        fresh = self._walk[rows] <= SETTLE_STEPS + 1
        self._start[rows[fresh]] = seen[fresh]
        self._watch(rows, seen)
        offsets = np.stack([self._queue[row][self._tries[row] % len(self._queue[row])] for row in rows.tolist()])
        states = States(
            *(torch.from_numpy(np.asarray(x, np.float32))[:, None] for x in (seen, self._start[rows], offsets))
        )
        actions = self._network(self._select(rows), states)[:, 0].clamp(-1.0, 1.0).numpy().astype(np.float64)
        away = self._away[rows] > 0
        self._away[rows[away]] -= 1
        actions[away] = self._retreat(actions.shape[1])
        self._walk[rows[away & (self._away[rows] == 0)]] = 0  # the next try begins where this retreat has ended
        return actions

    def _select(self, rows: np.ndarray) -> ReferenceFrames:
        """Return the references of these rows. Rows change seldom, so the last selection is kept."""
        if self._selection is None or self._selection[0] != rows.tolist():
            self._selection = rows.tolist(), self._frames.rows(torch.from_numpy(rows))
        return self._selection[1]

    def _retreat(self, size: int) -> np.ndarray:
        away = np.zeros(size)
        away[self._layout.dimensions - 1] = 1.0
        away[self._layout.dimensions :] = -1.0
        return away

    def _watch(self, rows: np.ndarray, seen: np.ndarray) -> None:
        """Give up hypotheses that have come to nothing."""
        hand = seen[:, self._layout.points[0] :][:, : self._layout.dimensions]
        left = np.linalg.norm(hand - self._anchor[rows], axis=-1) > self._radius
        self._anchor[rows[left]], self._still[rows[left]] = hand[left], 0
        self._still[rows] += 1
        if self._config.tries == 1:
            return
        ended = (self._still[rows] > self._patience[rows]) | (self._walk[rows] > self._longest[rows])
        for i in np.flatnonzero(ended & (self._away[rows] == 0)).tolist():
            row = int(rows[i])
            if self._config.tries and self._tries[row] + 1 >= self._config.tries:
                continue
            self._tries[row] += 1
            self._still[row], self._walk[row] = 0, SETTLE_STEPS + 1
            if not self._holds(row, seen[i]):
                self._away[row] = self._config.retreat_steps

    def _holds(self, row: int, observation: np.ndarray) -> bool:
        reference = self._held[row]
        if reference.held_D is None:
            return True  # nothing was to be moved, so nothing can have been lost
        positions = self._layout.positions(observation.astype(np.float64))
        away = positions[reference.waypoints[0].point] - positions[0] - reference.held_D
        return float(np.linalg.norm(away)) < self._config.hold_steps * self._layout.hand_step


@dataclass(frozen=True)
class CopierLearner:
    """Trains the controller by imitation, in mirrored worlds and with noise on where objects are seen."""

    network: Copier
    sight_noise: float
    """Largest standard deviation of that noise, in hand steps; each context draws its own below it, or none."""
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """Nothing is normalised: lengths are in hand steps."""

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        assert batch.context is not None and batch.context.demonstrations is not None
        generator = torch.Generator().manual_seed(batch.seed)
        shown = batch.context.demonstrations
        labels, layout = batch.expert_actions_BQA, self.network.layout
        mirror = _mirrors(len(labels), layout.dimensions, generator).to(labels)
        states = States(
            self._seen(batch.observations_BQO, generator),
            self._seen(batch.starts_BQO, generator),
            batch.goals_BQG - batch.demonstrated_goal_BG[:, None],
        )
        shown = replace(
            shown,
            observations_BSFO=_mirrored_points(mirror, shown.observations_BSFO, layout),
            actions_BSFA=_mirrored(mirror, shown.actions_BSFA),
        )
        states = States(
            _mirrored_points(mirror, states.now_BQO, layout),
            _mirrored_points(mirror, states.starts_BQO, layout),
            _mirrored(mirror, states.offsets_BQD),
        )
        labels = _mirrored(mirror, labels)
        known = labels.isfinite().all(-1)
        actions = self.network(self.network.read(shown), states)
        off = nn.functional.smooth_l1_loss(actions, labels.nan_to_num(), beta=0.1, reduction="none").mean(-1)
        action = (off * known).sum() / known.sum().clamp(min=1)
        return Losses(action, action=action)

    def _seen(self, observations_BQO: Tensor, generator: torch.Generator) -> Tensor:
        layout = self.network.layout
        scale = torch.rand(len(observations_BQO), 1, 1, generator=generator)
        scale = scale * (torch.rand(scale.shape, generator=generator) < 0.4) * self.sight_noise * layout.hand_step
        seen = observations_BQO.clone()
        for point in layout.points[1:]:
            place = seen[..., point : point + layout.dimensions]
            noise = torch.randn(place.shape, generator=generator) * scale
            seen[..., point : point + layout.dimensions] = place + noise.to(place) * place.any(-1, keepdim=True)
        return seen


def _mirrors(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return (B, 2, 2) matrices that mirror the first two axes or swap them; 3 in 10 do nothing."""
    if size < 2:
        return torch.ones(count, 1, 1)
    swap = torch.rand(count, generator=generator) < 0.5
    signs = torch.randint(0, 2, (count, 2), generator=generator) * 2.0 - 1.0
    plain = torch.rand(count, generator=generator) < 0.3
    swap[plain], signs[plain] = False, 1.0
    matrices, rows = torch.zeros(count, 2, 2), torch.arange(count)
    matrices[rows, 0, swap.long()], matrices[rows, 1, 1 - swap.long()] = signs[:, 0], signs[:, 1]
    return matrices


def _mirrored(matrices_B22: Tensor, x: Tensor) -> Tensor:
    """Return (B, ..., D or more) with the first two numbers of the last axis turned."""
    size = matrices_B22.shape[-1]
    flat = x.flatten(1, -2)
    turned = torch.cat([flat[..., :size] @ matrices_B22.transpose(1, 2), flat[..., size:]], dim=-1)
    return turned.reshape(x.shape)


def _mirrored_points(matrices_B22: Tensor, observations: Tensor, layout: ObservationLayout) -> Tensor:
    turned = observations.clone()
    for point in layout.points:
        place = observations[..., point : point + layout.dimensions]
        turned[..., point : point + layout.dimensions] = _mirrored(matrices_B22, place)
    return turned


class Lapses:
    """A policy that now and then does something random for a few steps, with the gripper too: what it held it drops.

    What a controller is trained on must hold states from which only it can recover.
    """

    def __init__(self, policy: TrackingPolicy, seeds: Sequence[int]) -> None:
        """Draw the rate of each row: two rows in three have no lapses."""
        self._policy = policy
        self._generators = [stream(seed_for(seed, "lapses"), "lapses") for seed in seeds]
        self._rate = [float(generator.choice([0.0, 0.0, 0.02])) for generator in self._generators]
        self._left = np.zeros(len(seeds), int)
        self._push = np.zeros((len(seeds), policy.action_size))

    @property
    def action_size(self) -> int:
        """A."""
        return self._policy.action_size

    def act(self, step: StepBatch) -> np.ndarray:
        """See `Policy.act`."""
        actions = self._policy.act(step)
        for i, row in enumerate(step.rows.tolist()):
            generator = self._generators[row]
            if self._left[row] == 0 and generator.random() < self._rate[row]:
                self._left[row] = int(generator.integers(3, 12))
                self._push[row] = generator.uniform(-1, 1, actions.shape[1])
            if self._left[row]:
                self._left[row] -= 1
                actions[i] = self._push[row]
        return actions
