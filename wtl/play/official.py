"""Meta-World's own meta-learning evaluation, played by a method.

`OfficialAgent` speaks the protocol `MetaLearningAgent` of `metaworld.evaluation` without importing it:
adaptation episodes become trials, evaluation episodes are acted on all of them. This is the protocol
of published meta-RL numbers, not our own evaluation (`wtl.stages.evaluate`). Traps: the evaluator tells no
success while adapting; its environments restart within the step that ends an episode, so the last
observation of a trial is not delivered either and the one before it stands in its place; and its
adaptation episodes last the whole horizon. Source: metaworld 3.1.1, `metaworld/evaluation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wtl.core.episode import Context, Trajectory
from wtl.core.rng import seed_for
from wtl.play.policy import Method, Policy, StepBatch


class Timestep(Protocol):
    """One step of all environments, as Meta-World's evaluator delivers it."""

    @property
    def observation(self) -> np.ndarray:
        """(N, 39) before the action."""
        ...

    @property
    def action(self) -> np.ndarray:
        """(N, A)."""
        ...

    @property
    def reward(self) -> np.ndarray:
        """(N,)."""
        ...

    @property
    def terminated(self) -> np.ndarray:
        """(N,) bool."""
        ...

    @property
    def truncated(self) -> np.ndarray:
        """(N,) bool."""
        ...


@dataclass(frozen=True)
class OfficialSettings:
    """How the agent reads what the evaluator delivers."""

    visible: int = 18
    """Numbers of each observation that a method sees; the rest is the past and the goal."""
    solved_reward: float | None = None
    """The reward from which on a step counts as solved (Meta-World's version 2 pays 10 for it); trials are then cut
    as in training. Without it the successes of trials are zeros."""
    after_success_steps: int = 5
    """Steps that are kept after the first success."""


@dataclass
class _Episode:
    """The policy of an environment's present episode, its row there, and the steps taken."""

    policy: Policy
    row: int
    steps: int = 0


class OfficialAgent:
    """N environments, each with a context that grows by every adaptation episode."""

    def __init__(
        self,
        method: Method,
        env_count: int,
        *,
        demonstrations: Sequence[Trajectory] | None = None,
        seed: int = 0,
        settings: OfficialSettings = OfficialSettings(),
    ) -> None:
        """Take one demonstration an environment, the same for all of its tasks, so never of one of them.

        Without them (regime `none`) the method must be able to act without a context.

        Raises:
            ValueError: the number of demonstrations is not that of environments.
        """
        if demonstrations is not None and len(demonstrations) != env_count:
            raise ValueError(
                f"expected one demonstration for each of {env_count} environments, got {len(demonstrations)}"
            )
        self._method, self._settings, self._seed = method, settings, seed
        self._first = [Context((demonstrations[i],) if demonstrations else ()) for i in range(env_count)]
        self._tasks_seen = 0
        self.init()

    @property
    def contexts(self) -> tuple[Context, ...]:
        """What is known of each environment's present task."""
        return tuple(self._contexts)

    def init(self) -> None:
        """Begin with new tasks: forget all trials."""
        count = len(self._first)
        self._contexts = list(self._first)
        self._playing: list[_Episode | None] = [None] * count
        self._steps: list[list[tuple[np.ndarray, np.ndarray, float]]] = [[] for _ in range(count)]
        self._episodes = [0] * count
        self._tasks_seen += 1

    def adapt_action(self, observations: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the (N, A) actions for (N, 39) observations while trying."""
        return self._act(observations), {}

    def step(self, timestep: Timestep) -> None:
        """Record what happened; an episode that ended becomes a trial and its environment adapts anew."""
        ended = np.logical_or(timestep.terminated, timestep.truncated)
        visible = self._settings.visible
        for i, steps in enumerate(self._steps):
            steps.append((timestep.observation[i, :visible], timestep.action[i], float(timestep.reward[i])))
            if ended[i]:
                self._contexts[i] = self._contexts[i].with_trial(self._trajectory(steps))
                self._steps[i], self._playing[i] = [], None

    def _trajectory(self, steps: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> Trajectory:
        rewards, solved_reward = np.array([reward for _, _, reward in steps]), self._settings.solved_reward
        solved = np.zeros(len(steps), bool) if solved_reward is None else rewards >= solved_reward
        end = len(steps)
        if solved.any():
            end = min(end, int(solved.argmax()) + 1 + self._settings.after_success_steps)
        observations = np.stack([observation for observation, _, _ in [*steps, steps[-1]]])
        actions = np.stack([action for _, action, _ in steps])
        return Trajectory(observations[: end + 1], actions[:end], rewards[:end], solved[:end])

    def adapt(self) -> None:
        """End the trying: drop unfinished episodes; contexts stay as they are until `init` or further steps."""
        count = len(self._first)
        self._steps, self._playing = [[] for _ in range(count)], [None] * count

    def eval_action(self, observations: np.ndarray) -> np.ndarray:
        """Return the (N, A) actions for (N, 39) observations with the trials made so far."""
        return self._act(observations)

    def reset(self, env_mask: np.ndarray) -> None:
        """Begin a new episode where the (N,) mask is true."""
        for i in np.flatnonzero(env_mask):
            self._playing[i] = None

    def _act(self, observations: np.ndarray) -> np.ndarray:
        self._begin_episodes()
        seen = np.asarray(observations, np.float64)[:, : self._settings.visible]
        groups: dict[int, list[int]] = {}
        for i, episode in enumerate(self._playing):
            assert episode is not None
            groups.setdefault(id(episode.policy), []).append(i)
        actions: dict[int, np.ndarray] = {}
        for environments in groups.values():
            playing = [episode for i in environments if (episode := self._playing[i])]
            rows, unknown = np.array([episode.row for episode in playing]), np.full(len(playing), np.nan)
            number = playing[0].steps
            step = StepBatch(seen[environments], rows, number, unknown, unknown)
            actions.update(zip(environments, playing[0].policy.act(step), strict=True))
            for episode in playing:
                episode.steps += 1
        return np.clip(np.stack([actions[i] for i in range(len(seen))]), -1.0, 1.0).astype(np.float32)

    def _begin_episodes(self) -> None:
        """Adapt for all environments whose episode begins, those with equally many trials in one batch."""
        groups: dict[int, list[int]] = {}
        for i, episode in enumerate(self._playing):
            if episode is None:
                groups.setdefault(len(self._contexts[i].trials), []).append(i)
        for environments in groups.values():
            seeds = [seed_for(self._seed, "official", self._tasks_seen, i, self._episodes[i]) for i in environments]
            policy = self._method.adapt([self._contexts[i] for i in environments], seeds)
            for row, i in enumerate(environments):
                self._playing[i] = _Episode(policy, row)
                self._episodes[i] += 1
