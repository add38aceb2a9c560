"""Plain behaviour cloning over all training tasks: observation in, action out, contexts are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from torch import nn

from wtl.core.bounds import Bounded, Components, Width
from wtl.core.episode import Context
from wtl.core.task import FamilySpec, Regime
from wtl.data.meta_batches import Needs
from wtl.methods.learner import Learner, TrainConfig
from wtl.methods.nn.acting import ActingConfig, MixturePolicy
from wtl.methods.nn.mlp import MlpLearner, MlpNetwork
from wtl.methods.spec import MethodSpec, Networks, Phase, Reads
from wtl.play.policy import FromContext, Player


@dataclass(frozen=True)
class CloningConfig(Bounded):
    """Sizes, behaviour and training of behaviour cloning."""

    width: Width = 128
    """Units of each hidden layer."""
    components: Components = 5
    """M, of the mixture."""
    acting: ActingConfig = field(default_factory=lambda: ActingConfig("held"))
    """How an action is chosen."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Its training."""


@dataclass(frozen=True)
class Cloning:
    """A `Method` that ignores its contexts."""

    config: CloningConfig
    network: MlpNetwork
    source: str

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> MixturePolicy:
        """See `Method.adapt`."""
        self.network.eval()
        return MixturePolicy(self.config.acting, lambda _, observations_RO: self.network(observations_RO), seeds)


def _network(config: CloningConfig, spec: FamilySpec, part: str) -> MlpNetwork:
    return MlpNetwork(spec, config.width, config.components)


def _learner(config: CloningConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    assert isinstance(network, MlpNetwork)
    return MlpLearner(network)


def _player(config: CloningConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    network = networks["policy"]
    assert isinstance(network, MlpNetwork)
    return FromContext(Cloning(config, network, source))


def _phases(config: CloningConfig, regime: Regime) -> tuple[Phase, ...]:
    return (Phase("train", "policy", config.train, Needs(context=False), asdict(config), borrows_trials=True),)


SPEC = MethodSpec(
    name="cloning",
    summary="Behaviour cloning without context: what the training tasks have in common.",
    config=CloningConfig,
    player=_player,
    reads=Reads(demonstrations="ignored"),
    network=_network,
    learner=_learner,
    phases=_phases,
)
