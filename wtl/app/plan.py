"""The plan of a run: which stages it has, in which folders, with which settings, on which tasks.

A plan does nothing; `wtl.app.pipeline` carries it out and `wtl.app.present` shows what came of it. What a stage does
not depend on is not among its settings, so that changing it does not undo the stage.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtl import tasks
from wtl.app.config import RunConfig, checkpoint_directory, to_plain
from wtl.app.stage import Stage, fingerprint
from wtl.core.files import sha256_of
from wtl.core.task import TaskDistribution
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.store import EpisodeStore, StoreError
from wtl.methods.checkpoint import load_networks, method_name, read_checkpoint
from wtl.methods.registry import PlayerRecipe, find_method, known_methods
from wtl.methods.spec import MethodSpec, Phase
from wtl.stages.evaluate import Contestant, EvaluationStage
from wtl.stages.graded import GradedPlayer
from wtl.stages.trials import MakePlayer

OF_NO_MATTER = (
    "seed", "directory", "workers", "executor", "video", "demonstrations.own", "demonstrations.unit_episodes",
    "trials.unit_episodes", "graded.unit_tasks", "evaluation.unit_entries", "evaluation.methods",
    "evaluation.controls", "evaluation.keep_episodes",
)  # fmt: skip
"""Keys in which two runs may differ and still be the same but for their seed."""


@dataclass(frozen=True)
class Made:
    """A player made in the main process, handed to every worker as it is."""

    player: Any

    def __call__(self, family: Any) -> Any:
        """Return the player, whatever the family's sizes."""
        return self.player


@dataclass(frozen=True)
class MethodPlan:
    """One method of a run, and its phases."""

    address: str
    """How the configuration calls it: a name, or package.module:SPEC."""
    spec: MethodSpec
    config: Any
    phases: tuple[Phase, ...]

    def before(self, phase: Phase) -> tuple[Phase, ...]:
        """Return the phases before one."""
        return self.phases[: self.phases.index(phase)]

    def label(self, phase: Phase) -> str:
        """Return what names the random streams of a phase's training."""
        return phase.name if len(self.phases) > 1 else self.spec.name


