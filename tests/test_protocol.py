"""The protocol: where attempts begin, how many tries they hold, and what disturbs them."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from players import FixedPolicy, make_attempt
from strategies import make_trajectory

from wtl.core.episode import Context
from wtl.core.task import FamilySpec, TaskFamily
from wtl.methods.transfer.controller import ControllerConfig, TransferPolicy
from wtl.play.policy import Attempt, Session, StepBatch
from wtl.play.protocol import ProtocolConfig
from wtl.play.rollout import RolloutSettings, play
from wtl.tasks.metaworld.family import MetaWorldFamily
from wtl.tasks.toy import ToyFamily

TOY = ToyFamily("probe-red")


def sessions(family: TaskFamily = TOY, count: int = 3) -> list[Session]:
    return [Session(task, Context(), (), seed) for seed, task in enumerate(family.sample_tasks(count, 0, "test"))]


# Starts.


def test_redrawn_starts_keep_the_name_and_the_hidden_goal_and_nothing_else() -> None:
    protocol, before = ProtocolConfig(starts="redrawn"), sessions()
    assert protocol.sessions(TOY, before, 0) == before
    first, second = (protocol.sessions(TOY, before, number) for number in (1, 2))
    for old, new, later in zip(before, first, second, strict=True):
        assert new.task.name == old.task.name and new.task.goal_name == old.task.goal_name and new.seed == old.seed
        assert new.task.parameters[2:] == old.task.parameters[2:]  # the candidates and which one is rewarded
        assert len({old.task.parameters[:2], new.task.parameters[:2], later.task.parameters[:2]}) == 3
    assert protocol.sessions(TOY, before, 1) == first  # by the session's seed


def test_repeated_starts_are_the_identical_state() -> None:
    before = sessions()
    assert ProtocolConfig(starts="repeated").sessions(TOY, before, 3) == before


def test_a_family_with_a_single_start_repeats_it() -> None:
    family = MetaWorldFamily("plate-slide-v3")
    before = sessions(family, 1)
    assert ProtocolConfig(starts="redrawn").sessions(family, before, 1) == before


def test_the_digest_of_an_entry_covers_task_starts_demonstrations_and_seed() -> None:
    protocol, (first, other, _) = ProtocolConfig(starts="redrawn"), sessions()
    shown = make_trajectory(3, layout=TOY.spec.layout, action_size=2)
    digest = functools.partial(protocol.entry_digest, TOY)
    context = Context((shown,))
    changed = [
        first, replace(first, task=other.task), replace(first, seed=7), replace(first, context=context),
        replace(first, context=Context((replace(shown, actions=shown.actions * 0.5),))),
    ]  # fmt: skip
    found = [*map(digest, changed), ProtocolConfig(starts="repeated").entry_digest(TOY, first)]
    assert len(set(found)) == len(found) and all(len(one) == 16 for one in found)
    again = replace(first, context=Context((replace(shown),)))
    assert digest(again) == digest(changed[3])
    assert replace(protocol, walks="one").entry_digest(TOY, first) == found[0]  # who plays it how is no part of it


# Walks.


def test_one_walk_tries_one_hypothesis_and_many_go_on() -> None:
    """The reference ends after two steps; with one walk nothing is tried after it."""
    layout = TOY.spec.layout
    reference = make_trajectory(2, layout=layout, action_size=2)

    def asked(tries: int) -> int:
        offsets = np.arange(8.0).reshape(1, 4, 2)
        config = ControllerConfig(tries=tries, rest_steps=0, patience_steps=0)
        policy = TransferPolicy(config, layout, [reference], lambda rows, seen: offsets, [0])
        nothing = np.full(1, np.nan)
        for number in range(60):
            policy.act(StepBatch(reference.observations[:1], np.array([0]), number, nothing, nothing))
        return int(policy._tries[0])

    assert asked(tries=1) == 1
    assert asked(tries=0) > 4


# Noise.


def recorded(**noise: float) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """What one policy that stands still saw, what was recorded as done, and where the points really were."""
    truth: list[np.ndarray] = []
    policy = FixedPolicy(lambda rows: np.zeros((len(rows), 2)))
    attempt = make_attempt(TOY, TOY.sample_tasks(1, 0, "test"))
    [episode] = play(
        attempt, policy, RolloutSettings(24, None, **noise),
        lambda row, step, environment: truth.append(environment.position.copy()),  # type: ignore[attr-defined]
    )  # fmt: skip
    return episode.trajectory.observations, episode.trajectory.actions, truth


def test_without_noise_nothing_is_disturbed() -> None:
    seen, done, truth = recorded()
    np.testing.assert_allclose(seen[:, :2], truth, atol=1e-6)
    assert not done.any() and np.ptp(truth, axis=0).max() == 0


def test_action_noise_moves_the_world_and_not_the_record() -> None:
    seen, done, truth = recorded(action_noise=0.5)
    assert not done.any() and np.ptp(truth, axis=0).min() > 0
    np.testing.assert_allclose(seen[:, :2], truth, atol=1e-6)
    np.testing.assert_array_equal(recorded(action_noise=0.5)[0], seen)  # by the seed


def test_position_noise_is_seen_and_not_real() -> None:
    seen, _, truth = recorded(position_noise=0.01)
    away = seen[:, :2] - np.array(truth)
    assert np.ptp(truth, axis=0).max() == 0 and 0.002 < away.std() < 0.03
    assert (seen[:, 2:].std(axis=0) > 0.002).all()  # the candidates too


def test_absent_objects_stay_absent_and_experts_see_the_truth() -> None:
    from wtl.play.noise import Disturbance

    spec: FamilySpec = MetaWorldFamily("reach-v3").spec
    attempt = Attempt(MetaWorldFamily("reach-v3"), [], [], [], [3])
    observation = np.arange(1.0, 1.0 + spec.layout.size)
    observation[11:14] = 0.0
    seen = Disturbance(attempt, 0.0, 0.005).observed(observation, 0)
    assert not seen[11:14].any() and (seen[:3] != observation[:3]).all()
    np.testing.assert_array_equal(seen[list(spec.layout.scalars)], observation[list(spec.layout.scalars)])


# Words.


def test_a_protocol_has_a_name_that_says_everything() -> None:
    assert ProtocolConfig().name == "redrawn starts, many walks, feedback at the end"
    noisy = replace(ProtocolConfig(), starts="repeated", walks="one", action_noise=0.1, position_noise=0.005)
    assert noisy.name == "repeated starts, one walk, feedback at the end, action noise 0.1, position noise 0.005"


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_noise_that_is_none(value: float) -> None:
    with pytest.raises(ValueError, match="ProtocolConfig.action_noise must be between 0 and 100"):
        ProtocolConfig(action_noise=value)
