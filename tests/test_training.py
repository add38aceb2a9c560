"""The training loop: exact resume, the batch that broke it, and that it learns at all."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from strategies import PLANE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wtl.compute.distributed import SINGLE, ProcessGroup
from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch, Windows
from wtl.data.segments import ContextBatch, Segments
from wtl.methods.imitation.policy import ContextLearner
from wtl.methods.learner import TrainConfig
from wtl.methods.nn.context_network import ContextNetwork, NetworkConfig
from wtl.methods.nn.mlp import MlpLearner, MlpNetwork
from wtl.stages.training import Training, choose_device

SPEC = FamilySpec("alpha", PLANE, 2, 10, 2, True, 1.0)
CONFIG = TrainConfig(
    steps=4, warmup_steps=1, validate_every_steps=2, validation_batches=1, checkpoint_every_steps=2, log_every_steps=1,
    device="cpu",
)  # fmt: skip


class Batches:
    """Any step's batch is a function of the step; the expert walks from the hand to the second point."""

    def __init__(self, seed: int = 0, poisoned: int | None = None, poisoned_part: int = 0) -> None:
        self.seed, self.poisoned = seed, (poisoned, poisoned_part)

    def __call__(self, step: int, part: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(1000 * self.seed + step + 100 * part)

        def draw(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=generator) * 2 - 1

        seen = draw(8, 4, PLANE.size)
        if (step, part) == self.poisoned:
            seen[3, 1, 0] = torch.nan
        labels = (seen[..., 2:4] - seen[..., 0:2]).clamp(-1, 1)
        frames = [draw(8, 1, 5, n) for n in (PLANE.size, 2)]
        numbers = [draw(8, 1, 5).abs() for _ in range(3)]
        start, goal, demonstrated_goal = draw(8, PLANE.size), draw(8, 2), draw(8, 2)
        return Batch(
            context=ContextBatch(Segments(*frames, *numbers, torch.zeros(8, 1)), None), known=(Context(),) * 8,
            observations_BQO=seen, expert_actions_BQA=labels, actions_BQA=labels,
            returns_to_go_BQ=torch.zeros(8, 4), start_BO=start, goal_BG=goal, demonstrated_goal_BG=demonstrated_goal,
            starts_BQO=seen, goals_BQG=goal[:, None].expand(-1, 4, -1), trial_goals_BSG=torch.zeros(8, 0, 2),
            noise_BQ=torch.zeros(8, 4), peak_BD=goal,
        )  # fmt: skip


def silent(*_: Any) -> None:
    """No progress bar."""


def training(
    directory: Path, config: TrainConfig = CONFIG, seed: int = 3, learner: Any = None, group: ProcessGroup = SINGLE
) -> Training:
    torch.manual_seed(5)
    learner = learner or ContextLearner(ContextNetwork(NetworkConfig(16, 2, 1, 1, 2), SPEC), goal_loss_weight=1.0)
    return Training(learner, config, directory, directory / "log", seed, group)


def weights(made: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.network.state_dict().items()}


def assert_same_weights(a: Training, b: Training) -> None:
    for name, value in weights(a).items():
        assert torch.equal(value, weights(b)[name]), name


def test_two_and_two_steps_equal_four_bit_for_bit(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole")
    whole.fit(Batches(), Batches(9), silent)

    class Killed(Exception):
        """As if the process had died after its third step, one step after its checkpoint."""

    def kill(step: int, *_: Any) -> None:
        if step == 3:
            raise Killed

    first = training(tmp_path / "parts")
    with pytest.raises(Killed):
        first.fit(Batches(), Batches(9), kill)
    torch.manual_seed(99)  # a fresh process has other random numbers and other initial weights
    second = training(tmp_path / "parts", seed=77)
    with torch.no_grad():
        for parameter in second.network.parameters():
            parameter.fill_(0.5)
    assert second.resume() and second.step == 2
    second.fit(Batches(), Batches(9), silent)
    assert_same_weights(whole, second)
    assert whole.history == second.history
    assert (tmp_path / "whole/losses.csv").read_bytes() == (tmp_path / "parts/losses.csv").read_bytes()
    assert str(whole.optimiser.state_dict()) == str(second.optimiser.state_dict())


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    made = training(tmp_path)
    before = weights(made)
    assert not made.resume() and made.step == 0
    assert all(torch.equal(value, before[name]) for name, value in weights(made).items())


def test_a_finished_training_resumes_to_its_end_and_trains_no_further(tmp_path: Path) -> None:
    whole = training(tmp_path)
    whole.fit(Batches(), Batches(9), silent)
    again = training(tmp_path)
    assert again.resume()
    again.fit(Batches(), Batches(9), silent)
    assert_same_weights(whole, again)
    assert again.history == whole.history


def test_a_curve_that_was_cut_has_each_step_once_and_none_is_lost(tmp_path: Path) -> None:
    for stop in (1, 3, 4):  # before any checkpoint, one step after one, at the end
        made = training(tmp_path, replace(CONFIG, steps=4))

        def stop_at(step: int, *_: Any, last: int = stop) -> None:
            if step == last:
                raise InterruptedError

        made.resume()
        with pytest.raises(InterruptedError):
            made.fit(Batches(), None, stop_at)
    events = EventAccumulator(str(tmp_path / "log")).Reload()
    assert [event.step for event in events.Scalars("4_training/loss_total/train")] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_names_the_file_with_its_batch(tmp_path: Path) -> None:
    made = training(tmp_path)
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 2; the batch is in .*bad-batch-2\.pt") as caught:
        made.fit(Batches(poisoned=2), None, silent)
    path = tmp_path / "bad-batch-2.pt"
    assert str(path) in str(caught.value)
    content = torch.load(path, weights_only=True)
    assert content["step"] == 2
    torch.testing.assert_close(
        content["tensors"]["observations_BQO"], Batches(poisoned=2)(2).observations_BQO, equal_nan=True
    )
    assert {"expert_actions_BQA", "goal_BG", "demonstrations.observations_BSFO", "demonstrations.masked_BS"} <= set(
        content["tensors"]
    )
    again = training(tmp_path)
    assert again.resume() and again.step == 2  # what came before the bad batch is kept


def test_windows_of_a_bad_batch_are_written_out_too(tmp_path: Path) -> None:
    windows = Windows(*(torch.full((8, 4, 3), float(i)) for i in range(7)))
    made = training(tmp_path)
    with pytest.raises(FloatingPointError):
        made.train_step(replace(Batches(poisoned=0)(0), windows=windows))
    tensors = torch.load(tmp_path / "bad-batch-0.pt", weights_only=True)["tensors"]
    torch.testing.assert_close(tensors["windows.rewards_BQW"], windows.rewards_BQW)


def test_an_error_in_a_batch_is_raised_where_training_is(tmp_path: Path) -> None:
    def broken(step: int, part: int) -> Batch:
        raise KeyError("no such episode")

    with pytest.raises(KeyError, match="no such episode"):
        training(tmp_path).fit(broken, None, silent)  # type: ignore[arg-type]


def test_validation_loss_falls_on_a_problem_that_can_be_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    learner = MlpLearner(MlpNetwork(SPEC, width=32, components=2))
    config = replace(
        CONFIG, steps=120, validate_every_steps=10, log_every_steps=60, learning_rate=3e-3, warmup_steps=10
    )
    made = Training(learner, config, tmp_path, tmp_path / "log", 0)
    made.fit(Batches(), Batches(9), silent)
    losses = [line["action"] for line in made.history if line["validation"]]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.5


def test_settings_that_cannot_be_are_one_sentence() -> None:
    for name in ("steps", "micro_batches", "validate_every_steps", "validation_batches", "log_every_steps"):
        with pytest.raises(ValueError, match=rf"TrainConfig\.{name} must be between 1 and \d+, got 0"):
            TrainConfig(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="TrainConfig.learning_rate must be more than 0 and at most 10, got 0"):
        TrainConfig(learning_rate=0)


def test_the_history_is_a_table_with_both_parts(tmp_path: Path) -> None:
    made = training(tmp_path)
    made.fit(Batches(), Batches(9), silent)
    with (tmp_path / "losses.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["step", "validation", "total", "action", "goal"]
    assert [(line["step"], float(line["validation"])) for line in lines] == [
        ("1", 0), ("2", 0), ("2", 1), ("3", 0), ("4", 0), ("4", 1),
    ]  # fmt: skip
    for line in lines:
        assert float(line["total"]) == pytest.approx(float(line["action"]) + float(line["goal"]), rel=1e-5)


def test_learning_rate_warms_up_and_ends_at_zero(tmp_path: Path) -> None:
    made = training(tmp_path, replace(CONFIG, steps=100, warmup_steps=10, learning_rate=1.0))
    rates = [made._rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01) and np.argmax(rates) == 9
    assert all(np.diff(rates[10:]) < 0) and rates[100] == 0.0


def test_gradients_are_clipped(tmp_path: Path) -> None:
    made = training(tmp_path, replace(CONFIG, clip_norm=1e-3))
    made.train_step(Batches()(0))
    norms = torch.stack([p.grad.norm() for p in made.network.parameters() if p.grad is not None])
    assert norms.norm() <= 1e-3 * 1.001


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="train.device is cuda, but no GPU is available; set device: auto"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
