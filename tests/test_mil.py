"""Meta-imitation learning on the probe, in regime `goal`: the demonstration shows the controls and the place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import toy
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import Split
from wtl.data.meta_batches import Batch, BatchConfig, MetaBatches, segments_of
from wtl.methods.learner import read_policy
from wtl.methods.mil import Mil, MilConfig
from wtl.play.rollout import Demonstrator, Ending, Noise, roll_out

SMALL = MilConfig(width=32, components=3, frames=12)
SPEC = toy.ToyFamily("probe-red").spec


def watch(split: Split, count: int) -> list[Episode]:
    """Demonstrations of `count` tasks of each family and of the same goals from another start."""
    episodes = []
    for name in toy.COLOURS:
        family = toy.ToyFamily(name)
        tasks = family.sample_tasks(count, 0, split)
        tasks += tuple(family.with_other_start(task, i) for i, task in enumerate(tasks))
        environments = [family.make_environment() for _ in tasks]
        expert = Demonstrator(Noise(0.3, spare_last=False))
        ending = Ending(SPEC.horizon_steps)
        seeds = range(len(tasks))
        episodes += roll_out(family, environments, tasks, seeds, expert, ending=ending, role="demonstration")
    return episodes


def batches_of(episodes: list[Episode]) -> MetaBatches:
    config = BatchConfig(contexts=4, queries=16, frames=12)
    return MetaBatches(config, episodes, [], layout=SPEC.layout, reward_scale=1.0, regime="goal", seed=0)


@pytest.fixture(scope="module")
def seen() -> list[Episode]:
    return watch("train", 40)


@pytest.fixture(scope="module")
def batch(seen: list[Episode]) -> Batch:
    return batches_of(seen)(0)


def untrained(config: MilConfig = SMALL) -> Mil:
    torch.manual_seed(0)
    return Mil(config, SPEC)


def trained(config: MilConfig, episodes: list[Episode], steps: int) -> Mil:
    policy, batches = untrained(config), batches_of(episodes)
    policy.fit_features(torch.from_numpy(np.concatenate([e.trajectory.observations for e in episodes])))
    optimiser = torch.optim.Adam(policy.network.parameters(), lr=5e-3)
    for step in range(steps):
        optimiser.zero_grad()
        policy.loss(batches(step)).total.backward()
        torch.nn.utils.clip_grad_norm_(policy.network.parameters(), 1.0)
        optimiser.step()
    return policy


def test_adaptation_beats_no_adaptation_on_held_out_tasks(seen: list[Episode]) -> None:
    held_out = batches_of(watch("test", 10))
    losses = {}
    for inner_steps in (0, 1):
        policy = trained(replace(SMALL, inner_steps=inner_steps), seen, steps=60)
        losses[inner_steps] = np.array([policy.loss(held_out(step)).total.item() for step in range(12)])
    gain = losses[0] - losses[1]
    assert gain.mean() > 0.2
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(len(gain))


def test_two_inner_steps_are_gradient_descent_on_the_squared_error(seen: list[Episode]) -> None:
    """The slow twin: torch.func instead of learn2learn, one context at a time, the whole network."""
    policy = untrained(replace(SMALL, inner_steps=2))
    contexts = [Context(e.trajectory) for e in seen[:3]]
    segments = segments_of(contexts, SMALL.frames, 1.0)
    queries = torch.from_numpy(np.stack([e.trajectory.observations[:5] for e in seen[3:6]]))
    together = policy._answer(policy._adapt(segments, True), queries)
    for row in range(3):
        observations, actions = segments.observations_BSFO[row, 0, :-1], segments.actions_BSFA[row, 0, :-1]

        def error(weights: dict[str, torch.Tensor], seen: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            mixture = torch.func.functional_call(policy.network, weights, (seen,))
            mean = (mixture.logits_M.softmax(-1)[..., None] * mixture.means_MA).sum(-2)
            return (mean - wanted).square().sum(-1).mean()

        weights = dict(policy.network.named_parameters())
        for _ in range(2):
            slopes = torch.func.grad(error)(weights, observations, actions)
            weights = {name: weight - SMALL.inner_lr * slopes[name] for name, weight in weights.items()}
        expected = torch.func.functional_call(policy.network, weights, (queries[row],))
        torch.testing.assert_close(together.means_MA[row], expected.means_MA, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.logits_M[row], expected.logits_M, atol=1e-5, rtol=1e-5)


def test_rows_act_by_their_own_weights(seen: list[Episode]) -> None:
    policy = untrained()
    contexts = [Context(e.trajectory) for e in seen[::50]]
    seeds = list(range(len(contexts)))
    now = np.stack([e.trajectory.observations[0] for e in seen[::50]])
    together = policy.actor(contexts, seeds)
    all_rows = together.act(now, np.arange(len(contexts)))
    alone = [
        policy.actor([c], [s]).act(now[[i]], np.array([0]))[0]
        for i, (c, s) in enumerate(zip(contexts, seeds, strict=True))
    ]
    np.testing.assert_allclose(all_rows, alone, atol=1e-5)
    np.testing.assert_allclose(together.act(now[[3, 1]], np.array([3, 1])), all_rows[[3, 1]], atol=1e-5)
    assert np.abs(all_rows[0] - policy.actor(contexts[1:2], [0]).act(now[:1], np.array([0]))[0]).max() > 1e-3


def test_trials_are_ignored(seen: list[Episode]) -> None:
    policy, rows = untrained(), np.array([0])
    watched, trial = seen[0].trajectory, seen[1].trajectory
    now = watched.observations[:1].copy()
    first = policy.actor([Context(watched)], [0]).act(now, rows)
    np.testing.assert_array_equal(policy.actor([Context(watched, (trial,))], [0]).act(now, rows), first)


def test_frames_without_an_action_do_not_count() -> None:
    """A demonstration of two steps, read with 12 frames, repeats its last observation."""
    rewards, successes = np.zeros(2), np.zeros(2, bool)
    path = Trajectory(
        np.random.default_rng(0).normal(size=(3, SPEC.layout.size)), np.full((2, 2), 0.5), rewards, successes
    )
    segments = segments_of([Context(path)], 12, 1.0)
    assert (segments.actions_BSFA == 0).all(-1).sum() > 1
    policy = untrained()
    twelve = policy._adapt(segments, True)
    moved = replace(segments, observations_BSFO=segments.observations_BSFO.clone())
    moved.observations_BSFO[(segments.actions_BSFA == 0).all(-1)] += 1.0
    same = policy._adapt(moved, True)
    for name, weights in twelve.items():
        torch.testing.assert_close(weights, same[name])


def test_first_order_has_the_same_loss_and_other_gradients(batch: Batch) -> None:
    gradients = []
    losses = []
    for first_order in (False, True):
        policy = untrained(replace(SMALL, first_order=first_order))
        loss = policy.loss(batch).total
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in policy.network.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1])
    assert not torch.allclose(*gradients, rtol=1e-2)


def test_save_and_load_give_identical_actions(seen: list[Episode], tmp_path: Path) -> None:
    policy = untrained(replace(SMALL, inner_steps=2))
    policy.fit_features(torch.from_numpy(seen[0].trajectory.observations.copy()))
    policy.save(tmp_path)
    loaded = Mil.from_description(tmp_path, read_policy(tmp_path))
    assert loaded.config == policy.config
    assert loaded.source.startswith("mil ")
    contexts, now = [Context(e.trajectory) for e in seen[:3]], seen[5].trajectory.observations[:3].copy()
    expected = policy.actor(contexts, [0, 1, 2]).act(now, np.arange(3))
    np.testing.assert_array_equal(loaded.actor(contexts, [0, 1, 2]).act(now, np.arange(3)), expected)


def test_contexts_without_demonstration_are_refused(seen: list[Episode], batch: Batch) -> None:
    with pytest.raises(ValueError, match="mil adapts to a demonstration"):
        untrained().actor([Context(seen[0].trajectory), Context()], [0, 1])
    with pytest.raises(ValueError, match="mil adapts to a demonstration"):
        untrained().loss(replace(batch, segments=None))
