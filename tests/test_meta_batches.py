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
from torch import Tensor

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import FamilySpec
from wtl.data.augmentation import Translation
from wtl.data.meta_batches import Batch, BatchConfig, MetaBatches, Needs
from wtl.data.segments import ContextBatch, EpisodeTable, Segments, frame_indices, make_context_batch

CONFIG = BatchConfig(contexts=6, queries=4, translation=0.0, no_demonstration=0.0, masked_outcome=0.0)
SPEC = FamilySpec("alpha", PLANE, 2, 10, 2, True, 2.0)
FRAMES = 5


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


def batches(
    config: BatchConfig = CONFIG,
    regime: Any = "family",
    twins: bool = False,
    *,
    trials: tuple[int, int] = (1, 1),
    seed: int = 3,
    **needs: Any,
) -> MetaBatches:
    demonstrations, tried = a_store(twins=twins)
    needed = Needs(trials=trials, frames=FRAMES, **needs)
    return MetaBatches(config, needed, [*demonstrations, *tried], SPEC, regime=regime, seed=seed)


def of_all(batch: Batch) -> Segments:
    """The demonstrations, then the trials."""
    assert batch.context is not None
    return batch.context.all


def both(batch: Batch) -> tuple[Segments, Segments]:
    """The demonstrations, and the trials."""
    assert batch.context is not None and batch.context.demonstrations and batch.context.trials
    return batch.context.demonstrations, batch.context.trials


def tensors(batch: Batch) -> dict[str, Tensor]:
    parts = {**vars(batch), **(vars(batch.windows) if batch.windows else {})}
    for kind in ("demonstrations", "trials"):
        segments = getattr(batch.context, kind) if batch.context else None
        parts |= {f"{kind}.{name}": value for name, value in (vars(segments) if segments else {}).items()}
    return {name: value for name, value in parts.items() if isinstance(value, Tensor)}


def assert_same_batch(a: Batch, b: Batch) -> None:
    assert tensors(a).keys() == tensors(b).keys()
    for name, value in tensors(a).items():
        torch.testing.assert_close(value, tensors(b)[name], rtol=0, atol=0, equal_nan=True, msg=name)


def source_of(frames: Tensor, episodes: list[Episode]) -> Episode:
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
    """`make_context_batch` equals the framing of a meta-batch that drew the same episodes."""
    demonstrations, tried = a_store()
    batch = batches()(0)
    contexts = []
    for shown, (trial, *_) in zip(*(segments.observations_BSFO for segments in both(batch)), strict=True):
        contexts.append(
            Context((source_of(shown[0], demonstrations).trajectory,), (source_of(trial, tried).trajectory,))
        )
    acted = make_context_batch(contexts, FRAMES, reward_scale=2.0)
    for got, trained in zip((acted.demonstrations, acted.trials), both(batch), strict=True):
        for name in ("observations_BSFO", "actions_BSFA", "rewards_BSF", "successes_BSF", "masked_BS"):
            assert torch.equal(getattr(got, name), getattr(trained, name)), name
        assert got is not None
        torch.testing.assert_close(got.mean_rewards_BSF, trained.mean_rewards_BSF)


def test_acting_on_a_masked_trial_sees_what_training_saw() -> None:
    batch = batches(replace(CONFIG, masked_outcome=1.0))(0)
    shown, tried = a_store()
    contexts = [
        Context((source_of(row[0], shown).trajectory,), (source_of(row[1], tried).trajectory.with_outcome_masked(),))
        for row in of_all(batch).observations_BSFO
    ]
    acted = make_context_batch(contexts, FRAMES, reward_scale=2.0).all
    for name in ("rewards_BSF", "successes_BSF", "masked_BS", "mean_rewards_BSF"):
        torch.testing.assert_close(getattr(acted, name), getattr(of_all(batch), name))
    assert acted.masked_BS.tolist() == [[0.0, 1.0]] * 6
    assert not acted.rewards_BSF[:, 1].any() and acted.rewards_BSF[:, 0].any()  # the demonstration keeps its own


