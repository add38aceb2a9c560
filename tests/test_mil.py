"""Meta-imitation learning on the toy families, in regime `goal`: the demonstration shows the controls and the goal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from steps import step_of

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import Split
from wtl.data.meta_batches import Batch, BatchConfig, MetaBatches, Needs
from wtl.data.segments import make_context_batch
from wtl.methods.mil import SPEC as MIL
from wtl.methods.mil import Adaptation, Mil, MilConfig, MilLearner
from wtl.methods.nn.mlp import MlpNetwork
from wtl.play.noise import Expert, NoiseConfig
from wtl.play.policy import Attempt, Session
from wtl.play.rollout import RolloutSettings, play
from wtl.tasks import toy

pytestmark = pytest.mark.skipif(bool(MIL.missing), reason=f"needs {MIL.missing}")

SMALL = MilConfig(width=32, components=3, frames=12)
SPEC = toy.ToyFamily("probe-red").spec
SETTINGS = RolloutSettings(SPEC.horizon_steps, ask_expert=True, role="demonstration")


def watch(split: Split, count: int) -> list[Episode]:
    """Demonstrations of `count` tasks of each family and of the same goals from another start."""
    episodes = []
    for name in toy.COLOURS:
        family = toy.ToyFamily(name)
        tasks = family.sample_tasks(count, 0, split)
        tasks += tuple(family.with_other_start(task, i) for i, task in enumerate(tasks))
        environments = [family.make_environment() for _ in tasks]
        sessions = [Session(task, Context(), (), seed) for seed, task in enumerate(tasks)]
        attempt = Attempt(family, environments, sessions, [Context()] * len(tasks), range(len(tasks)))
        episodes += play(attempt, Expert(NoiseConfig(0.3)), SETTINGS)
    return episodes


def batches_of(episodes: list[Episode]) -> MetaBatches:
    config = BatchConfig(contexts=4, queries=16)
    return MetaBatches(config, Needs(frames=12), episodes, SPEC, regime="goal", seed=0)


@pytest.fixture(scope="module")
def seen() -> list[Episode]:
    return watch("train", 40)


@pytest.fixture(scope="module")
def batch(seen: list[Episode]) -> Batch:
    return batches_of(seen)(0)


def untrained(config: MilConfig = SMALL) -> MilLearner:
    torch.manual_seed(0)
    return MilLearner(config, MlpNetwork(SPEC, config.width, config.components))


def method_of(learner: MilLearner) -> Mil:
    return Mil(learner.config, SPEC, learner.network, "mil")


def trained(config: MilConfig, episodes: list[Episode], steps: int) -> MilLearner:
    learner, batches = untrained(config), batches_of(episodes)
    learner.fit_features(torch.from_numpy(np.concatenate([e.trajectory.observations for e in episodes])))
    optimiser = torch.optim.Adam(learner.network.parameters(), lr=5e-3)
    for step in range(steps):
        optimiser.zero_grad()
        learner.loss(batches(step)).total.backward()
        torch.nn.utils.clip_grad_norm_(learner.network.parameters(), 1.0)
        optimiser.step()
    return learner


def test_adaptation_beats_no_adaptation_on_held_out_tasks(seen: list[Episode]) -> None:
    held_out = batches_of(watch("test", 10))
    losses = {}
    for inner_steps in (0, 1):
        learner = trained(replace(SMALL, inner_steps=inner_steps), seen, steps=60)
        losses[inner_steps] = np.array([learner.loss(held_out(step)).total.item() for step in range(12)])
    gain = losses[0] - losses[1]
    assert gain.mean() > 0.2
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(len(gain))


def test_two_inner_steps_are_gradient_descent_on_the_squared_error(seen: list[Episode]) -> None:
    """The slow twin: torch.func instead of learn2learn, one context at a time, the whole network."""
    learner = untrained(replace(SMALL, inner_steps=2))
    contexts = [Context((e.trajectory,)) for e in seen[:3]]
    batch = make_context_batch(contexts, SMALL.frames, 1.0)
    segments = batch.demonstrations
    assert segments is not None
    queries = torch.from_numpy(np.stack([e.trajectory.observations[:5] for e in seen[3:6]]))
    adaptation = Adaptation(learner.config, learner.network)
    together = adaptation.answer(adaptation.adapt(batch, True), queries)
    for row in range(3):
        observations, actions = segments.observations_BSFO[row, 0, :-1], segments.actions_BSFA[row, 0, :-1]

        def error(weights: dict[str, torch.Tensor], seen: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            mixture = torch.func.functional_call(learner.network, weights, (seen,))
            mean = (mixture.logits_M.softmax(-1)[..., None] * mixture.means_MA).sum(-2)
            return (mean - wanted).square().sum(-1).mean()

        weights = dict(learner.network.named_parameters())
        for _ in range(2):
            slopes = torch.func.grad(error)(weights, observations, actions)
            weights = {name: weight - SMALL.inner_lr * slopes[name] for name, weight in weights.items()}
        expected = torch.func.functional_call(learner.network, weights, (queries[row],))
        torch.testing.assert_close(together.means_MA[row], expected.means_MA, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.logits_M[row], expected.logits_M, atol=1e-5, rtol=1e-5)


def test_rows_act_by_their_own_weights(seen: list[Episode]) -> None:
    method = method_of(untrained())
    contexts = [Context((e.trajectory,)) for e in seen[::50]]
    seeds = list(range(len(contexts)))
    now = np.stack([e.trajectory.observations[0] for e in seen[::50]])
    together = method.adapt(contexts, seeds)
    all_rows = together.act(step_of(now))
    alone = [
        method.adapt([c], [s]).act(step_of(now[[i]]))[0] for i, (c, s) in enumerate(zip(contexts, seeds, strict=True))
    ]
    np.testing.assert_allclose(all_rows, alone, atol=1e-5)
    np.testing.assert_allclose(together.act(step_of(now[[3, 1]], [3, 1])), all_rows[[3, 1]], atol=1e-5)
    assert np.abs(all_rows[0] - method.adapt(contexts[1:2], [0]).act(step_of(now[:1]))[0]).max() > 1e-3


def test_trials_and_further_demonstrations_are_ignored(seen: list[Episode]) -> None:
    method = method_of(untrained())
    watched, trial = seen[0].trajectory, seen[1].trajectory
    now = step_of(watched.observations[:1])
    first = method.adapt([Context((watched,))], [0]).act(now)
    for context in (Context((watched,), (trial,)), Context((watched, trial))):
        np.testing.assert_array_equal(method.adapt([context], [0]).act(now), first)


def test_a_policy_can_be_made_where_gradients_are_off(seen: list[Episode]) -> None:
    """Evaluation runs without them, and adapting needs them."""
    method, contexts = method_of(untrained()), [Context((seen[0].trajectory,))]
    now = step_of(seen[0].trajectory.observations[:1])
    expected = method.adapt(contexts, [0]).act(now)
    with torch.inference_mode():
        np.testing.assert_array_equal(method.adapt(contexts, [0]).act(now), expected)


def test_frames_without_an_action_do_not_count() -> None:
    """A demonstration of two steps, read with 12 frames, repeats its last observation."""
    rewards, successes = np.zeros(2), np.zeros(2, bool)
    path = Trajectory(
        np.random.default_rng(0).normal(size=(3, SPEC.layout.size)), np.full((2, 2), 0.5), rewards, successes
    )
    batch = make_context_batch([Context((path,))], 12, 1.0)
    segments = batch.demonstrations
    assert segments is not None and (segments.actions_BSFA == 0).all(-1).sum() > 1
    learner = untrained()
    adaptation = Adaptation(learner.config, learner.network)
    twelve = adaptation.adapt(batch, True)
    moved = segments.observations_BSFO.clone()
    moved[(segments.actions_BSFA == 0).all(-1)] += 1.0
    same = adaptation.adapt(replace(batch, demonstrations=replace(segments, observations_BSFO=moved)), True)
    for name, weights in twelve.items():
        torch.testing.assert_close(weights, same[name])


def test_first_order_has_the_same_loss_and_other_gradients(batch: Batch) -> None:
    gradients = []
    losses = []
    for first_order in (False, True):
        learner = untrained(replace(SMALL, first_order=first_order))
        loss = learner.loss(batch).total
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in learner.network.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1])
    assert not torch.allclose(*gradients, rtol=1e-2)


def test_contexts_without_demonstration_are_refused(seen: list[Episode], batch: Batch) -> None:
    with pytest.raises(ValueError, match="must have as many demonstrations"):
        method_of(untrained()).adapt([Context((seen[0].trajectory,)), Context()], [0, 1])
    with pytest.raises(ValueError, match="mil adapts to a demonstration, got contexts without one"):
        method_of(untrained()).adapt([Context(), Context((), (seen[0].trajectory,))], [0, 1])
    with pytest.raises(ValueError, match="mil adapts to a demonstration, got contexts without one"):
        untrained().loss(replace(batch, context=None))
