"""This is the trial policy: it has watched, and acts before anything was tried.

It is trained to do what the expert does in a task of which it saw the demonstration of another one,
and explores by holding one hypothesis for a whole episode. Source: arXiv 1906.03352.
"""

from __future__ import annotations

from wtl.core.episode import Context
from wtl.methods.imitation.policy import ContextPolicy


class TrialPolicy(ContextPolicy):
    """Attempt 0: demonstration in, behaviour out."""

    method = "trial"

    def readable(self, context: Context) -> Context:
        """Raises ValueError if the context holds trials or no demonstration."""
        if context.trials:
            raise ValueError(
                f"trial policy expects a context with 0 trials, got {len(context.trials)}; use the retrial policy"
            )
        if context.demonstration is None:
            raise ValueError(
                "trial policy expects a demonstration, got none; in regime `none` use cloning for attempt 0"
            )
        return context