def test_segments_are_named_and_any_number_of_demonstrations_is_read() -> None:
    one, two, three = (make_trajectory(steps, steps) for steps in (3, 4, 5))
    made = make_context_batch([Context((one, two), (three,)), Context((three, one), (two,))], 4, 1.0)
    assert made.demonstrations and made.trials
    assert made.demonstrations.observations_BSFO.shape[:2] == (2, 2) and made.trials.masked_BS.shape == (2, 1)
    np.testing.assert_array_equal(made.demonstrations.observations_BSFO[1, 0, 0], three.observations[0])
    np.testing.assert_array_equal(made.all.observations_BSFO[0, 2, -1], three.observations[-1])
    turned = made.rows(torch.tensor([1]))
    assert turned.trials and torch.equal(turned.trials.rewards_BSF, made.trials.rewards_BSF[1:])
    assert make_context_batch([Context((one,))], 4, 1.0).trials is None


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
    needs = Needs(trials=most_trials, frames=FRAMES)
    config = BatchConfig(contexts=6, queries=4)
    made = MetaBatches(config, needs, [*demonstrations, *tried], SPEC, regime=regime, seed=3)
    sums = hashlib.sha256()
    for step in range(20):
        for _, value in sorted(as_before(made(step)).items()):
            sums.update(value.numpy().tobytes())
    assert sums.hexdigest()[:16] == expected


def as_before(batch: Batch) -> dict[str, Tensor]:
    """The tensors by the names they had when the digests were made: segments behind one another."""
    parts = {
        "observations_BQO": batch.observations_BQO,
        "labels_BQA": batch.expert_actions_BQA,
        "start_BO": batch.start_BO,
        "goal_BG": batch.goal_BG,
        "shown_goal_BG": batch.demonstrated_goal_BG,
    }
    return parts | (vars(of_all(batch)) if batch.context else {})


def test_the_order_in_which_episodes_come_between_the_roles_does_not_matter() -> None:
    demonstrations, tried = a_store()
    needs = Needs(trials=(1, 2), frames=FRAMES)
    one, other = (
        MetaBatches(CONFIG, needs, episodes, SPEC, regime="family", seed=3)
        for episodes in ([*demonstrations, *tried], [tried[0], *demonstrations, *tried[1:]])
    )
    # Tasks are numbered by their first episode, demonstrations first, so both number them alike.
    assert_same_batch(one(0), other(0))


def test_batches_made_in_two_threads_at_once_are_the_same() -> None:
    """Training makes batches in a thread while it validates; no generator may be shared."""
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
    needs = Needs(trials=(1, 1), frames=FRAMES)
    made = MetaBatches(CONFIG, needs, [*demonstrations, *tried], SPEC, regime="family", seed=0)
    families = [source_of(row[0], tried).task.family for row in both(made(0))[1].observations_BSFO]
    assert sorted(families) == ["alpha"] * 3 + ["beta"] * 3


# What stands in a context.


@pytest.mark.parametrize("regime", ["family", "goal"])
def test_a_demonstration_is_never_of_the_task_itself(regime: str) -> None:
    demonstrations, tried = a_store(twins=True)
    made = batches(regime=regime, twins=True)
    for step in range(6):
        for shown, trial in of_all(made(step)).observations_BSFO:
            one, other = source_of(shown, demonstrations).task, source_of(trial, tried).task
            assert one.name != other.name and one.family == other.family
            if regime == "goal":
                assert one.goal_name == other.goal_name


def test_without_a_demonstration_of_another_task_there_is_no_batch() -> None:
    with pytest.raises(ValueError, match=r"no demonstration of another task for alpha/0 in regime `goal`"):
        batches(regime="goal")


def test_the_same_task_under_another_name_is_no_demonstration_of_another_task() -> None:
    """A store of one's own may hold a task twice; its replay would solve the task."""
    demonstrations, tried = a_store()
    copies = [make_episode(replace(e.task, name=f"{e.task.name}/again"), seed=500 + i)
              for i, e in enumerate(demonstrations)]  # fmt: skip
    needs = Needs(trials=(1, 1), frames=FRAMES)
    made = MetaBatches(CONFIG, needs, [*demonstrations, *copies, *tried], SPEC, regime="family", seed=0)
    names = set()
    for step in range(20):
        for shown, trial in of_all(made(step)).observations_BSFO:
            one, other = source_of(shown, [*demonstrations, *copies]).task, source_of(trial, tried).task
            assert one.parameters != other.parameters and one.family == other.family
            names.add(one.name)
    assert names == {e.task.name for e in (*demonstrations, *copies)}  # the copies are shown, for other tasks