class Plan:
    """One run directory."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.root = Path(config.directory)
        self._check_variants()

    @functools.cached_property
    def distribution(self) -> TaskDistribution:
        """All tasks of the run."""
        settings = to_plain(self.config.tasks)
        made = tasks.make_distribution(settings.pop("benchmark"), **settings)
        self._check_splits(made)
        if self.config.regime == "goal":  # a family without another start must show before anything is written
            shown = [task for split in self.config.demonstrations.splits for task in made.split(split)]
            for task in {task.family: task for task in shown}.values():
                made.families[task.family].with_other_start(task, 0)
        return made

    def _check_splits(self, made: TaskDistribution) -> None:
        """Raise ValueError if a split that is shown, trained on or evaluated has no tasks."""
        needed = dict.fromkeys([*self.config.demonstrations.splits, self.config.evaluation.split])
        if any(method.phases for method in self.all_methods):
            needed["train"] = None
        empty = [split for split in needed if not made.split(split)]
        if empty:
            counts = {"train": "", "validation": "validation_", "test": "test_"}
            raise ValueError(
                f"there are no {empty[0]} tasks, and this run needs them; set tasks.{counts[empty[0]]}goals_per_family"
            )

    @functools.cached_property
    def main(self) -> MethodPlan:
        """The run's own method; with a checkpoint it has no phases."""
        return self._method(self.config.method, trained=not self.config.checkpoint)

    @functools.cached_property
    def others(self) -> tuple[MethodPlan, ...]:
        """The methods that are evaluated beside it, but for those that are left out (`left_out`)."""
        asked = [address for address in self.config.evaluation.methods if address not in self.left_out]
        return tuple(self._method(address) for address in asked if find_method(address) is not self.main.spec)

    @property
    def all_methods(self) -> tuple[MethodPlan, ...]:
        """The run's own method, then the others."""
        return (self.main, *self.others)

    @functools.cached_property
    def left_out(self) -> dict[str, str]:
        """The methods of `evaluation.methods` that cannot be evaluated here, each with the reason."""
        found = {}
        for address in self.config.evaluation.methods:
            spec = find_method(address)
            if spec.missing:
                found[address] = f"it needs {', '.join(spec.missing)}, which is not installed"
            elif self.config.regime == "none" and spec.reads.demonstrations == "required":
                found[address] = "it needs a demonstration, and regime `none` shows none"
            elif self.config.checkpoint and spec.network is not None:
                found[address] = "it would have to be trained, and beside a checkpoint nothing is"
        return found

    def _method(self, address: str, trained: bool = True) -> MethodPlan:
        spec, config = find_method(address), self.config.settings_of(address)
        return MethodPlan(address, spec, config, spec.phases(config, self.config.regime) if trained else ())

    def _check_variants(self) -> None:
        if self.config.evaluation.asked and self.config.regime == "none":
            raise ValueError("evaluation.asked are shares of the demonstrated return, and regime `none` shows none")
        known = self.main.spec.variants
        for name in self.config.evaluation.variants:
            if name not in known:
                raise ValueError(
                    f"evaluation.variants: {self.main.spec.name} has no variant {name!r}; it has "
                    f"{', '.join(known) or 'none'}"
                )

    @functools.cached_property
    def demonstrations(self) -> Stage:
        """Demonstrations of every task."""
        c = self.config
        settings = {"tasks": to_plain(c.tasks), "seed": c.seed, "twins": c.regime == "goal"}
        settings["demonstrations"] = to_plain(c.demonstrations)
        stage = Stage(self.root / "demonstrations", settings)
        if c.demonstrations.own:
            settings["content_of_own"] = _content(Path(c.demonstrations.own), stage)
            stage = Stage(stage.directory, settings)
        return stage

    @property
    def reads_graded(self) -> bool:
        """Whether a training of this run reads graded episodes."""
        return any(phase.graded for method in self.all_methods for phase in method.phases)

    @functools.cached_property
    def graded(self) -> Stage:
        """Graded episodes, one set for all methods of the run."""
        c, players = self.config, {}
        for player in self.graded_players():
            recipe = self._recipe(player.name)
            digest = recipe.checkpoint and sha256_of(recipe.checkpoint / "method.json")
            players[player.name] = digest or to_plain(recipe.config)
        settings = {"regime": c.regime, "seed": c.seed, "protocol": to_plain(c.protocol), "players": players}
        return Stage(self.root / "graded", settings | {"graded": to_plain(c.graded)}, [self.demonstrations])

    def graded_players(self) -> tuple[GradedPlayer, ...]:
        """Return the methods that play graded episodes.

        Raises:
            ValueError: one is not there, would have to be trained, or cannot play in this regime.
        """
        found = []
        for name in self.config.graded.players:
            recipe = self._recipe(name)
            spec = find_method(recipe.method)
            if recipe.checkpoint is None and spec.network is not None:
                raise ValueError(f"graded.players: {name} would have to be trained; give the folder of a trained one")
            if self.config.regime == "none" and spec.reads.demonstrations == "required":
                raise ValueError(f"graded.players: {name} needs a demonstration, and regime `none` shows none")
            found.append(GradedPlayer(name, recipe.player, spec.reads.trials))
        return tuple(found)

    def _recipe(self, player: str) -> PlayerRecipe:
        """Return who plays graded episodes under this name: a method, or a trained method."""
        one_walk = self.config.protocol.walks == "one"
        if player in known_methods() or ":" in player:
            return PlayerRecipe(player, self.config.settings_of(player), None, one_walk)
        folder = checkpoint_directory(player)
        return PlayerRecipe(method_name(folder), None, folder, one_walk)

    def collection(self, method: MethodPlan, phase: Phase) -> Stage:
        """Trials that are collected before a phase."""
        assert phase.collection is not None
        c, before = self.config, method.before(phase)
        settings = {
            "regime": c.regime,
            "seed": c.seed,
            "protocol": to_plain(c.protocol),
            "trials": to_plain(c.trials),
            "player": dict(phase.collection.player.settings) if phase.collection.player else method.spec.name,
        }
        if phase.collection.tasks is not None:
            settings["tasks"] = phase.collection.tasks
        if phase.collection.other_starts:
            settings["other_starts"] = True
        inputs = [self.training(method, before[-1])] if before else [self.demonstrations]
        return Stage(self.root / method.spec.name / phase.collection.name, settings, inputs)

    def training(self, method: MethodPlan, phase: Phase) -> Stage:
        """The training of a phase."""
        settings = {"regime": self.config.regime, "seed": self.config.seed, **phase.settings}
        return Stage(self.root / method.spec.name / phase.name, settings, self._sources(method, phase))

    def _sources(self, method: MethodPlan, phase: Phase) -> list[Stage]:
        graded, before = ([self.graded] if phase.graded else []), method.before(phase)
        if phase.collection:
            return [self.collection(method, phase), *graded]
        if before:
            return [self.training(method, before[-1]), *graded]
        return self.stores(method, phase)

    def stores(self, method: MethodPlan, phase: Phase) -> list[Stage]:
        """Return the stages whose episodes a phase reads."""
        shown = [self.demonstrations] if phase.demonstrations else []
        collected = [self.collection(*pair) for pair in self.collections(method, phase)]
        return [*shown, *([self.graded] if phase.graded else []), *collected]

    def collections(self, method: MethodPlan, phase: Phase) -> list[tuple[MethodPlan, Phase]]:
        """Return the phases, each with its method, whose collected trials a phase reads: those of its own network."""
        same = [p for p in (*method.before(phase), phase) if p.part in (phase.part, phase.start_from)]
        found = [(method, p) for p in same if p.collection]
        if phase.borrows_trials:
            lent = [p for p in self.main.phases if p.collection and p.collection.labelled]
            found += [(self.main, p) for p in lent[:1]]
        return found

    def checkpoint(self, method: MethodPlan, phases: tuple[Phase, ...] | None = None) -> Path | None:
        """Return the folder of a method after these phases (default: all); None if it has no networks yet."""
        if method is self.main and self.config.checkpoint:
            return checkpoint_directory(self.config.checkpoint)
        done = method.phases if phases is None else phases
        return self.training(method, done[-1]).directory / "checkpoint" if done else None

    def policies(self, played: Iterable[tuple[MethodPlan, tuple[Phase, ...]]]) -> dict[str, str]:
        """Return the checksum of each trained method that plays after these phases, by its name."""
        folders = {method.spec.name: self.checkpoint(method, phases) for method, phases in played}
        return {name: sha256_of(folder / "method.json") for name, folder in folders.items() if folder}

    def make_player(self, method: MethodPlan, phases: tuple[Phase, ...] | None = None, variant: str = "") -> MakePlayer:
        """Return what makes a method's player in a worker, or a variant's, after these phases (default: all)."""
        one_walk = self.config.protocol.walks == "one"
        return PlayerRecipe(method.address, method.config, self.checkpoint(method, phases), one_walk, variant).player

    def collecting_player(self, method: MethodPlan, phase: Phase) -> MakePlayer:
        """Return what makes the player of the trials before a phase."""
        assert phase.collection is not None
        first = phase.collection.player
        if first is None:
            return self.make_player(method, method.before(phase))
        before = self.checkpoint(method, method.before(phase))
        networks = load_networks(read_checkpoint(before, method.spec), method.spec) if before else {}
        shown = EpisodeStore(self.demonstrations.directory)
        return Made(first.make(method.config, self.distribution, shown, networks))

    @functools.cached_property
    def evaluation(self) -> Stage:
        """Everything played on the same entries."""
        c = self.config
        settings: dict[str, Any] = {"regime": c.regime, "protocol": to_plain(c.protocol)}
        evaluated = to_plain(c.evaluation)
        if not evaluated["keep_episodes"]:  # so that runs from before there was this choice are still complete
            del evaluated["keep_episodes"]
        if not evaluated["asked"]:
            del evaluated["asked"]
        settings |= {"evaluation": evaluated, "seed": c.evaluation_seed}
        settings["methods"] = [method.spec.name for method in self.all_methods]
        if c.checkpoint:
            # Settings and weights: the checksum of the weights stands in the description.
            settings["checkpoint"] = sha256_of(checkpoint_directory(c.checkpoint) / "method.json")
        own = self.others if c.checkpoint else self.all_methods  # a checkpoint brings its own settings
        trained = [self.training(m, m.phases[-1]) for m in own if m.phases]
        untrained = {m.spec.name: to_plain(m.config) for m in own if not m.phases}
        return Stage(self.root / "evaluation", settings | untrained, trained or [self.demonstrations])

    def evaluation_stage(self) -> EvaluationStage:
        """Return what the evaluation depends on; the demonstrations must be there."""
        c = self.config
        return EvaluationStage(
            self.distribution,
            c.evaluation,
            c.protocol,
            self.shown(),
            c.regime,
            train_seed=c.seed,
            seed=c.evaluation_seed,
            configuration=self.configuration,
        )

    @property
    def configuration(self) -> str:
        """A digest of the configuration that two runs share if they differ in their seed alone.

        It leaves out where and how fast the run is made, and what is evaluated beside its own method.
        """
        content = to_plain(self.config)
        content["methods"] = to_plain(self.main.config)
        for key in OF_NO_MATTER:
            *sections, name = key.split(".")
            del functools.reduce(dict.__getitem__, sections, content)[name]
        if not any(phase.graded for phase in self.main.phases):
            del content["graded"]
        if not content["evaluation"]["asked"]:
            del content["evaluation"]["asked"]
        return fingerprint(content)

    def shown(self) -> DemonstrationStore:
        """Return what may be shown, with what else the methods of this run know of a task."""
        sources = dict.fromkeys(source for method in self.all_methods for source in method.spec.sources)
        return DemonstrationStore(self.demonstrations.directory, self.config.regime, tuple(sources))

    def contestants(self) -> tuple[Contestant, ...]:
        """Return who is evaluated: the run's own method, the others, what they are asked for, variants of its own."""
        found = [
            Contestant(
                name=method.spec.name,
                # The run's own method draws from the plain streams of its entries.
                label="" if method is self.main else method.spec.name,
                make_player=self.make_player(method),
                reads_trials=method.spec.reads.trials,
                main=method is self.main,
            )
            for method in self.all_methods
        ]
        for method in self.all_methods:
            for share in self.config.evaluation.asked if method.spec.reads.desired_return else ():
                name = f"{method.spec.name}, asked {share:g}"
                found.append(Contestant(name, name, self.make_player(method), method.spec.reads.trials, asked=share))
        for variant in self.config.evaluation.variants:
            name = f"{self.main.spec.name}.{variant}"
            found.append(Contestant(name, name, self.make_player(self.main, variant=variant), reads_trials=False))
        return tuple(found)


def _content(own: Path, stage: Stage) -> str:
    """Return the digest of a store of one's own; the recorded one where it is gone after it was adopted.

    Raises:
        StoreError: it is not there and was never adopted.
    """
    manifest = own / "store.json"
    if manifest.is_file():
        return sha256_of(manifest)[:16]
    recorded = stage.recorded().get("content_of_own")
    if not recorded:
        raise StoreError(f"demonstrations.own: {own} is no finished episode store; `wtl import` makes one")
    return str(recorded)
