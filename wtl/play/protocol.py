"""The protocol of an attempt: part of every number, the same in collection and evaluation.

Meta-World resets deterministically, so an attempt that begins from the identical state can repeat a lucky hit bit for
bit, and a curve can rise without anything being learned. `starts: redrawn` is what users ask for and the default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from wtl.core.bounds import Between, Bounded, Horizon, Noise
from wtl.core.rng import seed_for
from wtl.core.task import TaskFamily
from wtl.play.policy import Session
from wtl.play.rollout import Feedback, RolloutSettings

Starts = Literal["redrawn", "repeated"]
Walks = Literal["many", "one"]


@dataclass(frozen=True)
class ProtocolConfig(Bounded):
    """How an attempt is played."""

    starts: Starts = "redrawn"
    """redrawn: each attempt begins from another start of the same hidden goal; a family with a single start repeats
    it. repeated: each attempt begins from the identical state."""
    walks: Walks = "many"
    """How many tries an attempt may hold: as many as fit (attempt 0 is then a search), or one."""
    feedback: Feedback = "end"
    """end: rewards and successes of an attempt are seen when it is over, as in Watch-Try-Learn; step: as they come."""
    action_noise: Noise = 0.0
    """Standard deviation of time-correlated noise in what the world executes, in units of the action."""
    position_noise: Annotated[float, Between(0, 1000)] = 0.0
    """Standard deviation of noise in observed positions, in their units (Meta-World: metres)."""
    horizon_steps: Horizon = 500
    """The longest attempt of an evaluation; collection may take shorter ones (`trials.horizons_steps`)."""
    after_success_steps: Annotated[int, Between(0, 100_000)] | None = 5
    """An attempt ends that many steps after its first success, which decides it; `return` sums up to there.
    null plays the whole horizon; then not even the length of a trial tells how it ended."""

    @property
    def name(self) -> str:
        """What results and tables call it, for instance `redrawn starts, many walks, feedback at the end`."""
        feedback = {"end": "feedback at the end", "step": "feedback at each step"}[self.feedback]
        walks = {"many": "many walks", "one": "one walk"}[self.walks]
        noise = [f"action noise {self.action_noise:g}"] if self.action_noise else []
        noise += [f"position noise {self.position_noise:g}"] if self.position_noise else []
        return ", ".join([f"{self.starts} starts", walks, feedback, *noise])

    def rollout(self, horizon_steps: int | tuple[int, ...] | None = None, ask_expert: bool = False) -> RolloutSettings:
        """Return how a batch of attempts is played."""
        return RolloutSettings(
            horizon_steps=self.horizon_steps if horizon_steps is None else horizon_steps,
            after_success_steps=self.after_success_steps,
            feedback=self.feedback,
            action_noise=self.action_noise,
            position_noise=self.position_noise,
            ask_expert=ask_expert,
        )

    def sessions(self, family: TaskFamily, sessions: Sequence[Session], number: int) -> list[Session]:
        """Return the sessions as attempt `number` begins: with another start where starts are redrawn.

        Attempt 0 begins as the task says. The task keeps its name, because its hidden goal is the same.
        """
        if self.starts == "repeated" or number == 0:
            return list(sessions)
        return [_with_other_start(family, session, number) for session in sessions]

    def entry_digest(self, family: TaskFamily, session: Session) -> str:
        """Return 16 hexadecimal digits that are the same only for the same task, starts, demonstrations and seed.

        The start of attempt 1 stands for all that are redrawn, because one rule draws them from the seed of the
        entry; so a run with more attempts has the same entries.
        """
        [second] = self.sessions(family, [session], 1)
        digest = hashlib.sha256()
        for task in (session.task, second.task, *(shown.task for shown in session.demonstrations)):
            digest.update(repr((task.family, task.name, tuple(map(float, task.parameters)))).encode())
        digest.update(str(session.seed).encode())
        for trajectory in session.context.demonstrations:
            for array in (trajectory.observations, trajectory.actions, trajectory.rewards, trajectory.successes):
                digest.update(array.tobytes())
        return digest.hexdigest()[:16]


def _with_other_start(family: TaskFamily, session: Session, number: int) -> Session:
    try:
        other = family.with_other_start(session.task, seed_for(session.seed, "start", number))
    except ValueError:  # a single start
        return session
    return replace(session, task=replace(other, name=session.task.name))
