"""Meta-batches: what stands in a context, what is asked, and that nothing depends on when a batch is made."""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import PLANE, make_episode, make_task, make_trajectory, trajectories

from wtl.core.episode import Context, Episode, Trajectory
from wtl.data.augmentation import World
from wtl.data.meta_batches import Batch, BatchConfig, EpisodeTable, MetaBatches, frame_indices, segments_of

CONFIG = BatchConfig(contexts=6, queries=4, frames=5, world_shift=0.0, no_demonstration=0.0, masked_outcome=0.0)


def a_store(tasks: int = 4, trials: int = 2, twins: bool = False) -> tuple[list[Episode], list[Episode]]:
    """Demonstrations and trials of tasks of two families; every episode of its own seed and length."""
    demonstrations, tried = [], []
    for f, family in enumerate(("alpha", "beta")):
        for i in range(tasks):
            task = make_task(f"{family}/{i}", family)
            names = [task, make_task(f"{family}/{i}/other", family, goal_name=task.goal_name)] if twins else [task]
            for j, own in enumerate(names):
                demonstrations.append(make_episode(own, steps=4 + i, seed=100 * f + 10 * i + j))
            for k in range(trials):
                tried.append(make_episode(task, "trial", steps=7 - k, seed=1000 + 100 * f + 10 * i + k, attempt=k))
    return demonstrations, tried


def batches(config: BatchConfig = CONFIG, regime: Any = "family", twins: bool = False, **changes: Any) -> MetaBatches:
    demonstrations, tried = a_store(twins=twins)
    arguments: dict[str, Any] = {"layout": PLANE, "reward_scale": 2.0, "seed": 3, "trials_in_context": (1, 1)}
    return MetaBatches(config, demonstrations, tried, regime=regime, **arguments | changes)


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    parts = {**vars(batch), **(vars(batch.segments) if batch.segments else {})}
    return {name: value for name, value in parts.items() if isinstance(value, torch.Tensor)}


def assert_same_batch(a: Batch, b: Batch) -> None:
    assert tensors(a).keys() == tensors(b).keys()
    for name, value in tensors(a).items():
        assert torch.equal(value, tensors(b)[name]), name


def source_of(frames: torch.Tensor, episodes: list[Episode]) -> Episode:
    """The episode whose first observation a segment starts with."""
    return next(e for e in episodes if np.array_equal(e.trajectory.observations[0], frames[0].numpy()))


# Frames.


@given(st.lists(st.integers(2, 600), min_size=1, max_size=5), st.integers(2, 30))
def test_frames_include_the_first_and_the_last(lengths: list[int], frames: int) -> None:
    index = frame_indices(np.array(lengths), frames)
    assert index.shape == (len(lengths), frames)
    assert (index[:, 0] == 0).all() and (index[:, -1] == np.array(lengths) - 1).all()
    assert (np.diff(index, axis=1) >= 0).all()
    assert (np.ptp(np.diff(index, axis=1), axis=1) <= 1).all()  # evenly spaced


def slow_frames(t: Trajectory, frames: int, reward_scale: float) -> dict[str, np.ndarray]:
    """One trajectory, one frame after another, as the docstrings of `Segments` say it."""
    rows: dict[str, list] = {name: [] for name in ("observations", "actions", "rewards", "mean_rewards", "successes")}
    before = 0
    for f in range(frames):
        step = int(np.rint(np.linspace(0.0, 1.0, frames)[f] * len(t)))  # as one number: a tie must round alike
        rows["observations"].append(t.observations[step])
        rows["actions"].append(t.actions[step] if step < len(t) else np.zeros(t.actions.shape[1]))
        rows["rewards"].append(t.rewards[step - 1] / reward_scale if step else 0.0)
        since = t.rewards[before:step].astype(np.float64) / reward_scale
        rows["mean_rewards"].append(since.mean() if len(since) else rows["rewards"][-1])
        rows["successes"].append(float(t.successes[:step].any()))
        before = step
    return {name: np.array(values, np.float32) for name, values in rows.items()}


