"""Trajectory transfer: which reference it takes, what it infers, and that an offset that can be read is learned."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from steps import step_of
from strategies import PLANE, make_trajectory

from wtl.app.config import ConfigError, load_config
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import FamilySpec, Task
from wtl.data.meta_batches import Batch, BatchConfig
from wtl.data.segments import make_context_batch
from wtl.data.store import EpisodeStore, close_store, write_shard
from wtl.methods.learner import TrainConfig
from wtl.methods.transfer.config import TransferConfig
from wtl.methods.transfer.controller import TransferPolicy
from wtl.methods.transfer.method import ScorerLearner, TransferMethod, choose_reference
from wtl.methods.transfer.misled import MisledTransfer, make_misled
from wtl.methods.transfer.repeating import repeatable
from wtl.methods.transfer.scorer import OffsetScorer, ScorerConfig, TrueGoals, most_promising
from wtl.play.policy import Attempt, Session
from wtl.tasks.toy import ToyFamily, distribution

LAYOUT = replace(PLANE, hand_step=0.05)
SPEC = FamilySpec("alpha", LAYOUT, 2, 10, 2, True, 1.0)
CONFIG = TransferConfig(ScorerConfig(width=16, negatives=8, proposals=40), max_trials=2, frames=4)
SHOWN, *TRIED = (make_trajectory(5, seed) for seed in range(5))
FAILED = [replace(trial, successes=np.zeros(5, bool)) for trial in TRIED]
SOLVED = [replace(trial, successes=np.arange(5) >= 3) for trial in TRIED]
NOW = np.stack([make_trajectory(1, 50 + i).observations[0] for i in range(3)])


def made(seed: int = 0, config: TransferConfig = CONFIG) -> TransferMethod:
    torch.manual_seed(seed)
    scorer = OffsetScorer(config.scorer, SPEC)
    scorer.features.fit(torch.randn(30, PLANE.size))
    return TransferMethod(config, SPEC, scorer, functools.partial(TransferPolicy, config.controller), "untrained")


def actions(method: TransferMethod, contexts: list[Context], seeds: Sequence[int] = (1, 2, 3)) -> np.ndarray:
    return method.adapt(contexts, seeds[: len(contexts)]).act(step_of(NOW[: len(contexts)]))


# Which reference is tracked.


def test_the_demonstration_is_taken_then_the_newest_success_then_the_best_trial() -> None:
    assert choose_reference(Context((SHOWN,), (SOLVED[0], FAILED[2]))) is SHOWN
    assert choose_reference(Context((), (SOLVED[0], SOLVED[1], FAILED[2]))) is SOLVED[1]
    poor, rich = (replace(FAILED[0], rewards=np.full(5, value)) for value in (0.1, 0.2))
    assert choose_reference(Context((), (poor, rich, poor))) is rich
    with pytest.raises(ValueError, match="expects a demonstration or a trial, got neither; choose another method"):
        choose_reference(Context())


def test_a_success_from_the_identical_start_is_repeated_whatever_else_is_known() -> None:
    """Step by step, as long as what is seen is what was seen then; else the method goes on by itself."""
    for seed, context in ((0, Context((), (SOLVED[0],))), (9, Context((SHOWN,), (FAILED[1], SOLVED[0])))):
        policy = made(seed=seed).adapt([context], [1])
        for t in range(3):
            action = policy.act(step_of(SOLVED[0].observations[t : t + 1], number=t))
            np.testing.assert_array_equal(action[0], SOLVED[0].actions[t])
        elsewhere = policy.act(step_of(SOLVED[0].observations[3:4] + 0.1, number=3))
        assert not np.array_equal(elsewhere[0], SOLVED[0].actions[3])
        again = policy.act(step_of(SOLVED[0].observations[4:5], number=4))
        assert not np.array_equal(again[0], SOLVED[0].actions[4])  # what has once differed is another world


def test_rows_that_repeat_and_rows_that_do_not_stand_side_by_side() -> None:
    method, there = made(), SOLVED[0].observations[0]
    contexts = [Context((SHOWN,), (FAILED[1],)), Context((SHOWN,), (SOLVED[0],))]
    together = method.adapt(contexts, [1, 2]).act(step_of(np.stack([NOW[0], there])))
    np.testing.assert_allclose(together[0], actions(method, contexts[:1])[0], atol=1e-9)
    np.testing.assert_array_equal(together[1], SOLVED[0].actions[0])


def test_a_success_that_is_masked_is_not_known_to_be_one() -> None:
    masked = Context((SHOWN,), (SOLVED[0].with_outcome_masked(),))
    assert repeatable(masked, SOLVED[0].observations[0]) is None
    assert repeatable(Context((SHOWN,), (SOLVED[0],)), SOLVED[0].observations[0]) is SOLVED[0]
    assert repeatable(Context((SHOWN,), (SOLVED[0],)), NOW[0]) is None


def test_rows_act_by_themselves() -> None:
    method = made()
    contexts = [Context((shown,)) for shown in (SHOWN, TRIED[0], TRIED[1])]
    together = actions(method, contexts)
    assert together.shape == (3, 2) and np.abs(together).max() <= 1.0
    policy, rows = method.adapt(contexts, [1, 2, 3]), [2, 0]
    np.testing.assert_allclose(policy.act(step_of(NOW[rows], rows)), together[rows], atol=1e-9)


def test_only_the_newest_trials_are_read() -> None:
    method = made()
    three, two = Context((SHOWN,), tuple(FAILED[:3])), Context((SHOWN,), tuple(FAILED[1:3]))
    np.testing.assert_array_equal(actions(method, [three]), actions(method, [two]))


def test_without_a_demonstration_hypotheses_spread_around_the_best_trial() -> None:
    """The first one is the trial itself; nothing is asked of the scorer, which could not answer."""
    found: list[np.ndarray] = []
    for seed in (1, 2):
        policy = made().adapt([Context((), (FAILED[0],))], [seed])
        policy.act(step_of(NOW[:1]))
        found.append(policy.policies[0]._queue[0])
    for offsets in found:
        assert offsets.shape == (CONFIG.hypotheses, 2) and not offsets[0].any() and offsets[1:].any(axis=1).all()
    assert (found[0][1:] != found[1][1:]).any()


# What is inferred.


def test_visible_offsets_by_hand() -> None:
    scorer = OffsetScorer(CONFIG.scorer, SPEC)
    shown = np.array(SHOWN.observations)
    shown[:, LAYOUT.points[1] :][:, :2] = [1.0, 2.0]
    shown[:, LAYOUT.points[2] :][:, :2] = 0.0  # absent
    start = np.zeros(PLANE.size, np.float32)
    start[LAYOUT.points[1] :][:2] = [1.5, 1.0]
    context = make_context_batch([Context((replace(SHOWN, observations=shown),))], 4, 1.0)
    offsets, there = scorer.visible(context, torch.from_numpy(start[None]))
    assert offsets[0, 0].tolist() == [0.0, 0.0] and there[0].tolist() == [True, True, False]
    torch.testing.assert_close(offsets[0, 1], torch.tensor([0.5, -1.0]))
    with pytest.raises(ValueError, match="is relative to a demonstration, but the context has none"):
        scorer.visible(make_context_batch([Context((), (TRIED[0],))], 4, 1.0), torch.zeros(1, PLANE.size))


@pytest.mark.parametrize("prior", [0.0, 0.6])
def test_what_goes_along_with_something_visible_is_never_ruled_out(prior: float) -> None:
    torch.manual_seed(0)
    scorer = OffsetScorer(replace(CONFIG.scorer, visible_prior=prior), SPEC)
    scorer.features.fit(torch.randn(30, PLANE.size))
    with torch.no_grad():
        scorer.score[-1].weight *= 100.0  # as sure of something as a scorer can be
    shown = SHOWN.observations.copy()
    shown[0, 5:7] = 0.0  # the third place is not there
    context = make_context_batch([Context((replace(SHOWN, observations=shown),))], 4, 1.0)
    start = torch.from_numpy(NOW[:1])
    candidates, probability = scorer.posterior(context, start, torch.Generator().manual_seed(1))
    torch.testing.assert_close(candidates[:, :3], scorer.visible(context, start)[0])
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    assert (probability[0, :2] >= prior / 2).all() and probability[0, 2] == 0.0
    assert (probability[0, :2].min() < 0.05) == (prior == 0.0)


def test_a_rule_is_true_if_it_gives_every_end_from_its_own_start() -> None:
    """The object goes along with its start in the first context, to the same place in the second."""
    scorer = OffsetScorer(CONFIG.scorer, SPEC)
    scorer.features.fit(torch.randn(30, PLANE.size))
    shown_start, other, now = np.array([0.5, 0.5]), np.array([1.5, 0.5]), np.array([0.5, 2.5])
    shown, tried = _brought(shown_start, shown_start + 1.0, 1.0), _brought(other, other, 0.0)
    context = make_context_batch([Context((shown,), (tried,))] * 2, 4, 1.0)
    start = torch.tensor(_brought(now, now, 0.0).observations[:1]).float().expand(2, -1)
    goals = TrueGoals(
        own_BG=torch.tensor([[1.5, 3.5], [3.0, 3.0]]),
        demonstrated_BG=torch.full((2, 2), 1.5),
        trials_BSG=torch.tensor([[[2.5, 1.5]], [[3.0, 3.0]]]),
    )
    # Along with nothing (the hand's place), along with the object; the third place is not there.
    assert scorer.consistent(context, start, goals).tolist() == [[False, True, False], [True, False, False]]


def test_a_trial_is_judged_from_its_own_start() -> None:
    """Two trials that ended alike seen from their own starts say the same of a rule that goes along with the object."""
    scorer = made().scorer
    shown = _brought(np.zeros(2) + 0.3, np.ones(2), 1.0)
    start = torch.tensor(_brought(np.ones(2), np.ones(2), 0.0).observations[:1]).float()
    candidates, scores = torch.tensor([[[0.4, 0.7]] * 2]), []
    for begin in (np.array([0.2, 0.4]), np.array([1.2, -0.6])):
        context = make_context_batch([Context((shown,), (_brought(begin, begin + 0.5, 0.4),))], 4, 1.0)
        scores.append(scorer(context, start, candidates, torch.tensor([[1, 0]]))[0].detach())
    # Of the rule that goes along with nothing it says another thing; the hand begins at the object in both.
    assert (scores[0] - scores[1]).abs()[1] > (scores[0] - scores[1]).abs()[0]
    torch.testing.assert_close(scores[0][0], scores[1][0], atol=1e-4, rtol=1e-4)


def test_promising_candidates_by_hand() -> None:
    candidates = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [9.0, 0.0]])
    probability = torch.tensor([0.2, 0.3, 0.4, 0.1])
    # Two near ones together outweigh a likelier one alone; what they covered does not count again.
    found = most_promising(candidates, probability, 0.5, 3)
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.0], [5.0, 0.0], [9.0, 0.0]]))


def batch_of(generator: np.random.Generator, contexts: int, hidden: bool) -> Batch:
    """The object goes to a goal: along with its start, or a hidden one that the last rewards of trials tell."""
    parts, starts, offsets = [], [], []
    for _ in range(contexts):
        shown_start, shown_goal, start = generator.normal(size=(3, 2))
        offset = generator.normal(size=2) if hidden else start - shown_start
        shown = _brought(shown_start, shown_goal, 1.0)
        trials: tuple[Trajectory, ...] = ()
        if hidden:
            guesses = [offset + generator.normal(size=2) for _ in range(4)]
            ends = [shown_goal + guess for guess in guesses]
            rewards = [float(np.exp(-2 * np.linalg.norm(guess - offset))) for guess in guesses]
            trials = tuple(_brought(start, end, reward) for end, reward in zip(ends, rewards, strict=True))
        parts.append(Context((shown,), trials))
        starts.append(_brought(start, start, 0.0).observations[0])
        offsets.append(offset)
    goal = torch.tensor(np.array(offsets), dtype=torch.float32)
    nothing = torch.zeros(contexts, 1, 2)
    return Batch(
        context=make_context_batch(parts, 4, 1.0), known=(Context(),) * contexts,
        observations_BQO=torch.zeros(contexts, 1, PLANE.size), expert_actions_BQA=nothing, actions_BQA=nothing,
        returns_to_go_BQ=nothing[..., 0], start_BO=torch.from_numpy(np.stack(starts)), goal_BG=goal,
        demonstrated_goal_BG=torch.zeros_like(goal), starts_BQO=torch.zeros(contexts, 1, PLANE.size),
        goals_BQG=goal[:, None], trial_goals_BSG=goal[:, None].expand(-1, len(parts[0].trials), -1),
        noise_BQ=nothing[..., 0], peak_BD=goal,
    )  # fmt: skip


def _brought(start: np.ndarray, end: np.ndarray, reward: float) -> Trajectory:
    observations = np.zeros((5, PLANE.size))
    way = np.linspace(start, end, 5)
    for point in LAYOUT.points[:2]:
        observations[:, point : point + 2] = way + 1e-3
    return Trajectory(observations, np.zeros((4, 2)), np.linspace(0, reward, 4), np.zeros(4, bool))


@pytest.mark.parametrize("hidden", [False, True])
def test_an_offset_that_can_be_read_is_learned(hidden: bool) -> None:
    """Against chance, which is ln(1 + number of negatives), and for the hidden goal against not reading the rewards."""
    generator = np.random.default_rng(0)
    learner = ScorerLearner(made().scorer)
    learner.fit_features(batch_of(generator, 200, hidden).start_BO)
    optimiser = torch.optim.Adam(learner.network.parameters(), 3e-3)
    batches = [batch_of(generator, 32, hidden) for _ in range(30)]  # making one takes as long as learning from it
    for step in range(200 if hidden else 90):
        optimiser.zero_grad()
        learner.loss(replace(batches[step % 30], seed=step)).total.backward()
        optimiser.step()
    test = batch_of(generator, 200, hidden)
    assert test.context is not None
    with_rewards = learner.loss(test).total.item()
    if not hidden:
        assert with_rewards < 0.5
        return
    trials = test.context.trials
    assert trials is not None
    blind = replace(trials, rewards_BSF=0 * trials.rewards_BSF, mean_rewards_BSF=0 * trials.mean_rewards_BSF)
    without_rewards = learner.loss(replace(test, context=replace(test.context, trials=blind))).total.item()
    assert with_rewards < 1.7 and with_rewards < without_rewards - 0.2


def test_what_a_loss_draws_depends_on_its_batch_alone() -> None:
    """Else several processes would not do what one does, and validation would change training."""
    learner, batch = ScorerLearner(made().scorer), batch_of(np.random.default_rng(1), 8, False)
    first = learner.loss(replace(batch, seed=5)).total.item()
    torch.rand(3)
    assert learner.loss(replace(batch, seed=5)).total.item() == first
    assert learner.loss(replace(batch, seed=6)).total.item() != first


# Who plays the first trials.

TOY = ToyFamily("probe-red")
TRACK = functools.partial(TransferPolicy, CONFIG.controller)


def demonstration_of(task: Task) -> Episode:
    """Return made-up steps towards the goal of a toy task."""
    shown = make_trajectory(6, 1, TOY.spec.layout)
    candidates = np.array(task.parameters[2:-1]).reshape(-1, 2)
    goal = candidates[int(task.parameters[-1])]
    return Episode(shown, task, "demonstration", 0, 0, "test", goal, shown.actions)


def misled(near: float, goals: np.ndarray, own: np.ndarray | None = None) -> tuple[MisledTransfer, list[Session]]:
    """The player and one session for each seed, all of one task."""
    task = TOY.sample_tasks(1, 0, "train")[0]
    shown = demonstration_of(task)
    sessions = [Session(task, Context((shown.trajectory,)), (shown,), seed) for seed in range(40)]
    goal_of = {} if own is None else {task.name: own}
    return MisledTransfer(TRACK, near, goal_of, {TOY.name: goals}), sessions


def wrong_goals(player: MisledTransfer, sessions: list[Session]) -> np.ndarray:
    """(sessions, TRIES, D)."""
    return np.stack([player._elsewhere(session) + session.demonstrations[0].goal for session in sessions])


def test_wrong_goals_are_never_near_the_tasks_own() -> None:
    goals = np.random.default_rng(0).uniform(-1, 1, (30, 2)).astype(np.float32)
    near = 0.6
    close = np.linalg.norm(goals - goals[4], axis=1) <= near
    assert 1 < close.sum() < 29
    told = wrong_goals(*misled(near, goals, goals[4]))
    assert (np.linalg.norm(told - goals[4], axis=-1) > near - 1e-5).all()
    assert len(np.unique(told.reshape(-1, 2).round(4), axis=0)) == (~close).sum()  # all others, sooner or later
    assert (np.linalg.norm(wrong_goals(*misled(0.0, goals)) - goals[4], axis=-1) < near).any()  # a goal not known


def test_where_all_goals_are_near_any_is_taken() -> None:
    goals = np.array([[0.0, 0.0], [0.01, 0.0]], np.float32)
    told = wrong_goals(*misled(0.5, goals, goals[0]))
    assert {tuple(goal) for goal in told.reshape(-1, 2).astype(float).round(4).tolist()} == {(0.0, 0.0), (0.01, 0.0)}


def test_only_goals_of_demonstrated_tasks_are_known_and_none_of_a_test_task(tmp_path: Path) -> None:
    tasks = distribution(seed=1, goals_per_family=3, validation_goals_per_family=2, test_goals_per_family=2)
    shown = [demonstration_of(task) for split in ("train", "validation", "test") for task in tasks.split(split)]
    write_shard(tmp_path, 0, shown)
    close_store(tmp_path, 1)
    player = make_misled(CONFIG, TRACK, tasks, EpisodeStore(tmp_path))
    assert set(player.goal_of) == {task.name for task in (*tasks.train, *tasks.validation)}
    assert {family: len(goals) for family, goals in player.goals.items()} == {"probe-red": 5, "probe-blue": 5}
    assert player.near == pytest.approx(CONFIG.misled_steps * tasks.spec.layout.hand_step)
    for episode in shown[:6]:
        np.testing.assert_allclose(player.goal_of[episode.task.name], episode.goal, atol=1e-6)


def test_the_misled_player_goes_to_the_wrong_goals_and_needs_a_demonstration() -> None:
    player, sessions = misled(0.5, np.array([[9.0, 0.0]], np.float32))
    sessions = sessions[:2]
    attempt = Attempt(TOY, [], sessions, [session.context for session in sessions], [3, 4])
    policy = player.policy(attempt)
    start = np.stack([session.demonstrations[0].trajectory.observations[0] for session in sessions])
    policy.act(step_of(np.zeros((2, TOY.spec.layout.size)) + start[:, :1]))
    for row, session in enumerate(sessions):
        np.testing.assert_allclose(policy._queue[row], [[9.0, 0.0] - session.demonstrations[0].goal] * 16, atol=1e-6)
    bare = [replace(session, context=Context()) for session in sessions]
    with pytest.raises(ValueError, match="needs a demonstration, got 2 contexts without; in regime `none` choose"):
        player.policy(Attempt(TOY, [], bare, [Context()] * 2, [3, 4]))


# Settings.


@pytest.mark.parametrize("preset", ["quick", "toy", "ml1"])
def test_the_method_can_be_chosen_without_further_keys(preset: str) -> None:
    """Its defaults are its own: once they were refused, because batches were configured for another method."""
    config = load_config(preset, ["method=trajectory_transfer"])
    settings = config.settings_of("trajectory_transfer")
    assert settings == TransferConfig()
    assert settings.train.batch.trial_queries == settings.train.batch.no_demonstration == 0.0


def test_settings_that_cannot_be_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match="needs something to follow; in regime `none` choose another method"):
        load_config("quick", ["method=trajectory_transfer", "regime=none"])
    asked = "methods.trajectory_transfer.train.batch.no_demonstration=0.1"
    with pytest.raises(ConfigError, match=r"set train.batch.no_demonstration and .trial_queries to 0, got 0.1 and 0.0"):
        load_config("quick", ["method=trajectory_transfer", asked])
    with pytest.raises(ValueError, match="set later_train.batch.no_demonstration"):
        TransferConfig(later_train=TrainConfig(batch=BatchConfig(trial_queries=0.5, no_demonstration=0.0)))
    with pytest.raises(ValueError, match="ScorerConfig.negatives must be between 1 and 100000, got 0"):
        ScorerConfig(negatives=0)
    with pytest.raises(ValueError, match="ScorerConfig.visible_prior must be at least 0 and less than 1, got 1.0"):
        ScorerConfig(visible_prior=1.0)
    with pytest.raises(ValueError, match="TransferConfig.rounds must be between 1 and 100, got 0"):
        TransferConfig(rounds=0)
    with pytest.raises(ValueError, match=r"\*_trials_in_context is 5, but max_trials is 4"):
        TransferConfig(first_trials_in_context=5)
    with pytest.raises(ValueError, match="a goal must be a position of 2 numbers, got 3"):
        OffsetScorer(CONFIG.scorer, replace(SPEC, goal_size=3))
