"""Policies that are asked for a return: what is asked for, step by step, and what they see of the past."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import tiny
from strategies import PLANE

from wtl.analysis.results import read_results
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.app.plan import Plan
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import FamilySpec, Task
from wtl.data.grades import Best, everything
from wtl.data.meta_batches import BatchConfig, MetaBatches, Needs
from wtl.methods.learner import TrainConfig
from wtl.methods.returns import SPECS, BestTenthConfig, ReturnsConfig
from wtl.methods.returns.network import ReturnLearner, ReturnNetwork, actions_before, to_command
from wtl.methods.returns.policy import ReturnMethod
from wtl.play.policy import StepBatch
from wtl.play.protocol import ProtocolConfig
from wtl.stages.evaluate import _asking

SPEC = FamilySpec("plane", PLANE, 2, 50, 2, False, reward_scale=2.0)
SMALL = ReturnsConfig(window_steps=3, width=16, heads=2, layers=1, components=2, prompt_frames=0)


def trajectory(*rewards: float, seed: int = 0) -> Trajectory:
    generator, steps = np.random.default_rng(seed), len(rewards)
    return Trajectory(
        generator.normal(size=(steps + 1, PLANE.size)),
        generator.uniform(-1, 1, (steps, 2)),
        np.array(rewards),
        np.zeros(steps, bool),
    )


def batches(config: BatchConfig, window_steps: int) -> MetaBatches:
    """Of one task, whose only trial earns 1, 2, 3."""
    task = Task("plane", "train", "plane/train/0", (0.0,), "0")
    shown = trajectory(9.0, 9.0, seed=1)
    episodes = [
        Episode(t, task, role, 0, 0, "me", np.zeros(2), np.zeros((len(t), 2)))
        for t, role in ((shown, "demonstration"), (trajectory(1.0, 2.0, 3.0), "trial"))
    ]  # type: ignore[misc]
    return MetaBatches(
        config, Needs(context=False, window_steps=window_steps), episodes, SPEC, regime="none", seed=0
    )  # fmt: skip


CONFIG = BatchConfig(contexts=1, queries=40, trial_queries=1.0, translation=0.0)


def test_returns_to_go_by_hand() -> None:
    """Rewards 1, 2, 3 in units of 2: from each step on 3, 2.5 and 1.5 are earned, in 3, 2 and 1 steps."""
    windows = batches(CONFIG, 3)(0).windows
    assert windows is not None
    for row in range(40):
        valid = windows.valid_BQW[0, row]
        steps = windows.steps_BQW[0, row][valid].tolist()
        assert windows.returns_to_go_BQW[0, row][valid].tolist() == [[3.0, 2.5, 1.5][i] for i in steps]
        assert windows.steps_to_go_BQW[0, row][valid].tolist() == [[3, 2, 1][i] for i in steps]


def test_commands_by_hand() -> None:
    """The longest episode has 4 steps."""
    to_go, left, horizon = torch.tensor([3.0, 2.5, 1.5]), torch.tensor([3.0, 2.0, 1.0]), torch.tensor(4.0)
    assert to_command("return_to_go", to_go, left, horizon).tolist() == [[0.75], [0.625], [0.375]]
    assert to_command("return_and_horizon", to_go, left, horizon).tolist() == [
        [0.75, 0.75],
        [0.625, 0.5],
        [0.375, 0.25],
    ]
    assert to_command("mean_return", to_go, left, horizon).tolist() == [[1.0], [1.25], [1.5]]
    assert to_command("none", to_go, left, horizon).shape == (3, 0)


class Listening(ReturnNetwork):
    """Notes what it is asked, and what it is told was done before."""

    def forward(
        self, prompt_BFE: Any, commands_BWC: Any, observations_BWO: Any, actions_BWA: Any, valid_BW: Any
    ) -> Any:
        self.commands, self.before, self.seen = commands_BWC, actions_BWA, observations_BWO
        return super().forward(prompt_BFE, commands_BWC, observations_BWO, actions_BWA, valid_BW)


def listening(config: ReturnsConfig, horizon: float = 3.0) -> Listening:
    torch.manual_seed(0)
    network = Listening(config, SPEC)
    network.horizon.fill_(horizon)
    return network


def play_three_steps(config: ReturnsConfig, rewards: list[float]) -> tuple[list[list[float]], Listening, list[Any]]:
    """Ask one row for 6 (3 in units of 2) over three steps; return the last command of each step."""
    network = listening(config)
    policy = ReturnMethod(config, SPEC, network, "me").adapt([Context(desired_return=6.0)], [0])
    asked, done = [], []
    for number, reward in enumerate([np.nan, *rewards]):
        step = StepBatch(np.full((1, 7), number), np.array([0]), number, np.array([reward]), np.array([np.nan]))
        done.append(policy.act(step)[0])
        asked.append(network.commands[0, -1].tolist())
    return asked, network, done


def test_what_was_earned_is_taken_off_what_is_asked_for() -> None:
    asked, _, _ = play_three_steps(SMALL, [2.0, -4.0])
    assert asked == [pytest.approx([1, 1]), pytest.approx([2 / 3, 2 / 3]), pytest.approx([4 / 3, 1 / 3])]
    asked, _, _ = play_three_steps(replace(SMALL, command="return_to_go"), [2.0, -4.0])
    assert asked == [pytest.approx([1]), pytest.approx([2 / 3]), pytest.approx([4 / 3])]


def test_without_feedback_the_return_is_presumed_to_be_earned_evenly() -> None:
    asked, _, _ = play_three_steps(SMALL, [np.nan, np.nan])
    assert asked == [pytest.approx([1, 1]), pytest.approx([2 / 3, 2 / 3]), pytest.approx([1 / 3, 1 / 3])]


def test_a_mean_reward_stays_as_it_was_asked_for() -> None:
    asked, _, _ = play_three_steps(replace(SMALL, command="mean_return"), [2.0, -4.0])
    assert asked == [pytest.approx([1])] * 3


def test_the_window_holds_the_last_steps_and_what_was_done_between_them() -> None:
    _, network, done = play_three_steps(replace(SMALL, window_steps=2), [0.0, 0.0])
    assert network.seen[0, :, 0].tolist() == [1.0, 2.0]
    np.testing.assert_allclose(network.before[0], np.stack([np.zeros(2), done[1]]), atol=1e-6)
    before = actions_before(torch.tensor([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]]))
    assert before.tolist() == [[[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]]  # as in training


def test_actions_of_the_past_are_seen_only_if_it_is_said() -> None:
    commands, observations, actions = torch.randn(1, 3, 2), torch.randn(1, 3, 7), torch.randn(1, 3, 2)
    valid = torch.ones(1, 3, dtype=torch.bool)
    for choice in ("seen", "unseen"):
        torch.manual_seed(0)
        network = ReturnNetwork(replace(SMALL, past_actions=cast(Any, choice)), SPEC).eval()
        one, other = (network(None, commands, observations, done, valid).means_MA for done in (actions, -actions))
        assert torch.equal(one, other) == (choice == "unseen")


def test_a_step_depends_on_no_later_one_and_on_none_before_the_episode() -> None:
    network = ReturnNetwork(SMALL, SPEC).eval()
    commands, observations, actions = torch.randn(1, 3, 2), torch.randn(1, 3, 7), torch.randn(1, 3, 2)
    valid = torch.tensor([[False, True, True]])
    whole = network(None, commands, observations, actions, valid).means_MA
    for place, kept in ((2, [0, 1]), (0, [1, 2])):
        other = observations.clone()
        other[:, place] += 1.0
        changed = network(None, commands, other, actions, valid).means_MA
        torch.testing.assert_close(changed[:, kept], whole[:, kept])
        assert not torch.allclose(changed[:, place], whole[:, place])


def test_the_prompt_is_read() -> None:
    config = replace(SMALL, prompt_frames=4)
    method = ReturnMethod(config, SPEC, listening(config), "me")
    step = StepBatch(np.zeros((2, 7)), np.arange(2), 0, np.full(2, np.nan), np.full(2, np.nan))
    shown = [Context((trajectory(1.0, 1.0, seed=seed),), desired_return=6.0) for seed in (1, 2)]
    one, other = method.adapt(shown, [0, 0]).act(step)
    assert not np.allclose(one, other)
    bare = [replace(context, demonstrations=()) for context in shown]
    one, other = method.adapt(bare, [0, 0]).act(step)
    np.testing.assert_array_equal(one, other)


def test_what_is_asked_for_where_nobody_says() -> None:
    method = ReturnMethod(replace(SMALL, asked=0.5), SPEC, listening(SMALL), "me")
    shown = trajectory(2.0, 4.0, 6.0, 100.0)  # what is beyond the horizon of 3 does not count
    assert method.asked(Context((shown,), desired_return=8.0)) == 4.0
    assert method.asked(Context((shown,))) == 0.5 * 12.0 / 2.0
    assert method.asked(Context()) == 0.5 * 3
    protocol = ProtocolConfig(horizon_steps=2)
    assert _asking(Context((shown,)), 0.5, protocol).desired_return == 3.0
    assert _asking(Context((shown,)), None, protocol).desired_return is None


def test_shuffled_commands_are_those_of_other_episodes() -> None:
    batch = batches(CONFIG, 3)(0)
    heard = {}
    for returns in ("true", "shuffled"):
        config = replace(SMALL, returns=cast(Any, returns))
        network = listening(config, horizon=1.0).train()
        ReturnLearner(network).loss(batch)
        assert network.horizon == 3  # the longest episode that it has learned from
        heard[returns] = network.commands
    assert not torch.equal(heard["true"], heard["shuffled"])
    assert sorted(map(str, heard["true"].tolist())) == sorted(map(str, heard["shuffled"].tolist()))


def test_the_loss_is_the_mean_over_the_steps_of_the_episode() -> None:
    batch, network = batches(CONFIG, 3)(0), listening(SMALL, horizon=1.0).train()
    loss = ReturnLearner(network).loss(batch).total
    w = batch.windows
    assert w is not None
    valid = w.valid_BQW[0]
    mixture = network(None, network.commands, w.observations_BQWO[0], actions_before(w.actions_BQWA[0]), valid)
    unlikely = -mixture.log_probability(w.actions_BQWA[0])
    assert loss.item() == pytest.approx(unlikely[valid].mean().item(), rel=1e-5)


def test_all_are_one_network_with_other_settings() -> None:
    told = {}
    for spec in SPECS:
        config = spec.config()
        [phase] = spec.phases(config, "family")
        assert phase.needs.window_steps == config.window_steps and phase.needs.context
        assert not spec.phases(config, "none")[0].needs.context
        assert spec.reads.desired_return == (config.command != "none")
        told[spec.name] = (config.command, phase.graded)
    assert told.pop("best_tenth_cloning") == ("none", Best(0.1))
    assert {selection for _, selection in told.values()} == {everything}
    assert BestTenthConfig().window_steps == 1


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 30 and 4"):
        ReturnsConfig(width=30)
    with pytest.raises(ValueError, match=r"trial_queries must be 1, because graded episodes alone .* got 0\.5"):
        ReturnsConfig(train=TrainConfig())


TRAIN = "{steps: 4, warmup_steps: 1, validation_batches: 1, batch: {contexts: 4, queries: 2}}"
RUN = (
    "method=decision_transformer", "graded={tasks_per_family: 3, validation_tasks_per_family: 2, players: []}",
    f"methods.decision_transformer={{window_steps: 3, width: 8, heads: 2, train: {TRAIN}}}",
    f"methods.best_tenth_cloning={{width: 8, heads: 2, train: {TRAIN}}}",
    "protocol.feedback=step", "evaluation.attempts=0", "evaluation.controls=[]",
)  # fmt: skip


def test_each_return_that_is_asked_for_is_a_curve(tmp_path: Path) -> None:
    overrides = (*RUN, "evaluation.methods=[best_tenth_cloning]", "evaluation.asked=[0, 1.5]")
    Pipeline(load_config("toy", tiny(tmp_path, *overrides))).run()
    rows = read_results(tmp_path / "evaluation" / "episodes.csv")
    curves = {name: {row.entry for row in rows if row.method == name} for name in {row.method for row in rows}}
    main = "decision_transformer"
    assert set(curves) == {main, f"{main}, asked 0", f"{main}, asked 1.5", "best_tenth_cloning"}
    assert len({frozenset(entries) for entries in curves.values()}) == 1  # the same entries
    with pytest.raises(ValueError, match=r"evaluation\.asked are shares of the demonstrated return, and regime `none`"):
        Plan(load_config("toy", tiny(tmp_path, *overrides, "regime=none")))
