"""This is the trial policy with: its trials. The learned policy-improvement operator itself.

It reads demonstration and trials with their rewards and is trained to do what the expert does in that
task; trials are context, they are not imitated. Source: arXiv 1906.03352.
"""

from __future__ import annotations

from wtl.core.episode import Context
from wtl.methods.imitation.policy import ContextPolicy


class RetrialPolicy(ContextPolicy):
    """Attempt k >= 1: demonstration and k trials in, behaviour out."""

    method = "retrial"

    def readable(self, context: Context) -> Context:
        """The newest trials that fit. Raises ValueError if there are none."""
        if not context.trials:
            raise ValueError("retrial policy expects a context with at least 1 trial, got 0; use the trial policy")
        return context.newest(self.config.network.max_trials)
