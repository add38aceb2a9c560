"""Rewards from a noise ladder: ranking loss and sigmoid by hand, the ladder, and what the rewards are used for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from toy_episodes import FAMILY, SMALL, networks_of, some_contexts, toy_episodes

from wtl.core.episode import Context, Episode, Trajectory
from wtl.data.grades import EXPERT, Grade, grade_of, rung_of, with_grade
from wtl.data.meta_batches import BatchConfig, MetaBatches
from wtl.methods.drex import RANKER, SPECS, RankedRewards, RankingConfig, WithoutRewards, WithRankedRewards
from wtl.methods.drex.ladder import Ladder
from wtl.methods.drex.network import Ranker, RankerLearner, bradley_terry, near, sigmoid_of_noise, worse_by
from wtl.methods.learner import TrainConfig
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings, play

DREX, SSRR, SHUFFLED = SPECS


def test_bradley_terry_by_hand() -> None:
    """Scores 2, 1, 0 and noise 0, 1, 1: the first beats both others, by 1 and by 2."""
    scores, noise = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 2
    assert bradley_terry(scores, worse_by(noise, 0.5)).item() == pytest.approx(expected) == pytest.approx(0.2200948)


def test_a_ranking_that_is_upside_down_costs_more_and_a_coin_costs_log_2() -> None:
    better = worse_by(torch.tensor([[0.0, 1.0]]), 0.5)
    assert bradley_terry(torch.tensor([[0.0, 0.0]]), better).item() == pytest.approx(math.log(2))
    assert bradley_terry(torch.tensor([[0.0, 3.0]]), better).item() == pytest.approx(math.log(1 + math.exp(3)))


def test_only_other_rungs_near_in_time_are_compared() -> None:
    noise = torch.tensor([[0.6, 0.7, 1.3, float("nan")]])
    assert worse_by(noise, 0.25)[0].nonzero().tolist() == [[0, 2], [1, 2]]
    assert near(torch.tensor([[10, 40, 100]]), 50)[0].tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, True],
    ]
    assert bradley_terry(torch.ones(1, 4), worse_by(noise, 5.0)).item() == 0.0


def test_sigmoid_by_hand() -> None:
    """Floor 1, height 2, slope 4, middle .5: 2 in the middle, and less with more noise."""
    shape = torch.tensor([[1.0, 2.0, 4.0, 0.5]])
    values = sigmoid_of_noise(torch.tensor([[0.5, 0.0, 1.0]]), shape)[0].tolist()
    assert values == pytest.approx([2.0, 1 + 2 / (1 + math.exp(-2)), 1 + 2 / (1 + math.exp(2))])


def ladder(rungs: tuple[float, ...], tasks: int = 2, seed: int = 0) -> list[Episode]:
    """Return episodes of the toy's expert on these rungs."""
    goals = FAMILY.sample_tasks(tasks, 0, "train")
    episodes: list[Episode] = []
    for i, noise in enumerate(rungs):
        sessions = [Session(task, Context(), (), 100 * seed + 10 * i + j) for j, task in enumerate(goals)]
        environments = [FAMILY.make_environment() for _ in goals]
        seeds = [session.seed for session in sessions]
        begun = Attempt(FAMILY, environments, sessions, [Context()] * tasks, seeds, 0)
        settings = RolloutSettings(FAMILY.spec.horizon_steps, after_success_steps=None, ask_expert=True, role="trial")
        episodes += [with_grade(e, Grade(EXPERT, noise)) for e in play(begun, Expert(NoiseConfig(noise)), settings)]
    return episodes


def test_the_ladder_holds_nothing_better_than_its_best_rung_and_nobody_else() -> None:
    episodes = ladder((0.0, 0.5, 1.0))
    episodes.append(with_grade(episodes[0], Grade("random")))
    kept = Ladder(0.5)(episodes)
    assert [rung_of(e) for e in kept] == [0.5, 0.5, 1.0, 1.0]
    assert math.isnan(rung_of(episodes[-1])) and math.isnan(rung_of(toy_episodes("trial")[0]))


def test_a_shuffled_ladder_has_the_same_rungs_in_each_task_and_others_for_some_episodes() -> None:
    episodes = ladder(tuple(np.linspace(0.5, 2.0, 6)))
    true, shuffled = Ladder(0.5)(episodes), Ladder(0.5, shuffled=True)(episodes)
    for name in {e.task.name for e in episodes}:
        own = [
            (grade_of(a).noise, grade_of(b).noise) for a, b in zip(true, shuffled, strict=True) if a.task.name == name
        ]
        assert sorted(a for a, _ in own) == sorted(b for _, b in own)
    assert any(grade_of(a) != grade_of(b) for a, b in zip(true, shuffled, strict=True))
    assert all(a.trajectory.actions is not None and np.array_equal(a.trajectory.actions, b.trajectory.actions)
               for a, b in zip(true, shuffled, strict=True))  # fmt: skip


def test_true_rewards_are_never_read() -> None:
    """The same loss whatever the rewards and successes were."""
    episodes = [*toy_episodes("demonstration"), *ladder((0.6, 1.5))]
    other = [replace(e, trajectory=replace(e.trajectory, rewards=-7 * e.trajectory.rewards)) for e in episodes]
    losses = []
    for shown in (episodes, other):
        config = SMALL["ssrr"]
        network = networks_of(SSRR, config)[RANKER]
        assert isinstance(network, Ranker)
        losses.append(RankerLearner(network, config).loss(batches(config, shown)(0)).total.item())
    assert losses[0] == losses[1]


