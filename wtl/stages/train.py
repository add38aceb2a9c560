"""Stage: the training of one network of one method, from episode stores to a checkpoint of the whole method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wtl.compute.distributed import ProcessGroup
from wtl.core.episode import Episode
from wtl.core.rng import seed_for
from wtl.core.task import Regime, Split, TaskDistribution
from wtl.data.grades import is_graded
from wtl.data.meta_batches import MetaBatches
from wtl.data.store import EpisodeStore
from wtl.methods.checkpoint import load_networks, read_checkpoint, save_checkpoint
from wtl.methods.spec import MethodSpec, Phase
from wtl.stages.training import Progress, Training, share_cores


@dataclass(frozen=True)
class FitStage:
    """What the stage depends on."""

    distribution: TaskDistribution
    spec: MethodSpec
    config: Any
    """The method's configuration."""
    phase: Phase
    regime: Regime
    seed: int
    label: str
    """Names the random streams of this training."""

    def fit(
        self,
        stores: Iterable[Path],
        before: Path | None,
        directory: Path,
        log_directory: Path,
        group: ProcessGroup,
        progress: Progress,
    ) -> dict[str, Any]:
        """Train the phase's network and save the method with it; return what the manifest says.

        Args:
            stores: the episode stores to read.
            before: the checkpoint of the phases so far.
            directory: the stage's folder; the checkpoint goes into `checkpoint` below it.
            log_directory: where TensorBoard's events go.
        """
        share_cores(group)
        networks, start = self._networks(before)
        learner_of = self.spec.learner
        assert learner_of is not None
        learner = learner_of(self.config, self.distribution.spec, self.phase.part, networks[self.phase.part])
        episodes = [episode for store in stores for episode in EpisodeStore(store)]
        batches, validation = self._batches(episodes, "train"), self._batches(episodes, "validation")
        seed = seed_for(self.seed, "train", self.label)
        training = Training(learner, self.phase.train, directory, log_directory, seed, group)
        if not training.resume():
            if start is not None:
                learner.network.load_state_dict(start)
            else:
                learner.fit_features(batches.some_observations())
        training.fit(batches, validation, progress)
        family = self.distribution.spec
        group.on_main(lambda: save_checkpoint(directory / "checkpoint", self.spec, self.config, family, networks))
        last = [line for line in training.history if line["validation"]][-1]
        return {"steps": training.step, "validation_loss": round(last.get("action", last["total"]), 4)}

    def _networks(self, before: Path | None) -> tuple[dict[str, nn.Module], Mapping[str, Any] | None]:
        """Return the networks so far with the one that is trained now, and the weights that it starts from."""
        networks: dict[str, nn.Module] = {}
        if before is not None:
            networks = load_networks(read_checkpoint(before, self.spec), self.spec)
        start = networks[self.phase.start_from].state_dict() if self.phase.start_from else None
        # The first weights belong to the stage, whatever this process did before.
        torch.manual_seed(seed_for(self.seed, "network", self.label))
        assert self.spec.network is not None
        networks[self.phase.part] = self.spec.network(self.config, self.distribution.spec, self.phase.part)
        return networks, start

    def _batches(self, episodes: Iterable[Episode], split: Split) -> MetaBatches:
        own = [episode for episode in episodes if episode.task.split == split]
        graded, others = [e for e in own if is_graded(e)], [e for e in own if not is_graded(e)]
        if self.phase.chosen:
            others = list(self.phase.chosen(others))
        if self.phase.graded:
            others += self.phase.graded(graded)
        return MetaBatches(
            self.phase.train.batch,
            self.phase.needs,
            others,
            self.distribution.spec,
            regime=self.regime,
            seed=seed_for(self.seed, "batches", self.label, split),
            weights=self.distribution.weights,
        )
