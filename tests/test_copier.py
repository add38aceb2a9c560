"""Learned control: what the network must not depend on, when the policy gives up, and that copying is learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from steps import step_of
from strategies import PLANE, make_trajectory

from wtl.core.episode import Context, Trajectory
from wtl.core.task import FamilySpec
from wtl.data.meta_batches import Batch
from wtl.data.segments import make_context_batch
from wtl.methods.transfer.copier import Copier, CopierConfig, States
from wtl.methods.transfer.copying import CopierLearner, CopyingConfig, CopyingPolicy, Lapses, still_steps

LAYOUT = replace(PLANE, hand_step=0.05)
SPEC = FamilySpec("alpha", LAYOUT, 3, 10, 2, True, 1.0)
CONFIG = CopierConfig(frames=8, width=12, heads=2, copied=4, hidden=16, ahead_frames=(2, 4))


def made(seed: int = 0) -> Copier:
    """A network whose last layer, which begins at zero, says something."""
    torch.manual_seed(seed)
    network = Copier(CONFIG, SPEC)
    torch.nn.init.normal_(network.after[-1].weight, std=0.3)
    return network


def brought(start: np.ndarray, end: np.ndarray, steps: int = 12) -> Trajectory:
    """A hand goes from the origin to an object, closes, and brings it somewhere."""
    hand, thing, observations, actions = np.zeros(2), start.copy(), [], []
    for t in range(2 * steps + 1):
        target = thing if t < steps else end
        action = np.clip((target - hand) / LAYOUT.hand_step, -1, 1)
        observations.append([*hand, *thing, 1.0 - (t > steps), 0.0, 0.0])
        actions.append([*action, 1.0 if t >= steps - 1 else -1.0])
        hand = hand + LAYOUT.hand_step * action
        thing = hand.copy() if t > steps else thing
    success = np.arange(2 * steps) == 2 * steps - 1
    return Trajectory(np.array(observations), np.array(actions[:-1]), np.zeros(2 * steps), success)


SHOWN = brought(np.array([0.3, 0.2]), np.array([-0.2, 0.4]))


def acts(network: Copier, shown: Trajectory, now: np.ndarray, start: np.ndarray, offset: np.ndarray) -> np.ndarray:
    context = make_context_batch([Context((shown,))], CONFIG.frames, 1.0)
    assert context.demonstrations is not None
    parts = (now, start, offset)
    states = States(*(torch.tensor(np.asarray(part)[None, None], dtype=torch.float32) for part in parts))
    with torch.inference_mode():
        return network(network.read(context.demonstrations), states)[0, 0].numpy()


def shifted(observations: np.ndarray, by: np.ndarray) -> np.ndarray:
    moved = np.array(observations)
    for point in (0, 2):  # the third place is absent and stays so
        moved[..., point : point + 2] += by
    return moved


def test_a_world_that_is_shifted_as_a_whole_looks_the_same() -> None:
    network, by, offset = made(), np.array([0.7, -0.4]), np.array([0.1, 0.05])
    now, start = SHOWN.observations[7] + 0.01, SHOWN.observations[0]
    now[5:] = 0.0
    there = replace(SHOWN, observations=shifted(SHOWN.observations, by))
    here = acts(network, SHOWN, now, start, offset)
    # The end has gone as far beside the shifted reference as beside the first.
    np.testing.assert_allclose(acts(network, there, shifted(now, by), shifted(start, by), offset), here, atol=1e-4)
    assert np.abs(acts(network, SHOWN, now, start, -offset) - here).max() > 1e-3  # and the offset matters


def test_states_of_a_batch_do_not_see_one_another() -> None:
    network = made()
    context = make_context_batch([Context((SHOWN,)), Context((make_trajectory(9, 1, LAYOUT, 3),))], CONFIG.frames, 1.0)
    assert context.demonstrations is not None
    frames = network.read(context.demonstrations)
    states = States(torch.randn(2, 5, 7), torch.randn(2, 5, 7), torch.randn(2, 5, 2))
    together = network(frames, states)
    assert together.shape == (2, 5, 3)
    one = States(states.now_BQO[1:, 3:4], states.starts_BQO[1:, 3:4], states.offsets_BQD[1:, 3:4])
    torch.testing.assert_close(network(frames.rows(torch.tensor([1])), one)[0, 0], together[1, 3], atol=1e-5, rtol=1e-4)


def test_a_fresh_network_proposes_and_corrects_nothing() -> None:
    torch.manual_seed(0)
    network = Copier(CONFIG, SPEC)
    for t in (0, 6, 14):
        action = acts(network, SHOWN, SHOWN.observations[t], SHOWN.observations[0], np.zeros(2))
        assert np.abs(action).max() <= 1.0


def test_it_needs_something_beside_the_hand() -> None:
    alone = replace(LAYOUT, size=2, points=(0,), scalars=())
    with pytest.raises(ValueError, match="needs a position beside the hand's in what is observed, got none"):
        Copier(CONFIG, replace(SPEC, layout=alone))


# Training.


def batch_of(seed: int, contexts: int = 48) -> Batch:
    """The object stands elsewhere and goes elsewhere; labels are what the demonstrator would do there."""
    generator = np.random.default_rng(seed)
    shown, own, offsets, states, labels = [], [], [], [], []
    for _ in range(contexts):
        start, end, other_start, other_end = generator.uniform(-0.4, 0.4, (4, 2))
        shown.append(Context((brought(start, end),)))
        own.append(brought(other_start, other_end))
        steps = generator.integers(0, 24, size=6)
        states.append(own[-1].observations[steps])
        labels.append(own[-1].actions[steps])
        offsets.append(other_end - end)
    goals = torch.tensor(np.array(offsets), dtype=torch.float32)
    labels_BQA = torch.tensor(np.stack(labels), dtype=torch.float32)
    starts = np.repeat(np.stack([trajectory.observations[0] for trajectory in own])[:, None], 6, axis=1)
    return Batch(
        context=make_context_batch(shown, CONFIG.frames, 1.0), known=(Context(),) * contexts,
        observations_BQO=torch.tensor(np.stack(states), dtype=torch.float32), expert_actions_BQA=labels_BQA,
        actions_BQA=labels_BQA, returns_to_go_BQ=labels_BQA[..., 0], start_BO=torch.zeros(contexts, 7), goal_BG=goals,
        starts_BQO=torch.tensor(starts, dtype=torch.float32), goals_BQG=goals[:, None].expand(-1, 6, -1),
        trial_goals_BSG=torch.zeros(contexts, 0, 2), demonstrated_goal_BG=torch.zeros_like(goals), seed=seed,
        noise_BQ=labels_BQA[..., 0], peak_BD=goals,
    )  # fmt: skip


def test_copying_is_learned_and_the_goal_is_used() -> None:
    """Against the best constant action, and against the same network told wrong goals."""
    torch.manual_seed(0)
    learner = CopierLearner(Copier(CONFIG, SPEC), 0.0)
    optimiser = torch.optim.Adam(learner.network.parameters(), 5e-3)
    batches = [batch_of(seed) for seed in range(12)]
    for step in range(150):
        optimiser.zero_grad()
        learner.loss(replace(batches[step % 12], seed=step)).total.backward()
        optimiser.step()
    test = batch_of(99)
    told = learner.loss(test).total.item()
    misled = learner.loss(replace(test, goals_BQG=test.goals_BQG.roll(1, 0))).total.item()
    labels = test.expert_actions_BQA
    constant = torch.nn.functional.smooth_l1_loss(labels.mean((0, 1)).expand_as(labels), labels, beta=0.1).item()
    assert told < 0.5 * constant and told < 0.6 * misled


def test_states_that_nobody_labelled_teach_nothing() -> None:
    learner, batch = CopierLearner(made(), 0.0), batch_of(1, 4)
    labels = batch.expert_actions_BQA.clone()
    labels[:, 3:] = float("nan")
    some = learner.loss(replace(batch, expert_actions_BQA=labels)).total
    few = replace(
        batch, observations_BQO=batch.observations_BQO[:, :3], expert_actions_BQA=labels[:, :3],
        starts_BQO=batch.starts_BQO[:, :3], goals_BQG=batch.goals_BQG[:, :3],
    )  # fmt: skip
    torch.testing.assert_close(some, learner.loss(few).total)
    none = learner.loss(replace(batch, expert_actions_BQA=torch.full_like(labels, float("nan")))).total
    assert none.item() == 0.0


def test_noise_on_where_objects_are_seen_spares_the_hand_and_what_is_absent() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = CopierLearner(made(), 1.0)._seen(batch_of(2, 40).observations_BQO, generator)
    before = batch_of(2, 40).observations_BQO
    changed = (seen != before).any(0).any(0)
    assert changed.tolist() == [False, False, True, True, False, False, False]
    assert 0.1 < (seen != before).any(-1).any(-1).float().mean() < 0.9  # and not in every context


# When a hypothesis is given up.


def policy_of(tries: int = 0, offsets: int = 3) -> CopyingPolicy:
    config = CopyingConfig(patience_steps=2, retreat_steps=3, tries=tries)
    queue = np.arange(offsets * 2, dtype=float).reshape(1, offsets, 2)
    return CopyingPolicy(config, made(), LAYOUT, [SHOWN], lambda rows, _: np.repeat(queue, len(rows), 0), [0])


def played(policy: CopyingPolicy, observation: np.ndarray, steps: int) -> tuple[list[int], np.ndarray]:
    """Which try each step of a hand that stands still belongs to, and the actions."""
    tries, actions = [], []
    for number in range(steps):
        actions.append(policy.act(step_of(observation[None], number=number))[0])
        tries.append(int(policy._tries[0]))
    return tries, np.array(actions)


def test_still_steps_by_hand() -> None:
    hand = np.array([[0.0, 0.0], [0.05, 0.0], [0.2, 0.0], [0.2, 0.05], [0.2, 0.0], [0.5, 0.0]])
    assert still_steps(hand, 0.1).tolist() == [0, 1, 0, 1, 2, 0]


def test_who_stands_still_for_longer_than_the_reference_did_opens_and_goes_up() -> None:
    away = np.array([0.3, 0.2, 0.0, 0.0, 1.0, 0.0, 0.0])  # the hand is not at the object
    patience = still_steps(SHOWN.observations[:, :2], 0.1).max() + 2
    tries, actions = played(policy_of(), away, 2 * patience + 8)
    first = tries.index(1)
    assert first == patience
    np.testing.assert_array_equal(actions[first : first + 3], [[0.0, 1.0, -1.0]] * 3)
    assert tries[-1] == 2  # and the next one is given up in its turn


def test_what_is_still_held_is_not_let_go() -> None:
    held = SHOWN.observations[-1]
    tries, actions = played(policy_of(), held, 30)
    assert 1 in tries and not (actions == [0.0, 1.0, -1.0]).all(1).any()


def test_one_try_is_never_given_up() -> None:
    assert set(played(policy_of(tries=1), np.array([0.3, 0.2, 0.0, 0.0, 1.0, 0.0, 0.0]), 60)[0]) == {0}
    assert max(played(policy_of(tries=2), np.array([0.3, 0.2, 0.0, 0.0, 1.0, 0.0, 0.0]), 90)[0]) == 1


def test_lapses_are_drawn_by_row_and_some_rows_have_none() -> None:
    policies = [Lapses(policy_of(), [seed]) for seed in range(30)]
    observation = SHOWN.observations[5]
    calm = np.array(played_by(policy_of(), observation))
    changed = [int((np.array(played_by(lapsing, observation)) != calm).any(1).sum()) for lapsing in policies]
    assert 5 < sum(count == 0 for count in changed) < 29 and max(changed) >= 3


def played_by(policy: CopyingPolicy | Lapses, observation: np.ndarray) -> list[np.ndarray]:
    return [policy.act(step_of(observation[None], number=number))[0] for number in range(60)]


def test_settings_that_cannot_be_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="longest must be more than 0"):
        CopyingConfig(longest=0)
    with pytest.raises(ValueError, match="tries must be between 0 and"):
        CopyingConfig(tries=-1)