def batches(config: RankingConfig, episodes: list[Episode]) -> MetaBatches:
    phase = DREX.phases(config, "family")[0]
    batch = replace(phase.train.batch, contexts=2, queries=6)
    return MetaBatches(batch, phase.needs, episodes, FAMILY.spec, regime="family", seed=0)


class Ends(torch.nn.Module):
    """A ranker whose reward is the first number of the state."""

    def forward(self, states: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return states[..., 0]


def along(*places: float, success: bool = False) -> Trajectory:
    size, steps = FAMILY.spec.layout.size, len(places) - 1
    observations = np.zeros((steps + 1, size))
    observations[:, 0] = places
    successes = np.zeros(steps, bool)
    successes[-1] = success
    return Trajectory(observations, np.zeros((steps, FAMILY.spec.action_size)), np.full(steps, 0.1), successes)


def test_ranked_rewards_by_hand() -> None:
    """The demonstration goes from 0 to 1, so a trial at .25, .5 and beyond has that share of the largest reward."""
    rewards = RankedRewards(Ends(), FAMILY.spec)  # type: ignore[arg-type]
    shown = along(0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, success=True)
    context = rewards.relabelled(Context((shown,), (along(0.0, 0.25, 0.5, 3.0, -1.0, success=True),)))
    scale = FAMILY.spec.reward_scale
    assert context.trials[0].rewards.tolist() == pytest.approx([0.25 * scale, 0.5 * scale, scale, 0.0])
    assert not context.trials[0].success and context.trials[0].outcome_known
    assert context.demonstrations[0].success and context.demonstrations[0].rewards[0] == 0.0


def test_a_ranker_that_does_not_know_the_task_masks_the_outcome() -> None:
    rewards = RankedRewards(Ends(), FAMILY.spec)  # type: ignore[arg-type]
    context = rewards.relabelled(Context((along(1.0, 1.0, 0.0, 0.0),), (along(0.0, 1.0),)))
    assert not context.trials[0].outcome_known and not context.trials[0].rewards.any()


def test_best_is_the_highest_mean_reward() -> None:
    rewards = RankedRewards(Ends(), FAMILY.spec)  # type: ignore[arg-type]
    trials = [along(0.0, 0.2, 0.2, 0.2, 0.2), along(0.0, 0.3), along(0.0, 0.9, 0.0, -0.9)]
    assert rewards.best(trials, along(0.0, 1.0)) == 1


class Reads:
    """A method that keeps what it was shown."""

    source = "reader"

    def __init__(self) -> None:
        self.shown: list[Context] = []

    def adapt(self, contexts: Any, seeds: Any) -> Any:
        self.shown = list(contexts)


def test_wrapped_methods_never_see_a_true_reward() -> None:
    reader, contexts = Reads(), some_contexts(True, 1)
    WithRankedRewards(reader, RankedRewards(Ends(), FAMILY.spec)).adapt(contexts, range(3))  # type: ignore[arg-type]
    assert not np.array_equal(reader.shown[0].trials[0].rewards, contexts[0].trials[0].rewards)
    WithoutRewards(reader).adapt(contexts, range(3))
    assert all(not trial.outcome_known for context in reader.shown for trial in context.trials)


def test_errors_say_what_is_missing() -> None:
    rewards = RankedRewards(Ends(), FAMILY.spec)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the context has none"):
        rewards.relabelled(Context((), (along(0.0, 1.0),)))
    with pytest.raises(ValueError, match="regime `none`"):
        DREX.phases(RankingConfig(), "none")
    with pytest.raises(ValueError, match="trial_queries must be 1"):
        RankingConfig(train=TrainConfig(batch=BatchConfig()))


@pytest.mark.slow
def test_the_ranking_is_learned_from_noise_alone_and_not_from_a_shuffled_ladder() -> None:
    """On tasks never seen, better rungs included: predicted and true mean reward, against permutations of the pairs."""
    rungs, demonstrations = tuple(np.linspace(0.6, 2.0, 6)), list(toy_episodes("demonstration", 20))
    demonstrations = [e for e in demonstrations if e.task.family == FAMILY.spec.name]
    p_values = []
    for spec in (DREX, SHUFFLED):
        config = replace(SMALL[spec.name], width=32, least_noise=0.6)
        phase = spec.phases(config, "family")[0]
        assert phase.graded is not None
        network = networks_of(spec, config)[RANKER]
        assert isinstance(network, Ranker)
        learner = RankerLearner(network, config)
        read = batches(config, [*demonstrations, *phase.graded(ladder(rungs, 20))])
        optimiser = torch.optim.Adam(network.parameters(), 3e-3)
        for step in range(400):
            optimiser.zero_grad()
            learner.loss(read(step)).total.backward()
            optimiser.step()
        rewards = RankedRewards(network, FAMILY.spec)
        looked_at = ladder((0.0, 0.3, 0.6, 1.0, 2.0), 30, seed=9)
        shown = demonstrations[0].trajectory
        predicted = [rewards.mean_reward(e.trajectory, shown) for e in looked_at]
        true = [float(e.trajectory.rewards.mean()) for e in looked_at]
        p_values.append(permutation_p(np.array(predicted), np.array(true)))
    assert p_values[0] < 0.01 and p_values[1] > 0.05, p_values


def permutation_p(x: np.ndarray, y: np.ndarray, draws: int = 2000) -> float:
    """How often a permutation correlates as much."""
    generator, seen = np.random.default_rng(0), float(np.corrcoef(x, y)[0, 1])
    return float(np.mean([np.corrcoef(x, generator.permutation(y))[0, 1] >= seen for _ in range(draws)]))
