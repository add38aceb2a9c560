"""The plan of a run: which stages it has, in which folders, with which settings, on which tasks.

A plan does nothing; `wtl.app.pipeline` carries it out and `wtl.app.present` shows what came of it. What a stage
does not depend on is not among its settings, so that changing it does not undo the stage.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import tasks
from wtl.app.config import RunConfig, to_plain, trained_policy
from wtl.app.stage import Stage
from wtl.core.task import TaskDistribution
from wtl.data.store import EpisodeStore
from wtl.methods.learner import read_policy
from wtl.stages.demonstrations import DemonstrationShelf
from wtl.stages.trials import Operator


class Plan:
    """One run directory."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.root = Path(config.directory)

    @functools.cached_property
    def distribution(self) -> TaskDistribution:
        """All tasks of the run."""
        settings = to_plain(self.config.tasks)
        made = tasks.make_distribution(settings.pop("benchmark"), **settings)
        if self.config.regime == "goal":  # a family without another start must show before anything is written
            shown = [task for split in self.config.demonstrations.splits for task in made.split(split)]
            for task in {task.family: task for task in shown}.values():
                made.families[task.family].with_other_start(task, 0)
        return made

    @functools.cached_property
    def demos(self) -> Stage:
        """Demonstrations of every task."""
        c = self.config
        twins = c.regime == "goal"
        settings = {"tasks": to_plain(c.tasks), "seed": c.seed, "twins": twins}
        if c.own_demonstrations:
            settings["own_demonstrations"] = c.own_demonstrations
        return Stage(self.root / "demos", settings | {"demonstrations": to_plain(c.demonstrations)})

    @functools.cached_property
    def trial(self) -> Stage:
        """The trial policy; in regime `none`, where there is nothing to watch, plain cloning."""
        c = self.config
        phase = c.cloning if c.regime == "none" else c.trial
        return Stage(self.root / "trial", {"regime": c.regime, "seed": c.seed, **_phase(phase)}, [self.demos])

    def trials(self, round_number: int) -> Stage:
        """Trials of a round."""
        c = self.config
        settings: dict[str, Any] = {"regime": c.regime, "trials": to_plain(c.trials)}
        settings["exploration"] = to_plain(c.exploration)
        before = [self.retrial(round_number - 1)] if round_number else []
        if self.follows:
            settings |= {"seed": c.seed, "follower": to_plain(c.following.follower)}
            return Stage(self.root / f"trials-{round_number}", settings, before or [self.demos])
        inputs = [self.trial, *before]
        return Stage(self.root / f"trials-{round_number}", settings, inputs)

    def retrial(self, round_number: int) -> Stage:
        """The retrial policy after a round."""
        r = self.config.retrial
        settings = {
            "policy": to_plain(self.config.following if self.follows else r.policy),
            "train": to_plain(r.later_train if round_number else r.train),
            "shared": r.shared,
            "trials_in_context": r.later_trials_in_context if round_number else r.first_trials_in_context,
        }
        return Stage(self.root / f"retrial-{round_number}", settings, [self.trials(round_number)])

    @functools.cached_property
    def cloning(self) -> Stage:
        """Baseline: behaviour cloning on the same demonstrations and, where they are labelled, states of trials."""
        inputs = [self.demos if self.follows else self.trials(0)]
        return Stage(self.root / "cloning", _phase(self.config.cloning), inputs)

    @functools.cached_property
    def mil(self) -> Stage:
        """Baseline: meta-imitation learning on the same demonstrations."""
        return Stage(self.root / "mil", _phase(self.config.mil), [self.demos])

    @functools.cached_property
    def evaluation(self) -> Stage:
        """Everything played on the same entries."""
        c = self.config
        settings = {"evaluation": to_plain(c.evaluation), "seed": c.evaluation_seed}
        if c.trained:
            policy = read_policy(trained_policy(c.trained))
            return Stage(self.root / "evaluation", settings | {"policy": policy["sha256"]}, [self.demos])
        inputs = [] if self.follows else [self.trial]
        inputs += [self.retrial(c.retrial.rounds - 1)]
        inputs += [stage for name, stage in (("cloning", self.cloning), ("mil", self.mil)) if self.wants(name)]
        return Stage(self.root / "evaluation", settings, inputs)

    def wants(self, baseline: str) -> bool:
        """Whether a baseline is evaluated; those that read a demonstration need one."""
        if baseline not in self.config.evaluation.baselines:
            return False
        if self.config.trained and baseline in ("cloning", "mil"):
            return False
        return self.config.regime != "none" or baseline not in ("mil", "nearest_neighbour")

    @property
    def follows(self) -> bool:
        """Whether routes are followed; if not, actions are imitated."""
        return self.config.operator == "following"

    @property
    def shares(self) -> bool:
        """Whether one network serves all attempts."""
        return self.follows or self.config.retrial.shared

    def operator(self, rounds: int) -> Operator:
        """The trained pair after this many rounds; 0: the trial policy alone."""
        if self.config.trained:
            policy = trained_policy(self.config.trained)
            return Operator(policy, policy)
        if not rounds:
            return Operator(self.trial.policy)
        retrial = self.retrial(rounds - 1).policy
        return Operator(retrial if self.shares else self.trial.policy, retrial)

    @property
    def shelf(self) -> DemonstrationShelf:
        """The demonstrations, by what they may be shown for."""
        return DemonstrationShelf(EpisodeStore(self.demos.directory), self.config.regime)


def _phase(phase: Any) -> dict[str, Any]:
    return {"policy": to_plain(phase.policy), "train": to_plain(phase.train)}