@settings(deadline=None, max_examples=25)
@given(st.lists(trajectories(), min_size=1, max_size=4), st.integers(2, 12), st.sampled_from([1.0, 10.0]))
def test_the_table_gives_the_frames_of_its_slow_twin(given: list[Trajectory], frames: int, scale: float) -> None:
    table = EpisodeTable(given, scale)
    order = np.arange(len(given))[::-1].reshape(1, -1)
    fast = table.frames(order, frames)
    for column, episode in enumerate(order[0]):
        slow = slow_frames(given[episode], frames, scale)
        for name, suffix in zip(slow, ("BSFO", "BSFA", "BSF", "BSF", "BSF"), strict=True):
            got = fast[f"{name}_{suffix}"][0, column]
            np.testing.assert_allclose(got, slow[name], atol=1e-6, err_msg=name)


def test_acting_sees_what_training_saw() -> None:
    """`segments_of` on a context equals the framing of a meta-batch that drew the same episodes."""
    demonstrations, tried = a_store(trials=1)
    batch = batches(trials_in_context=(1, 1))(0)
    assert batch.segments is not None
    contexts = []
    for row in batch.segments.observations_BSFO:
        shown = source_of(row[0], demonstrations).trajectory
        # The store here has one trial a task, so that a first observation names its episode.
        contexts.append(Context(shown, (source_of(row[1], a_store()[1]).trajectory,)))
    acted = segments_of(contexts, CONFIG.frames, reward_scale=2.0)
    assert acted.has_demonstration and batch.segments.has_demonstration
    for name in ("observations_BSFO", "actions_BSFA", "rewards_BSF", "successes_BSF", "masked_BS"):
        assert torch.equal(getattr(acted, name), getattr(batch.segments, name)), name
    torch.testing.assert_close(acted.mean_rewards_BSF, batch.segments.mean_rewards_BSF)


def test_acting_on_a_masked_trial_sees_what_training_saw() -> None:
    batch = batches(replace(CONFIG, masked_outcome=1.0))(0)
    assert batch.segments is not None
    shown, tried = a_store()
    contexts = [
        Context(source_of(row[0], shown).trajectory, (source_of(row[1], tried).trajectory.with_outcome_masked(),))
        for row in batch.segments.observations_BSFO
    ]
    acted = segments_of(contexts, CONFIG.frames, reward_scale=2.0)
    for name in ("rewards_BSF", "successes_BSF", "masked_BS", "mean_rewards_BSF"):
        torch.testing.assert_close(getattr(acted, name), getattr(batch.segments, name))
    assert acted.masked_BS.tolist() == [[0.0, 1.0]] * 6
    assert not acted.rewards_BSF[:, 1].any() and acted.rewards_BSF[:, 0].any()  # the demonstration keeps its own


# Which batch.


def test_the_same_step_gives_the_same_batch_whatever_came_before() -> None:
    first, second = batches(), batches()
    for step in (0, 1, 2):
        first(step)
    assert_same_batch(first(7), second(7))
    assert not torch.equal(second(7).observations_BQO, second(8).observations_BQO)
    assert not torch.equal(second(7).observations_BQO, batches(seed=4)(7).observations_BQO)


@pytest.mark.parametrize(
    "regime, most_trials, expected",
    [
        ("family", (1, 2), "127cf9e3701e9dba"),
        ("goal", (0, 2), "7af0fab6cf47e3f9"),
        ("none", (2, 3), "80ea352c41d8c763"),
        ("family", (0, 0), "e55c9ba2f72c0f7d"),
    ],
)
def test_batches_are_those_that_were_drawn_before(regime: Any, most_trials: tuple[int, int], expected: str) -> None:
    """Digests of 20 batches: another way to draw must draw the same, or say that it does not."""
    demonstrations, tried = a_store(trials=3, twins=regime == "goal")
    made = MetaBatches(
        BatchConfig(contexts=6, queries=4, frames=5), demonstrations, tried, regime=regime, layout=PLANE,
        reward_scale=2.0, seed=3, trials_in_context=most_trials,
    )  # fmt: skip
    sums = hashlib.sha256()
    for step in range(20):
        for _, value in sorted(tensors(made(step)).items()):
            sums.update(value.numpy().tobytes())
    assert sums.hexdigest()[:16] == expected


