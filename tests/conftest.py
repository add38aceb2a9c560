"""What several test files share: one thread, and one tiny run of the toy families from nothing to its report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import pytest
import torch
from rich.console import Console

from wtl.app.config import RunConfig, load_config
from wtl.app.pipeline import Pipeline
from wtl.app.plan import Plan

torch.set_num_threads(1)

PHASES = ("imitation.trial", "imitation.retrial", "cloning", "mil")
"""Sections of `methods` with a training."""
SIZES = "{width: 16, heads: 2, encoder_layers: 1, reader_layers: 1, components: 2}"
TRAINING = (
    "{steps: 6, validate_every_steps: 3, checkpoint_every_steps: 3, log_every_steps: 2, validation_batches: 1, "
    "warmup_steps: 1, batch: {contexts: 8, queries: 4}}"
)
TINY = (
    "executor=serial", "tasks={goals_per_family: 12, validation_goals_per_family: 3, test_goals_per_family: 4}",
    "demonstrations.unit_episodes=10", "trials.unit_episodes=10", "trials.later_round_tasks=8",
    f"methods.imitation.trial.network={SIZES}", f"methods.imitation.retrial.network={SIZES}",
    "methods.cloning={width: 16, components: 2}", "methods.mil={width: 16, components: 2}",
    *(f"methods.{phase}.train={TRAINING}" for phase in PHASES),
    f"methods.imitation.retrial.later_train={TRAINING}",
    "evaluation.unit_entries=4", "evaluation.controls=[blind_retry, shuffled_trial, masked_reward]",
)  # fmt: skip
"""Overrides of configs/toy.yaml: every stage, nothing learned, seconds."""


def tiny(directory: Path, *overrides: str) -> list[str]:
    """Return `key=value` arguments of a tiny run in a directory."""
    return [*TINY, f"directory={directory}", *overrides]


@dataclass(frozen=True)
class ToyRun:
    """A finished tiny run; tests read it and never write into it."""

    config: RunConfig
    arguments: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        """Its stages, fresh."""
        return Plan(self.config)

    @property
    def root(self) -> Path:
        """Its directory."""
        return Path(self.config.directory)


def run_everything(config: RunConfig) -> None:
    """Do what `wtl run` does, without output."""
    from wtl.app.present import present

    quiet = Console(quiet=True)
    pipeline = Pipeline(config, quiet)
    try:
        pipeline.run()
        present(pipeline.plan, quiet)
    finally:
        pipeline.close()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run beside one another; a pipeline that takes all cores would only make them wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "set_num_threads", lambda _: None)
        yield


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyRun]:
    """A tiny toy run, finished."""
    arguments = tiny(tmp_path_factory.mktemp("toy") / "run")
    config = load_config("toy", arguments)
    run_everything(config)
    yield ToyRun(config, tuple(arguments))
