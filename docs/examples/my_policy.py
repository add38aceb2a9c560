"""A policy that somebody already has, evaluated with all controls and curves: any object with `act` will do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wtl.core.task import FamilySpec
from wtl.methods.spec import MethodSpec, Networks, Reads
from wtl.play.policy import Attempt, Player, Policy, StepBatch


class TheirPolicy:
    """Somebody's object; here it goes straight on for ever."""

    def predict(self, observations: np.ndarray) -> np.ndarray:
        """Return one action a row."""
        return np.tile([1.0, 0.0], (len(observations), 1))


@dataclass(frozen=True)
class Adapted:
    """A `Player` around it; it is a `Policy`, too, because it keeps nothing between two steps."""

    theirs: TheirPolicy
    source: str

    def policy(self, attempt: Attempt) -> Policy:
        """Return what plays; `attempt` holds contexts and seeds, and the environments for those who may see them."""
        return self

    def act(self, step: StepBatch) -> np.ndarray:
        """Return the actions of the rows still running."""
        return self.theirs.predict(step.observations)


@dataclass(frozen=True)
class NothingToSet:
    """It has no settings; those of a real one, such as the file of its weights, would stand here."""


def _player(config: NothingToSet, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return Adapted(TheirPolicy(), source)


SPEC = MethodSpec(
    name="theirs",
    summary="Somebody's policy.",
    config=NothingToSet,
    player=_player,
    reads=Reads(demonstrations="ignored", trials=False),
)