def test_a_method_that_reads_no_context_needs_no_other_demonstration() -> None:
    only = make_episode(make_task("alpha/0", "alpha"))
    made = MetaBatches(CONFIG, Needs(context=False), [only], SPEC, regime="family", seed=0)
    assert made(0).context is None and not made(0).demonstrated_goal_BG.any()
    with pytest.raises(ValueError, match="no demonstration of another task for alpha/0 in regime `family`"):
        MetaBatches(CONFIG, Needs(), [only], SPEC, regime="family", seed=0)


def test_without_enough_trials_there_is_no_batch() -> None:
    with pytest.raises(ValueError, match="no task has 3 trials; collect more trials or lower"):
        batches(trials=(1, 3))


def test_trials_are_of_the_task_that_is_asked_and_in_the_order_of_their_attempts() -> None:
    demonstrations, tried = a_store()
    for shown, *trials in of_all(batches(trials=(2, 2))(0)).observations_BSFO:
        found = [source_of(frames, tried) for frames in trials]
        assert [e.attempt for e in found] == [0, 1]
        assert found[0].task.name == found[1].task.name
        assert source_of(shown, demonstrations).task.name != found[0].task.name


def test_the_goal_of_the_demonstration_is_that_of_its_task() -> None:
    demonstrations, _ = a_store()
    batch = batches()(0)
    for row, (shown, _) in enumerate(of_all(batch).observations_BSFO):
        np.testing.assert_array_equal(batch.demonstrated_goal_BG[row], source_of(shown, demonstrations).goal)


def test_queries_are_states_of_the_task_with_the_label_of_its_expert() -> None:
    demonstrations, tried = a_store()
    batch = batches()(0)
    kinds = set()
    for row, (_, trial) in enumerate(of_all(batch).observations_BSFO):
        task = source_of(trial, tried).task
        own = [e for e in (*demonstrations, *tried) if e.task.name == task.name]
        np.testing.assert_array_equal(batch.goal_BG[row], own[0].goal)
        for q, query in enumerate(batch.observations_BQO[row]):
            found = [(e, t) for e in own for t in range(len(e.trajectory))
                     if np.array_equal(e.trajectory.observations[t], query.numpy())]  # fmt: skip
            assert len(found) == 1
            episode, step = found[0]
            kinds.add(episode.role)
            np.testing.assert_array_equal(batch.expert_actions_BQA[row, q], episode.expert_actions[step])
            np.testing.assert_array_equal(batch.actions_BQA[row, q], episode.trajectory.actions[step])
            to_go = episode.trajectory.rewards[step:].sum(dtype=np.float64) / 2.0
            assert batch.returns_to_go_BQ[row, q].item() == pytest.approx(to_go, rel=1e-5)
            if q == 0:
                np.testing.assert_array_equal(batch.start_BO[row], episode.trajectory.observations[0])
    assert kinds == {"demonstration", "trial"}


@pytest.mark.parametrize("share, role", [(0.0, "demonstration"), (1.0, "trial")])
def test_the_share_of_trial_queries(share: float, role: str) -> None:
    demonstrations, tried = a_store()
    queries = batches(replace(CONFIG, trial_queries=share))(0).observations_BQO.reshape(-1, PLANE.size).numpy()
    seen = {e.role for e in (*demonstrations, *tried) for q in queries if (e.trajectory.observations == q).all(1).any()}
    assert seen == {role}


def test_k_is_drawn_anew_for_every_batch() -> None:
    made = batches(trials=(1, 2))
    assert {both(made(step))[1].rewards_BSF.shape[1] for step in range(12)} == {1, 2}


def kinds_of(context: ContextBatch | None) -> tuple[bool, bool]:
    """Whether there are demonstrations, and whether there are trials."""
    return (False, False) if context is None else (context.demonstrations is not None, context.trials is not None)


def test_no_trials_no_demonstrations() -> None:
    without = replace(CONFIG, no_demonstration=1.0)
    assert kinds_of(batches(without, trials=(0, 0))(0).context) == (True, False)  # never an empty context
    left_out = batches(without)(0)
    assert kinds_of(left_out.context) == (False, True) and not left_out.demonstrated_goal_BG.any()
    assert kinds_of(batches(regime="none", trials=(0, 0))(0).context) == (False, False)
    assert kinds_of(batches(regime="none")(0).context) == (False, True)
    assert kinds_of(batches()(0).context) == (True, True)


