"""The protocol of an attempt: part of every number, the same in collection and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from wtl.play.rollout import Feedback


@dataclass(frozen=True)
class ProtocolConfig:
    """How an attempt is played."""

    horizon_steps: int = 500
    """The longest attempt of an evaluation; collection may take shorter ones (`trials.horizons_steps`)."""
    after_success_steps: int | None = 5
    """An attempt ends that many steps after its first success, which decides it; `return` sums up to there.
    null plays the whole horizon; then not even the length of a trial tells how it ended."""
    feedback: Feedback = "end"
    """end: rewards and successes of an attempt are seen when it is over, as in Watch-Try-Learn; step: as they come."""

    def __post_init__(self) -> None:
        if self.horizon_steps < 1:
            raise ValueError(f"protocol.horizon_steps must be at least 1, got {self.horizon_steps}")
        if self.after_success_steps is not None and self.after_success_steps < 0:
            raise ValueError(f"protocol.after_success_steps must not be negative, got {self.after_success_steps}")