def test_batches_made_in_two_threads_at_once_are_the_same() -> None:
    """Training makes batches in a thread while it validates; learn2learn draws from a generator that all share."""
    here, there = batches(), batches(seed=8)
    steps = range(60)
    expected = [here(step) for step in steps]
    found: list[Batch] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        thread = threading.Thread(target=lambda: found.extend(here(step) for step in steps))
        thread.start()
        step = 0
        while thread.is_alive():
            there(step := step + 1)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    for a, b in zip(expected, found, strict=True):
        assert_same_batch(a, b)


def test_every_family_has_the_same_weight() -> None:
    demonstrations, tried = a_store()
    demonstrations = [e for e in demonstrations if e.task.name in ("alpha/0", "alpha/1") or e.task.family == "beta"]
    tried = [e for e in tried if e.task.name in ("alpha/0", "alpha/1") or e.task.family == "beta"]
    made = MetaBatches(
        CONFIG, demonstrations, tried, layout=PLANE, reward_scale=1.0, regime="family", seed=0, trials_in_context=(1, 1)
    )
    segments = made(0).segments
    assert segments is not None
    families = [source_of(row[1], tried).task.family for row in segments.observations_BSFO]
    assert sorted(families) == ["alpha"] * 3 + ["beta"] * 3


# What stands in a context.


@pytest.mark.parametrize("regime", ["family", "goal"])
def test_a_demonstration_is_never_of_the_task_itself(regime: str) -> None:
    demonstrations, tried = a_store(twins=True)
    made = batches(regime=regime, twins=True)
    for step in range(6):
        segments = made(step).segments
        assert segments is not None
        for shown, trial in segments.observations_BSFO:
            one, other = source_of(shown, demonstrations).task, source_of(trial, tried).task
            assert one.name != other.name and one.family == other.family
            if regime == "goal":
                assert one.goal_name == other.goal_name


def test_without_a_demonstration_of_another_task_there_is_no_batch() -> None:
    with pytest.raises(ValueError, match=r"task alpha/0 has no demonstration of another task in regime `goal`"):
        batches(regime="goal")


def test_without_enough_trials_there_is_no_batch() -> None:
    with pytest.raises(ValueError, match="no task has 3 trials; collect more trials or lower"):
        batches(trials_in_context=(1, 3))


def test_trials_are_of_the_task_that_is_asked_and_in_the_order_of_their_attempts() -> None:
    demonstrations, tried = a_store()
    made = batches(trials_in_context=(2, 2))
    batch = made(0)
    assert batch.segments is not None
    for shown, *trials in batch.segments.observations_BSFO:
        found = [source_of(frames, tried) for frames in trials]
        assert [e.attempt for e in found] == [0, 1]
        assert found[0].task.name == found[1].task.name
        assert source_of(shown, demonstrations).task.name != found[0].task.name


def test_queries_are_states_of_the_task_with_the_label_of_its_expert() -> None:
    demonstrations, tried = a_store()
    batch = batches()(0)
    assert batch.segments is not None
    kinds = set()
    for row, (_, trial) in enumerate(batch.segments.observations_BSFO):
        task = source_of(trial, tried).task
        own = [e for e in (*demonstrations, *tried) if e.task.name == task.name]
        np.testing.assert_array_equal(batch.goal_BG[row], own[0].goal)
        for query, label in zip(batch.observations_BQO[row], batch.labels_BQA[row], strict=True):
            places = [(e, t) for e in own for t in range(len(e.trajectory))
                      if np.array_equal(e.trajectory.observations[t], query.numpy())]  # fmt: skip
            assert len(places) == 1
            episode, step = places[0]
            kinds.add(episode.role)
            np.testing.assert_array_equal(label, episode.expert_actions[step])
    assert kinds == {"demonstration", "trial"}


@pytest.mark.parametrize("share, role", [(0.0, "demonstration"), (1.0, "trial")])
def test_the_share_of_trial_queries(share: float, role: str) -> None:
    demonstrations, tried = a_store()
    queries = batches(replace(CONFIG, trial_queries=share))(0).observations_BQO.reshape(-1, PLANE.size).numpy()
    seen = {e.role for e in (*demonstrations, *tried) for q in queries if (e.trajectory.observations == q).all(1).any()}
    assert seen == {role}


def test_k_is_drawn_anew_for_every_batch() -> None:
    made = batches(trials_in_context=(1, 2))
    counts = {segments.rewards_BSF.shape[1] - 1 for step in range(12) if (segments := made(step).segments)}
    assert counts == {1, 2}


