"""The ladder: pairs worse -> better by hand, the cap, what is imitated, and that it climbs on the toy families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from strategies import PLANE, make_task
from toy_episodes import FAMILY, networks_of, small, some_contexts, tiny_batch

from wtl.analysis.results import read_results
from wtl.analysis.statistics import permutation_test
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import FamilySpec
from wtl.data.grades import Capped, Grade, grade_of, with_grade
from wtl.data.meta_batches import BatchConfig, MetaBatches, Needs
from wtl.data.sampling import Queries, choose_asked
from wtl.methods.ladder import OPERATOR, SPECS, START, LadderConfig, LadderMethod, OperatorLearner
from wtl.methods.learner import TrainConfig
from wtl.methods.nn.context_network import ContextNetwork
from wtl.play.policy import StepBatch

SPEC = FamilySpec("alpha", PLANE, 2, 10, 2, True, 1.0)
LADDER, RANDOM_ORDER, BEST_RUNG = SPECS


def hand_made(family: str, number: int, earned: float, noise: float = 0.0, success: bool = False) -> Episode:
    """An episode of task `number` that earns so much; every observation holds it, and it tells episodes apart."""
    observations = np.full((4, PLANE.size), earned + 100 * number + (1000 if family == "beta" else 0))
    successes = np.array([False, success, False])
    trajectory = Trajectory(observations, np.full((3, 2), earned / 100), np.array([0.0, earned, 0.0]), successes)
    task = make_task(f"{family}/{number}", family)
    episode = Episode(trajectory, task, "trial", 0, 0, "me", np.zeros(2), np.full((3, 2), np.nan))
    return with_grade(episode, Grade("expert", noise))


def pairs(queries: Queries, tasks: int = 2, earned: tuple[float, ...] = (3, 1, 2), k: int = 1) -> list[tuple[Any, ...]]:
    """(what the trials of each context earned, what the trials asked about earned), of 30 batches."""
    episodes = [hand_made("alpha", number, e) for number in range(tasks) for e in earned]
    config = BatchConfig(contexts=8, queries=5, trial_queries=1.0, translation=0.0, masked_outcome=0.0)
    made = MetaBatches(config, Needs(trials=(k, k), frames=3, queries=queries), episodes, SPEC, regime="none", seed=0)
    found = []
    for batch in map(made, range(30)):
        assert batch.context is not None and batch.context.trials is not None
        shown = batch.context.trials.observations_BSFO[:, :, 0, 0]
        for trials, asked, start in zip(shown, batch.observations_BQO[..., 0], batch.start_BO[:, 0], strict=True):
            assert len({float(v) // 100 for v in (*trials, *asked)}) == 1  # of one task
            assert set(asked.tolist()) == {float(start)}  # of one episode, whose start is known
            found.append((tuple(float(v) % 100 for v in trials), float(asked[0]) % 100))
    return found


def test_better_pairs_go_upwards_alone() -> None:
    """Trials that earned 1, 2 and 3 make the pairs 1 -> 2, 1 -> 3 and 2 -> 3."""
    assert set(pairs("better")) == {((1.0,), 2.0), ((1.0,), 3.0), ((2.0,), 3.0)}
    assert {(set(trials) == {1.0, 2.0}, asked) for trials, asked in pairs("better", k=2)} == {(True, 3.0)}


def test_pairs_in_random_order_are_the_same_pairs_in_both_directions() -> None:
    better, other = pairs("better"), pairs("other")
    assert [{*trials, asked} for trials, asked in better] == [{*trials, asked} for trials, asked in other]
    assert set(other) == {((a,), b) for a in (1.0, 2.0, 3.0) for b in (1.0, 2.0, 3.0) if a != b}
    upwards = np.mean([asked > trials[0] for trials, asked in other])
    assert 0.4 < upwards < 0.6


def test_a_task_with_one_trial_makes_no_pair() -> None:
    with pytest.raises(ValueError, match="no task has 1 trials and another one to ask about"):
        pairs("better", earned=(1.0,))


def test_every_pair_is_drawn_equally_often() -> None:
    generator = np.random.default_rng(0)
    trials, asked = choose_asked(generator, np.full(6000, 4), 1, "better")
    counts = np.unique(np.column_stack([trials, asked]), axis=0, return_counts=True)[1]
    assert len(counts) == 6 and counts.min() > 900


def ladder_of(family: str, wins: dict[float, int]) -> list[Episode]:
    """Five episodes of each rung, of which so many succeed."""
    return [
        hand_made(family, number, 10 - noise, noise, number < won) for noise, won in wins.items() for number in range(5)
    ]


def test_the_cap_drops_whole_grades_family_by_family() -> None:
    episodes = [*ladder_of("alpha", {0.0: 5, 1.0: 3, 2.0: 1}), *ladder_of("beta", {0.0: 4, 1.0: 2, 2.0: 0})]

    def rungs(capped: Capped) -> dict[str, set[float]]:
        kept = capped(episodes)
        assert len(kept) % 5 == 0 and kept == [e for e in episodes if e in kept]
        return {f: {grade_of(e).noise for e in kept if e.task.family == f} for f in ("alpha", "beta")}

    assert rungs(Capped(0.6)) == {"alpha": {1.0, 2.0}, "beta": {1.0, 2.0}}  # a cap that is reached is kept
    assert rungs(Capped(0.8)) == {"alpha": {1.0, 2.0}, "beta": {0.0, 1.0, 2.0}}
    assert rungs(Capped(0.8, best=True)) == {"alpha": {1.0}, "beta": {0.0}}
    with pytest.raises(ValueError, match="all grades of alpha succeed in more than 10% of their episodes"):
        Capped(0.1)(episodes)


def test_what_was_done_is_imitated_and_neither_expert_nor_goal_is_read() -> None:
    config = small(LADDER)
    operator = networks_of(LADDER, config)[OPERATOR]
    assert isinstance(operator, ContextNetwork)
    phase = LADDER.phases(config, "none")[1]
    batch = tiny_batch(phase, "none")
    learner = OperatorLearner(operator, 1.0)
    loss = learner.loss(batch).total
    unknown = replace(
        batch,
        expert_actions_BQA=torch.full_like(batch.expert_actions_BQA, torch.nan),
        goal_BG=torch.full_like(batch.goal_BG, torch.nan),
    )
    assert torch.equal(learner.loss(unknown).total, loss)
    assert learner.loss(replace(batch, actions_BQA=-batch.actions_BQA)).total != loss
    assert learner.loss(replace(batch, peak_BD=batch.peak_BD + 1)).total > loss


def first_actions(method: LadderMethod, contexts: list[Context]) -> np.ndarray:
    rows = len(contexts)
    observations = np.stack([context.trials[-1].observations[0] for context in contexts])
    unknown = np.full(rows, np.nan)
    return method.adapt(contexts, range(rows)).act(StepBatch(observations, np.arange(rows), 0, unknown, unknown))


def test_the_newest_trial_alone_is_read() -> None:
    config = small(LADDER)
    method = LadderMethod(config, FAMILY.spec, networks_of(LADDER, config), "me")
    contexts = some_contexts(False, 2)
    both = first_actions(method, contexts)
    np.testing.assert_array_equal(both, first_actions(method, [context.newest(1) for context in contexts]))
    turned = [replace(context, trials=context.trials[::-1]) for context in contexts]
    assert not np.allclose(both, first_actions(method, turned))
    np.testing.assert_array_equal(both, first_actions(method, some_contexts(True, 2)))


def test_the_three_differ_in_what_they_learn_from_alone() -> None:
    config = LadderConfig(cap=0.4)
    told = {spec.name: spec.phases(config, "none") for spec in SPECS}
    assert [phases[-1].needs.queries for phases in told.values()] == ["better", "other", "any"]
    assert [phases[-1].graded for phases in told.values()] == [Capped(0.4), Capped(0.4), Capped(0.4, best=True)]
    assert told["ladder"][0] == told["ladder_random_order"][0]  # attempt 0 is the same
    assert [[phase.part for phase in phases] for phases in told.values()] == [[START, OPERATOR]] * 2 + [[START]]


def test_optimal_behaviour_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"train\.batch\.trial_queries and \.no_demonstration must be 1, .* 0\.5 and 0"
    ):
        LadderConfig(train=TrainConfig())


SMALL_TRAIN = "{steps: 4, warmup_steps: 1, validation_batches: 1, batch: {contexts: 4, queries: 2}}"
TOY = (
    "method=ladder", "regime=none", "evaluation.methods=[ladder_random_order, ladder_best_rung]",
    "evaluation.controls=[]", "protocol.starts=redrawn",
)  # fmt: skip


def test_from_nothing_to_a_curve(tmp_path: Path) -> None:
    graded = "graded={tasks_per_family: 6, noise: [0.5, 3], wrong_goal: 0, random: 0, players: []}"
    sizes = f"frames: 4, start: {{width: 8, train: {SMALL_TRAIN}}}, train: {SMALL_TRAIN}, cap: 1.0"
    methods = [f"methods.{spec.name}={{{sizes}, network: {{width: 8, heads: 2, max_trials: 1}}}}" for spec in SPECS]
    Pipeline(load_config("toy", tiny(tmp_path, *TOY, graded, *methods, "evaluation.attempts=3"))).run()
    rows = read_results(tmp_path / "evaluation" / "episodes.csv")
    played = {(spec.name, k) for spec in SPECS for k in range(4 if spec.reads.trials else 1)}
    assert {(row.method, row.attempt) for row in rows} == played
    main, control = (
        {row.entry: row.total_reward for row in rows if row.method == name and row.attempt == 0}
        for name in ("ladder", "ladder_random_order")
    )
    assert main.keys() == control.keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_operator_climbs_by_reading_the_trial(tmp_path: Path) -> None:
    """The preset with fewer attempts: better than attempt 0, once and again, and than after another trial."""
    controls = ("evaluation.controls=[blind_retry, shuffled_trial]", "evaluation.methods=[]", "evaluation.attempts=2")
    overrides = [f"directory={tmp_path}", "executor=serial", "evaluation.keep_episodes=false", *controls]
    Pipeline(load_config("ladder", overrides)).run()
    rows = read_results(tmp_path / "evaluation" / "episodes.csv")

    def outcome(attempt: int, control: str = "") -> dict[Any, float]:
        return {row.entry: row.total_reward for row in rows if (row.attempt, row.control) == (attempt, control)}

    after = outcome(1)
    for before in (outcome(0), outcome(1, "blind_retry"), outcome(1, "shuffled_trial")):
        assert before.keys() == after.keys()
        p = permutation_test([before[entry] for entry in after], list(after.values()), alternative="greater")
        assert p < 0.01
