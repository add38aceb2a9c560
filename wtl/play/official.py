"""Meta-World's own meta-learning evaluation, played by our improvers.

`OfficialAgent` speaks the protocol `MetaLearningAgent` of `metaworld.evaluation` without importing it:
adaptation episodes become trials, evaluation episodes are acted on all of them. This is the protocol
of published meta-RL numbers, not our own evaluation (`wtl.stages.evaluate`). Traps: the evaluator tells no
success while adapting; its environments restart within the step that ends an episode, so the last
observation of a trial is not delivered either and the one before it stands in its place; and its
adaptation episodes last the whole horizon. Source: metaworld 3.1.1, `metaworld/evaluation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wtl.core.episode import Context, Trajectory
from wtl.core.rng import seed_for
from wtl.play.rollout import Actor, Improver


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


class OfficialAgent:
    """N environments, each with a context that grows by every adaptation episode.

    The first episode of a task is acted by the trial policy, every other one by the retrial policy.
    Successes of the trials are zeros unless `solved_reward` says from which reward on a step counts
    as solved (Meta-World's version 2 pays 10 for it); their trials are then cut as in training.
    """

    def __init__(
        self,
        trial: Improver,
        retrial: Improver,
        env_count: int,
        *,
        demonstrations: Sequence[Trajectory] | None = None,
        seed: int = 0,
        visible: int = 18,
        solved_reward: float | None = None,
        after_success_steps: int = 5,
    ) -> None:
        """`demonstrations`: one an environment, the same for all of its tasks, so never of one of them.

        Without them (regime `none`) the trial policy must be a method without context.

        Raises:
            ValueError: the number of demonstrations is not that of environments.
        """
        if demonstrations is not None and len(demonstrations) != env_count:
            raise ValueError(
                f"expected one demonstration for each of {env_count} environments, got {len(demonstrations)}"
            )
        self._trial, self._retrial, self._visible, self._seed = trial, retrial, visible, seed
        self._solved_reward, self._after_success_steps = solved_reward, after_success_steps
        self._first = [Context(demonstrations[i] if demonstrations else None) for i in range(env_count)]
        self._tasks_seen = 0
        self.init()

    @property
    def contexts(self) -> tuple[Context, ...]:
        """What is known of each environment's present task."""
        return tuple(self._contexts)

    def init(self) -> None:
        """New tasks: forget all trials."""
        count = len(self._first)
        self._contexts = list(self._first)
        self._actors: list[tuple[Actor, int] | None] = [None] * count
        self._steps: list[list[tuple[np.ndarray, np.ndarray, float]]] = [[] for _ in range(count)]
        self._episodes = [0] * count
        self._tasks_seen += 1

    def adapt_action(self, observations: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(N, 39) -> (N, A) while trying."""
        return self._act(observations), {}

    def step(self, timestep: Timestep) -> None:
        """Record what happened; an episode that ended becomes a trial and its environment adapts anew."""
        ended = np.logical_or(timestep.terminated, timestep.truncated)
        for i, steps in enumerate(self._steps):
            steps.append((timestep.observation[i, : self._visible], timestep.action[i], float(timestep.reward[i])))
            if ended[i]:
                self._contexts[i] = self._contexts[i].with_trial(self._trajectory(steps))
                self._steps[i], self._actors[i] = [], None

    def _trajectory(self, steps: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> Trajectory:
        rewards = np.array([reward for _, _, reward in steps])
        solved = np.zeros(len(steps), bool) if self._solved_reward is None else rewards >= self._solved_reward
        end = len(steps)
        if solved.any():
            end = min(end, int(solved.argmax()) + 1 + self._after_success_steps)
        observations = np.stack([observation for observation, _, _ in [*steps, steps[-1]]])
        actions = np.stack([action for _, action, _ in steps])
        return Trajectory(observations[: end + 1], actions[:end], rewards[:end], solved[:end])

    def adapt(self) -> None:
        """Trying is over: drop unfinished episodes; contexts stay as they are until `init` or further steps."""
        count = len(self._first)
        self._steps, self._actors = [[] for _ in range(count)], [None] * count

    def eval_action(self, observations: np.ndarray) -> np.ndarray:
        """(N, 39) -> (N, A) with the trials made so far."""
        return self._act(observations)

    def reset(self, env_mask: np.ndarray) -> None:
        """(N,) bool, where a new episode begins."""
        for i in np.flatnonzero(env_mask):
            self._actors[i] = None

    def _act(self, observations: np.ndarray) -> np.ndarray:
        self._renew()
        seen = np.asarray(observations, np.float32)[:, : self._visible]
        places = [place for place in self._actors if place is not None]
        groups: dict[int, tuple[Actor, list[int], list[int]]] = {}
        for i, (actor, row) in enumerate(places):
            _, environments, rows = groups.setdefault(id(actor), (actor, [], []))
            environments.append(i)
            rows.append(row)
        actions: dict[int, np.ndarray] = {}
        for actor, environments, rows in groups.values():
            actions.update(zip(environments, actor.act(seen[environments], np.array(rows)), strict=True))
        return np.clip(np.stack([actions[i] for i in range(len(places))]), -1.0, 1.0).astype(np.float32)

    def _renew(self) -> None:
        """Actors for all environments whose episode begins, those with equally many trials in one batch."""
        groups: dict[int, list[int]] = {}
        for i, place in enumerate(self._actors):
            if place is None:
                groups.setdefault(len(self._contexts[i].trials), []).append(i)
        for trials, environments in groups.items():
            improver = self._retrial if trials else self._trial
            seeds = [seed_for(self._seed, "official", self._tasks_seen, i, self._episodes[i]) for i in environments]
            actor = improver.actor([self._contexts[i] for i in environments], seeds)
            for row, i in enumerate(environments):
                self._actors[i] = (actor, row)
                self._episodes[i] += 1