def test_no_trials_no_demonstrations() -> None:
    trial_policy = batches(trials_in_context=(0, 0), config=replace(CONFIG, no_demonstration=1.0))(0).segments
    assert trial_policy is not None and trial_policy.has_demonstration  # never an empty context
    left_out = batches(replace(CONFIG, no_demonstration=1.0))(0).segments
    assert left_out is not None and not left_out.has_demonstration and left_out.rewards_BSF.shape[1] == 1
    assert batches(regime="none", trials_in_context=(0, 0))(0).segments is None
    alone = batches(regime="none")(0).segments
    assert alone is not None and not alone.has_demonstration


def test_some_contexts_are_masked_and_their_demonstrations_are_not() -> None:
    made = batches(replace(CONFIG, contexts=40, masked_outcome=0.5, world_shift=0.0))
    segments = made(0).segments
    assert segments is not None
    masked = segments.masked_BS[:, 1].bool()
    assert 5 < masked.sum() < 35 and not segments.masked_BS[:, 0].any()
    for name in ("rewards_BSF", "mean_rewards_BSF", "successes_BSF"):
        values = getattr(segments, name)
        assert not values[masked, 1].any() and values[~masked, 1].any(-1).all() and values[:, 0].any(-1).all()


# The world, seen otherwise.


def test_the_world_moves_as_a_whole() -> None:
    still, moved = batches()(5), batches(replace(CONFIG, world_shift=0.5))(5)
    assert still.segments is not None and moved.segments is not None
    shift = moved.goal_BG - still.goal_BG
    assert shift.abs().max() <= 0.5 and len(shift.unique(dim=0)) == len(shift)  # one for each context
    for point in PLANE.points:
        for a, b in (
            (still.observations_BQO, moved.observations_BQO),
            (still.segments.observations_BSFO.flatten(1, 2), moved.segments.observations_BSFO.flatten(1, 2)),
        ):
            torch.testing.assert_close(b[..., point : point + 2], a[..., point : point + 2] + shift[:, None])
            assert torch.equal(b[..., PLANE.scalars[0]], a[..., PLANE.scalars[0]])
    assert torch.equal(still.labels_BQA, moved.labels_BQA)


def test_absent_places_stay_absent() -> None:
    seen = np.ones((3, PLANE.size), np.float32)
    seen[1, 2:4] = 0.0  # absent
    seen[2, 2] = 0.0  # present, on an axis
    moved = World(np.tile([0.25, -0.5], (3, 1))).observations(seen, PLANE)
    np.testing.assert_array_equal(moved[0], [1.25, 0.5, 1.25, 0.5, 1.0, 1.25, 0.5])
    np.testing.assert_array_equal(moved[1], [1.25, 0.5, 0.0, 0.0, 1.0, 1.25, 0.5])
    np.testing.assert_array_equal(moved[2, 2:4], [0.25, 0.5])
    np.testing.assert_array_equal(seen[0], np.ones(PLANE.size))  # a copy


# What acting refuses.


def test_contexts_of_one_batch_have_the_same_parts() -> None:
    t = make_trajectory(3)
    with pytest.raises(ValueError, match="all contexts of a batch must have the same parts"):
        segments_of([Context(t), Context(t, (t,))], 4, 1.0)
    with pytest.raises(ValueError, match="holds nothing to read; use a method without context"):
        segments_of([Context()], 4, 1.0)


def test_features_are_fitted_on_what_batches_show() -> None:
    made = batches()
    seen = made.some_observations()
    assert seen.shape == (4 * (6 * 4 + 6 * 2 * 5), PLANE.size)


def test_micro_batches_of_a_step_have_the_same_parts_and_other_draws() -> None:
    made = batches(replace(CONFIG, no_demonstration=0.5), trials_in_context=(1, 2))
    kinds = set()
    for step in range(30):
        parts = [made(step, part) for part in range(3)]
        assert_same_batch(parts[0], made(step))
        segments = [part.segments for part in parts]
        [kind] = {(s.has_demonstration, s.masked_BS.shape) for s in segments if s}
        kinds.add(kind)
        assert not torch.equal(parts[1].labels_BQA, parts[0].labels_BQA)
        assert not torch.equal(parts[1].labels_BQA, parts[2].labels_BQA)
    assert len(kinds) == 4