def test_some_contexts_are_masked_and_their_demonstrations_are_not() -> None:
    demonstrations, trials = both(batches(replace(CONFIG, contexts=40, masked_outcome=0.5))(0))
    masked = trials.masked_BS[:, 0].bool()
    assert 5 < masked.sum() < 35 and not demonstrations.masked_BS.any()
    for name in ("rewards_BSF", "mean_rewards_BSF", "successes_BSF"):
        values = getattr(trials, name)[:, 0]
        assert not values[masked].any() and values[~masked].any(-1).all()
        assert getattr(demonstrations, name)[:, 0].any(-1).all()


def test_what_else_is_known_of_a_task_comes_from_the_sources_in_turn() -> None:
    def told(task: Any, context: Context) -> Context:
        return replace(context, instruction=f"solve {task.name}")

    def louder(task: Any, context: Context) -> Context:
        return replace(context, instruction=f"{context.instruction}!", desired_return=3.0)

    _, tried = a_store()
    batch = batches(sources=(told, louder))(0)
    for known, (_, trial) in zip(batch.known, of_all(batch).observations_BSFO, strict=True):
        assert (known.instruction, known.desired_return) == (f"solve {source_of(trial, tried).task.name}!", 3.0)
        assert not known.demonstrations and not known.trials


# Windows.


def hand_made(number: int, steps: int, role: Any) -> Episode:
    """Step t is told by its observation 10 n + t, its action and its reward (2, 4, 6, ... in steps of the scale 2)."""
    t = np.arange(steps + 1, dtype=np.float32)
    observations = np.ones((steps + 1, PLANE.size)) * (10 * number + t)[:, None] + 1
    actions = np.stack([t[:-1] / 10, np.full(steps, number / 10)], axis=1)
    trajectory = Trajectory(observations, actions, 2 * (t[:-1] + 1), np.zeros(steps))
    task = make_task(f"alpha/{number}", "alpha")
    return Episode(trajectory, task, role, 0, 0, "", np.zeros(2), np.zeros((steps, 2)))


@pytest.mark.parametrize("width", [1, 3, 6])
def test_windows_are_the_steps_that_end_at_the_query(width: int) -> None:
    """Rewards are 1, 2, 3, 4 in units of the scale, worked out by hand for every step of two short episodes."""
    episodes = [hand_made(0, 4, "demonstration"), hand_made(1, 2, "demonstration")]
    config = replace(CONFIG, contexts=2, queries=40, trial_queries=0.0)
    needs = Needs(frames=2, window_steps=width)
    batch = MetaBatches(config, needs, episodes, SPEC, regime="family", seed=0)(0)
    windows = batch.windows
    assert windows is not None
    assert windows.observations_BQWO.shape == (2, 40, width, PLANE.size)
    led_here = {0: [0, 1, 2, 3, 4], 1: [0, 1, 2]}
    to_go = {0: [10, 9, 7, 4, 0], 1: [3, 2, 0]}
    met = set()
    for row in range(2):
        for q in range(40):
            number, last = divmod(int(batch.observations_BQO[row, q, 0].item()) - 1, 10)
            met.add((number, last))
            steps = list(range(last - width + 1, last + 1))
            assert windows.valid_BQW[row, q].tolist() == [step >= 0 for step in steps]
            inside = [w for w, step in enumerate(steps) if step >= 0]
            own = [steps[w] for w in inside]
            assert windows.steps_BQW[row, q, inside].tolist() == own
            assert windows.observations_BQWO[row, q, inside, 0].tolist() == [10 * number + step + 1 for step in own]
            np.testing.assert_array_equal(
                windows.actions_BQWA[row, q, inside], np.float32([[step / 10, number / 10] for step in own])
            )
            assert windows.rewards_BQW[row, q, inside].tolist() == [led_here[number][step] for step in own]
            assert windows.returns_to_go_BQW[row, q, inside].tolist() == [to_go[number][step] for step in own]
            assert batch.returns_to_go_BQ[row, q] == to_go[number][last]
    assert met == {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)}  # the last observation has no action


