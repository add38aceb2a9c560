"""An improvement operator that never saw optimal behaviour: pairs worse -> better, applied again and again.

The operator reads one trial with its rewards and is trained to do what was done in a trial of the same task that earned
more. All trials are graded episodes (`wtl.stages.graded`), of the grades alone that succeed no more often than a cap
allows. Attempt k + 1 is the operator applied to attempt k. Neither the expert's actions nor the true goal are labels,
and no demonstration is read. `ladder_random_order` is the control that could falsify the claim: the same pairs, and
chance decides which of the two counts as the better one. `ladder_best_rung` clones the best grade that the cap leaves.

Trap: where a worse episode is the optimal one plus noise, the mean of what was done points the right way whatever the
order, so a climb need not be an effect of the order; and it is slow, because noisy actions are clipped.
Source: the open question of the essay behind Watch-Try-Learn; the pairs are those of Algorithm Distillation's and
D-REX's ladders (arXiv 2210.14215, 1907.03976).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from torch import Tensor, nn

from wtl.core.bounds import Bounded, Components, Frames, Noise, NotNegative, Share, Width
from wtl.core.episode import Context
from wtl.core.task import FamilySpec, Regime
from wtl.data.grades import Capped
from wtl.data.meta_batches import Batch, BatchConfig, Needs
from wtl.data.sampling import Queries
from wtl.data.segments import make_context_batch
from wtl.methods.learner import Learner, Losses, TrainConfig
from wtl.methods.nn.acting import ActingConfig, MixturePolicy
from wtl.methods.nn.context_network import ContextNetwork, EncodedContexts, NetworkConfig
from wtl.methods.nn.mlp import MlpLearner, MlpNetwork
from wtl.methods.spec import MethodSpec, Networks, Phase, Reads
from wtl.play.noise import NoisyPolicy, OrnsteinUhlenbeckNoise
from wtl.play.policy import FromContext, Player, Policy

START, OPERATOR = "start", "operator"
"""The networks: for contexts without a trial, and with one."""


def _training(steps: int) -> TrainConfig:
    batch = BatchConfig(contexts=32, queries=8, trial_queries=1.0, no_demonstration=1.0, masked_outcome=0.0)
    return TrainConfig(steps=steps, batch=batch, learning_rate=3e-3)


@dataclass(frozen=True)
class StartConfig(Bounded):
    """The policy of attempt 0, which has nothing to read: plain cloning of what the cap leaves."""

    width: Width = 64
    """Units of each hidden layer."""
    components: Components = 5
    """M, of the mixture."""
    acting: ActingConfig = field(default_factory=lambda: ActingConfig("held"))
    """How it chooses among hypotheses; `held` makes attempts differ."""
    noise: Noise = 1.0
    """Standard deviation of the noise in what it executes: the mean of noisy behaviour stands still, and a trial that
    went nowhere tells nothing."""
    train: TrainConfig = field(default_factory=lambda: _training(150))
    """Its training."""


@dataclass(frozen=True)
class LadderConfig(Bounded):
    """Which pairs the operator learns from, its sizes and its training."""

    cap: Share = 0.6
    """The success of the best grade that is learned from, at most; the grades of each family that succeed more often
    are dropped."""
    frames: Frames = 8
    """F, of the trial."""
    start: StartConfig = field(default_factory=StartConfig)
    """The policy of attempt 0."""
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(width=32, heads=2, encoder_layers=1, components=1, max_trials=1)
    )
    """The operator's sizes. One component: its mean is the mean of what was done."""
    peak_loss_weight: NotNegative = 1.0
    """Weight of the auxiliary loss on where the other trial of the pair earned most, in place of the hidden goal, which
    nobody tells."""
    acting: ActingConfig = field(default_factory=ActingConfig)
    """How the operator chooses among hypotheses."""
    train: TrainConfig = field(default_factory=lambda: _training(500))
    """The operator's training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, train in (("start.train", self.start.train), ("train", self.train)):
            shares = train.batch.trial_queries, train.batch.no_demonstration
            if shares != (1.0, 1.0):
                raise ValueError(
                    f"{name}.batch.trial_queries and .no_demonstration must be 1, because demonstrations are optimal "
                    f"and the ladder never sees them, got {shares[0]} and {shares[1]}"
                )


@dataclass(frozen=True)
class OperatorLearner:
    """Trains the operator: likelihood of what was done in the other trial of the pair, and where that earned most."""

    network: ContextNetwork
    peak_loss_weight: float
    compiles: bool = True

    def fit_features(self, observations_NO: Tensor) -> None:
        """See `Learner.fit_features`."""
        self.network.features.fit(observations_NO)

    def loss(self, batch: Batch) -> Losses:
        """See `Learner.loss`."""
        assert batch.context is not None
        encoded = self.network.encode(batch.context, batch.start_BO)
        action = -self.network.answer(encoded, batch.observations_BQO).log_probability(batch.actions_BQA).mean()
        peak = self.network.goal_error(encoded.goal_BG, batch.peak_BD)
        return Losses(action + self.peak_loss_weight * peak, action, peak)


class LadderMethod:
    """Contexts in, a policy that is better than the newest trial out."""

    def __init__(self, config: LadderConfig, spec: FamilySpec, networks: Networks, source: str) -> None:
        self.config, self.spec, self.networks, self.source = config, spec, networks, source
        for network in networks.values():
            network.eval()

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        """See `Method.adapt`. The newest trial of a context is all that is read."""
        read = [replace(context.newest(1), demonstrations=()) for context in contexts]
        if not read[0].trials or OPERATOR not in self.networks:
            network, config = self.networks[START], self.config.start
            start = MixturePolicy(config.acting, lambda _, observations_RO: network(observations_RO), seeds)
            noise = OrnsteinUhlenbeckNoise([config.noise] * len(read), seeds, self.spec)
            return NoisyPolicy(start, noise) if config.noise else start
        operator = self.networks[OPERATOR]
        assert isinstance(operator, ContextNetwork)
        encoded = EncodedContexts(operator, make_context_batch(read, self.config.frames, self.spec.reward_scale))
        return MixturePolicy(self.config.acting, encoded.answer, seeds)


def _network(config: LadderConfig, spec: FamilySpec, part: str) -> nn.Module:
    if part == START:
        return MlpNetwork(spec, config.start.width, config.start.components)
    return ContextNetwork(config.network, spec)


def _learner(config: LadderConfig, spec: FamilySpec, part: str, network: nn.Module) -> Learner:
    if isinstance(network, MlpNetwork):
        return MlpLearner(network, expert=False)
    assert isinstance(network, ContextNetwork)
    return OperatorLearner(network, config.peak_loss_weight)


def _player(config: LadderConfig, spec: FamilySpec, networks: Networks, source: str) -> Player:
    return FromContext(LadderMethod(config, spec, networks, source))


def _start(config: LadderConfig, best: bool) -> Phase:
    start = asdict(config.start)
    del start["acting"], start["noise"]  # of playing alone
    settings = {"cap": config.cap, "best": best, "start": start}
    return Phase(START, START, config.start.train, Needs(context=False), settings, graded=Capped(config.cap, best))


def _operator(config: LadderConfig, queries: Queries) -> Phase:
    settings = {name: value for name, value in asdict(config).items() if name not in ("start", "acting")}
    needs = Needs(trials=(1, 1), frames=config.frames, queries=queries)
    return Phase(OPERATOR, OPERATOR, config.train, needs, settings | {"queries": queries}, graded=Capped(config.cap))


def _spec(name: str, summary: str, queries: Queries | None) -> MethodSpec:
    """Return the method that learns from such pairs; None: from none, so that it plays attempt 0 alone."""

    def phases(config: LadderConfig, regime: Regime) -> tuple[Phase, ...]:
        start = _start(config, best=queries is None)
        return (start, _operator(config, queries)) if queries else (start,)

    return MethodSpec(
        name=name,
        summary=summary,
        config=LadderConfig,
        player=_player,
        reads=Reads(demonstrations="ignored", trials=queries is not None),
        network=_network,
        learner=_learner,
        phases=phases,
    )


SPECS = (
    _spec("ladder", "An improvement operator from pairs worse -> better of capped graded episodes.", "better"),
    _spec("ladder_random_order", "The ladder's control: the same pairs, either one as the better one.", "other"),
    _spec("ladder_best_rung", "Cloning of the best grade that the ladder's cap leaves, without a trial.", None),
)
