"""This is trial and retrial policy in one network: it reads a demonstration and as many trials as there are.

What it learns from attempts of its own (the expert labels every state that they visited) serves attempt 0
as well. Whether the two policies share their weights is a setting; the paper trains two networks.
"""

from __future__ import annotations

from wtl.core.episode import Context
from wtl.methods.imitation.policy import ContextPolicy


class SharedPolicy(ContextPolicy):
    """Attempt k >= 0: demonstration and k trials in, behaviour out."""

    method = "shared"
    heir_of = ("trial",)

    def readable(self, context: Context) -> Context:
        """The newest trials that fit. Raises ValueError if there is nothing to read."""
        if context.demonstration is None and not context.trials:
            raise ValueError("shared policy expects a demonstration or a trial, got neither; use cloning for attempt 0")
        return context.newest(self.config.network.max_trials)