def test_windows_are_shifted_like_their_queries_and_change_no_draw() -> None:
    moved = replace(CONFIG, translation=0.5)
    plain, with_windows = batches(moved)(3), batches(moved, window_steps=3)(3)
    windows = with_windows.windows
    assert plain.windows is None and windows is not None
    torch.testing.assert_close(windows.observations_BQWO[:, :, -1], with_windows.observations_BQO)
    assert torch.equal(windows.actions_BQWA[:, :, -1], with_windows.actions_BQA)
    for name, value in tensors(plain).items():
        torch.testing.assert_close(value, tensors(with_windows)[name], rtol=0, atol=0, equal_nan=True, msg=name)


# Everything, shifted.


def test_context_and_queries_are_shifted_alike() -> None:
    still, moved = batches()(5), batches(replace(CONFIG, translation=0.5))(5)
    shift = moved.goal_BG - still.goal_BG
    assert shift.abs().max() <= 0.5 and len(shift.unique(dim=0)) == len(shift)  # one for each context
    torch.testing.assert_close(moved.demonstrated_goal_BG, still.demonstrated_goal_BG + shift)
    for point in PLANE.points:
        for a, b in (
            (still.start_BO[:, None], moved.start_BO[:, None]),
            (still.observations_BQO, moved.observations_BQO),
            (of_all(still).observations_BSFO.flatten(1, 2), of_all(moved).observations_BSFO.flatten(1, 2)),
        ):
            torch.testing.assert_close(b[..., point : point + 2], a[..., point : point + 2] + shift[:, None])
            assert torch.equal(b[..., PLANE.scalars[0]], a[..., PLANE.scalars[0]])
    assert torch.equal(still.expert_actions_BQA, moved.expert_actions_BQA)
    assert torch.equal(still.actions_BQA, moved.actions_BQA)


def test_absent_objects_stay_absent() -> None:
    seen = np.ones((3, PLANE.size), np.float32)
    seen[1, 2:4] = 0.0  # absent
    seen[2, 2] = 0.0  # present, on an axis
    moved = Translation(np.tile([0.25, -0.5], (3, 1))).observations(seen, PLANE)
    np.testing.assert_array_equal(moved[0], [1.25, 0.5, 1.25, 0.5, 1.0, 1.25, 0.5])
    np.testing.assert_array_equal(moved[1], [1.25, 0.5, 0.0, 0.0, 1.0, 1.25, 0.5])
    np.testing.assert_array_equal(moved[2, 2:4], [0.25, 0.5])
    np.testing.assert_array_equal(seen[0], np.ones(PLANE.size))  # a copy


# What acting refuses.


def test_contexts_of_one_batch_have_the_same_parts() -> None:
    t = make_trajectory(3)
    sentence = r"as many demonstrations and trials, got \[\(1, 0\), \(1, 1\)\]; split the batch"
    with pytest.raises(ValueError, match=sentence):
        make_context_batch([Context((t,)), Context((t,), (t,))], 4, 1.0)
    with pytest.raises(ValueError, match="expected contexts with demonstrations or trials, got contexts with neither"):
        _ = make_context_batch([Context()], 4, 1.0).all


def test_features_are_fitted_on_what_batches_show() -> None:
    made = batches()
    seen = made.some_observations()
    assert seen.shape == (4 * (6 * 4 + 6 * 2 * 5), PLANE.size)


def test_micro_batches_of_a_step_have_the_same_parts_and_other_draws() -> None:
    made = batches(replace(CONFIG, no_demonstration=0.5), trials=(1, 2))
    kinds = set()
    for step in range(30):
        parts = [made(step, part) for part in range(3)]
        assert_same_batch(parts[0], made(step))
        [kind] = {(kinds_of(part.context), of_all(part).masked_BS.shape) for part in parts}
        kinds.add(kind)
        assert not torch.equal(parts[1].expert_actions_BQA, parts[0].expert_actions_BQA)
        assert not torch.equal(parts[1].expert_actions_BQA, parts[2].expert_actions_BQA)
    assert len(kinds) == 4


def test_a_batch_moves_to_a_device_as_a_whole() -> None:
    batch = batches(window_steps=2)(0)
    moved = batch.to(torch.device("meta"))
    assert tensors(moved).keys() == tensors(batch).keys()
    assert {value.device.type for value in tensors(moved).values()} == {"meta"}
    assert (moved.seed, moved.known) == (batch.seed, batch.known)
