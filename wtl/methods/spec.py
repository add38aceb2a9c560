"""What the rest of the house knows about a method: one `MethodSpec`, and nothing else.

Configuration, plan, collection, training, evaluation and report iterate over specs; no file outside a method's own
knows its name. A spec is made of plain functions, so a method needs no base class: `network` builds one of its
networks, `learner` trains it, `player` plays with all of them, `phases` says in which order they are trained and on
which data.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from wtl.core.episode import Episode
from wtl.core.task import FamilySpec, Regime, TaskDistribution, TaskFamily
from wtl.data.demonstrations import ContextSource
from wtl.data.grades import Selection
from wtl.data.meta_batches import Needs
from wtl.data.store import EpisodeStore
from wtl.methods.learner import Learner, TrainConfig
from wtl.play.policy import Player

Networks = Mapping[str, nn.Module]
"""The trained networks of a method, by part."""


@dataclass(frozen=True)
class FirstPlayer:
    """Who plays a round of trials in the method's place."""

    make: Callable[[Any, TaskDistribution, EpisodeStore, Networks], Player]
    """From the method's configuration, the tasks, their demonstrations, and the networks that are trained so far."""
    settings: Mapping[str, Any]
    """What its behaviour depends on, for the record of the stage."""


@dataclass(frozen=True)
class Collection:
    """Trials that are played before a phase and read by it and by all later ones of the same network."""

    round_number: int
    retries: bool
    """Whether attempts that follow a trial are played too, or attempt 0 alone."""
    labelled: bool
    """Whether the expert says what it would do in every state that is visited."""
    player: FirstPlayer | None = None
    """None: the method itself, with the networks of the phases so far."""
    tasks: int | None = None
    """Training tasks that are played; None: as the run's `trials` say."""
    other_starts: bool = False
    """Whether, where starts are redrawn, each trial begins from a start of its own and not from the task's."""
    kept: Callable[[TaskFamily, Sequence[Episode]], Sequence[Episode]] | None = None
    """From the episodes of a unit of work, all of one family, to what is stored of them; picklable. What it depends on
    belongs into the settings of `player`. None: as they were played."""

    @property
    def name(self) -> str:
        """The name of its stage."""
        return f"trials-{self.round_number}"


@dataclass(frozen=True)
class Phase:
    """The training of one network of a method, and the trials that are collected for it."""

    name: str
    """The name of its stage, unique in the method."""
    part: str
    """Which of the method's networks is trained."""
    train: TrainConfig
    needs: Needs
    settings: Mapping[str, Any]
    """What the outcome depends on, as plain values; a stage that was made with others is refused."""
    collection: Collection | None = None
    start_from: str = ""
    """The part whose weights the network goes on from; empty: fresh weights."""
    borrows_trials: bool = False
    """Whether the first trials of the run's own method are read too, where the expert labelled them."""
    graded: Selection | None = None
    """Which of the run's graded episodes (`wtl.stages.graded`) are read, as trials of their tasks: all
    (`wtl.data.grades.everything`), the best of each family (`Best`), or any other choice. None: no graded ones."""
    demonstrations: bool = True
    """Whether the demonstrations of the run are read; a method that learns without an expert does not."""
    chosen: Selection | None = None
    """Which of the other episodes of a split are read. None: all of them."""


@dataclass(frozen=True)
class Reads:
    """Which contexts a method can read."""

    demonstrations: Literal["required", "optional", "ignored"] = "required"
    trials: bool = False
    """Whether trials change its behaviour; a method that ignores them plays attempt 0 only."""
    desired_return: bool = False
    """Whether it does what a context asks for, so that `evaluation.asked` is played with it."""


@dataclass(frozen=True)
class Variant:
    """A method with the same networks that is told what it would have to infer, or infers nothing.

    It is evaluated beside the method so that its curve can be read: what is control worth, what is luck?
    """

    summary: str
    """One sentence for `wtl methods`."""
    player: Callable[[Any, FamilySpec, Networks, str], Player]
    """See `MethodSpec.player`."""


@dataclass(frozen=True)
class MethodSpec:
    """One method, or a family of methods that share parts."""

    name: str
    """How it is called in configurations and results."""
    summary: str
    """One sentence for `wtl methods`."""
    config: type
    """A frozen dataclass with usable defaults, its own training settings included."""
    player: Callable[[Any, FamilySpec, Networks, str], Player]
    """(configuration, sizes of the families, trained networks, source) -> who plays."""
    reads: Reads = Reads()
    network: Callable[[Any, FamilySpec, str], nn.Module] | None = None
    """(configuration, sizes, part) -> one of its networks, with fresh weights."""
    learner: Callable[[Any, FamilySpec, str, nn.Module], Learner] | None = None
    """(configuration, sizes, part, network) -> what trains that network."""
    phases: Callable[[Any, Regime], tuple[Phase, ...]] = lambda config, regime: ()
    """(configuration, regime) -> how it is trained; empty for a method that is not."""
    sources: tuple[ContextSource, ...] = ()
    """Who fills in what else its contexts hold; the phases name them again in their `Needs`."""
    one_walk: Callable[[Any], Any] = lambda config: config
    """Its configuration -> the one under which an attempt holds a single try; the same where it holds one anyway."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    """By name, for `evaluation.variants`."""
    requires: tuple[str, ...] = ()
    """Packages beyond those of `wtl` that it imports when it trains or plays."""
    headline: Callable[[Any], Mapping[str, str | int | float]] = field(default=lambda config: {})
    """Hyper-parameters worth a column in TensorBoard."""

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or "/" in self.name or not self.name.isprintable():
            raise ValueError(f"the name of a method is that of a folder too, got {self.name!r}")

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that it requires and that are not installed."""
        return tuple(name for name in self.requires if importlib.util.find_spec(name) is None)
