"""The scripted expert, which sees the goal: the ceiling of every table."""

from __future__ import annotations

from dataclasses import dataclass

from wtl.core.bounds import Bounded, Noise
from wtl.core.task import FamilySpec
from wtl.methods.spec import MethodSpec, Networks, Reads
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Player


@dataclass(frozen=True)
class ExpertConfig(Bounded):
    """How the expert plays."""

    noise: Noise = 0.0
    """Standard deviation of the noise in what it executes, in units of the action."""


def _player(config: ExpertConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return Expert(NoiseConfig(config.noise), source)


SPEC = MethodSpec(
    name="expert",
    summary="The families' scripted experts, told the goal: the ceiling.",
    config=ExpertConfig,
    player=_player,
    reads=Reads(demonstrations="ignored"),
)
