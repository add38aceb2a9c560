"""In which order the scorer is trained, and on which trials; the same whoever controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wtl.core.task import Regime
from wtl.data.meta_batches import Needs
from wtl.methods.spec import Collection, FirstPlayer, Phase
from wtl.methods.transfer.config import InferenceConfig

SCORER = "scorer"


def scorer_phases(
    config: InferenceConfig, settings: Mapping[str, Any], misled: FirstPlayer, first_round: int = 0
) -> tuple[Phase, ...]:
    """Return the trainings of the scorer: on trials of the misled player, then on the method's own.

    Args:
        first_round: the number of the first collection; those before it are the controller's.
    """
    return tuple(
        Phase(
            name=f"scorer-{number}",
            part=SCORER,
            train=config.later_train if number else config.train,
            needs=Needs(
                trials=(0, config.later_trials_in_context if number else config.first_trials_in_context),
                frames=config.frames,
            ),
            settings=settings,
            collection=Collection(
                first_round + number,
                retries=number > 0,
                labelled=False,
                player=None if number else misled,
                tasks=None if number else config.misled_tasks,
                other_starts=not number,
            ),
            start_from=SCORER if number else "",
        )
        for number in range(config.rounds)
    )


def refuse_regime_none(regime: Regime, name: str) -> None:
    """Raise ValueError in a regime that shows nothing to follow."""
    if regime == "none":
        raise ValueError(f"{name} needs something to follow; in regime `none` choose another method")
