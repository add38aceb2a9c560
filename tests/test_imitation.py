"""The paper's method: which network plays which attempt, what it reads, how noisy it is, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from steps import step_of
from strategies import PLANE, make_trajectory
from toy_episodes import SMALL

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.methods.imitation import SPEC as IMITATION
from wtl.methods.imitation.config import ExplorationConfig, ImitationConfig, RetrialConfig, TrialConfig
from wtl.methods.imitation.policy import ImitationMethod, make_network
from wtl.methods.nn.context_network import NetworkConfig
from wtl.play.policy import FromContext

SPEC = FamilySpec("alpha", PLANE, 2, 10, 2, True, 1.0)
CONFIG: ImitationConfig = replace(SMALL["imitation"], exploration=ExplorationConfig(0.0, 0.0))
SHARED = replace(CONFIG, shared=True)
SHOWN, *TRIED = (replace(make_trajectory(5, seed), successes=np.zeros(5, bool)) for seed in range(6))
NOW = np.stack([make_trajectory(1, 50 + i).observations[0] for i in range(3)])


def network(part: str, config: ImitationConfig = CONFIG, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    made = make_network(config, SPEC, part)
    made.features.fit(torch.randn(30, PLANE.size))
    return made


def method(*parts: str, config: ImitationConfig = CONFIG) -> ImitationMethod:
    """Return the method with these networks, each with weights of its own."""
    networks = {part: network(part, config, seed) for seed, part in enumerate(parts)}
    player = IMITATION.player(config, SPEC, networks, "imitation")
    assert isinstance(player, FromContext) and isinstance(player.method, ImitationMethod)
    return player.method


def actions(made: ImitationMethod, contexts: Sequence[Context], seeds: Sequence[int] = (1, 2, 3)) -> np.ndarray:
    return made.adapt(contexts, seeds[: len(contexts)]).act(step_of(NOW[: len(contexts)]))


def other_weights(made: ImitationMethod, part: str) -> ImitationMethod:
    """Return the method with one network exchanged."""
    networks = {**made.networks, part: network(part, made.config, seed=9)}
    return ImitationMethod(made.config, SPEC, networks, "other")


def plays(made: ImitationMethod, context: Context) -> set[str]:
    """Return the networks on whose weights the actions in this context depend."""
    before = actions(made, [context])
    return {part for part in made.networks if (actions(other_weights(made, part), [context]) != before).any()}


# Which network plays.


def test_the_trial_network_plays_attempt_0_and_the_retrial_network_the_others() -> None:
    made = method("trial", "retrial")
    assert plays(made, Context((SHOWN,))) == {"trial"}
    assert plays(made, Context((SHOWN,), (TRIED[0],))) == {"retrial"}
    assert plays(made, Context((), (TRIED[0],))) == {"retrial"}  # without a demonstration it still improves


def test_in_regime_none_the_uninformed_network_plays_attempt_0_and_the_retrial_network_the_others() -> None:
    phases = IMITATION.phases(CONFIG, "none")
    assert [phase.part for phase in phases] == ["uninformed", "retrial", "retrial"]
    made = method(*dict.fromkeys(phase.part for phase in phases))
    assert plays(made, Context()) == {"uninformed"}
    assert plays(made, Context((), (TRIED[0],))) == {"retrial"}
    assert plays(made, Context((), (TRIED[0], TRIED[1]))) == {"retrial"}


def test_the_uninformed_network_ignores_what_it_has_not_seen() -> None:
    made = method("uninformed", "retrial")
    np.testing.assert_allclose(actions(made, [Context()] * 2)[:1], actions(made, [Context()]), atol=1e-6)


def test_a_shared_network_plays_all_attempts_once_it_is_there() -> None:
    before, after = method("trial", config=SHARED), method("trial", "retrial", config=SHARED)
    assert plays(before, Context((SHOWN,))) == {"trial"}
    for context in (Context((SHOWN,)), Context((SHOWN,), (TRIED[0],)), Context((), (TRIED[0], TRIED[1]))):
        assert plays(after, context) == {"retrial"}


def test_a_shared_network_goes_on_from_the_trial_network_and_reads_contexts_without_trials() -> None:
    first, *rounds = IMITATION.phases(SHARED, "family")
    assert (first.part, first.start_from) == ("trial", "")
    assert [(phase.start_from, phase.needs.trials) for phase in rounds] == [("trial", (0, 1)), ("retrial", (0, 2))]
    _, *rounds = IMITATION.phases(CONFIG, "family")
    assert [(phase.start_from, phase.needs.trials) for phase in rounds] == [("", (1, 1)), ("retrial", (1, 2))]
    # The weights of one fit the other.
    network("retrial", SHARED).load_state_dict(network("trial", SHARED).state_dict())


@pytest.mark.parametrize(
    "parts, context, sentence",
    [
        (["trial"], Context((SHOWN,), (TRIED[0],)), r"has no retrial network, which contexts with trials need"),
        (["retrial"], Context((SHOWN,)), r"has no trial network, which contexts with a demonstration and no trials"),
        (["trial", "retrial"], Context(), r"has no uninformed network, which contexts with nothing need; it was "
         r"trained for others \(trial, retrial\)"),
    ],
)  # fmt: skip
def test_a_network_that_was_not_trained_is_one_sentence(parts: list[str], context: Context, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        method(*parts).adapt([context], [0])
    assert "\n" not in str(caught.value)


def test_contexts_of_one_batch_have_the_same_parts() -> None:
    with pytest.raises(ValueError, match="must have as many demonstrations and trials"):
        method("trial", "retrial").adapt([Context((SHOWN,)), Context((SHOWN,), (TRIED[0],))], [0, 1])


# What is read.


def test_the_newest_trials_are_read_and_which_one_is_newer_matters() -> None:
    made = method("trial", "retrial")
    three, newest = Context((SHOWN,), tuple(TRIED[:3])), Context((SHOWN,), tuple(TRIED[1:3]))
    np.testing.assert_array_equal(actions(made, [three]), actions(made, [newest]))
    assert (actions(made, [newest]) != actions(made, [Context((SHOWN,), (TRIED[2], TRIED[1]))])).any()


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_rows_act_by_themselves(trials: int) -> None:
    made = method("trial", "retrial")
    contexts = [Context((make_trajectory(5, 20 + i),), tuple(TRIED[i : i + trials])) for i in range(3)]
    together = actions(made, contexts)
    assert together.shape == (3, 2) and np.abs(together).max() <= 1.05
    policy, rows = made.adapt(contexts, [1, 2, 3]), [2, 0]
    np.testing.assert_allclose(policy.act(step_of(NOW[rows], rows)), together[rows], atol=1e-6)
    alone = made.adapt(contexts[1:2], [2]).act(step_of(NOW[1:2]))
    np.testing.assert_allclose(alone[0], together[1], atol=1e-6)


# Noise.


def noise(made: ImitationMethod, contexts: Sequence[Context]) -> np.ndarray:
    """Return (rows,) how far actions are from those without noise."""
    without = ImitationMethod(CONFIG, SPEC, made.networks, "quiet")
    return np.abs(actions(made, contexts) - actions(without, contexts)).max(axis=1)


def test_noise_depends_on_the_attempt_and_ends_with_a_success() -> None:
    exploring = replace(CONFIG, exploration=ExplorationConfig(trial_noise=0.4, retrial_noise=0.02))
    made = method("trial", "retrial", config=exploring)
    first = noise(made, [Context((SHOWN,))] * 3)
    later = noise(made, [Context((SHOWN,), (TRIED[0],))] * 3)
    assert (first > 0.05).all() and (later > 0.0).all() and (later < 0.1).all()
    solved = replace(TRIED[0], successes=np.arange(5) == 4)
    mixed = noise(made, [Context((SHOWN,), (TRIED[0],)), Context((SHOWN,), (solved,))])
    assert mixed[0] > 0.0 and mixed[1] == 0.0
    masked = noise(made, [Context((SHOWN,), (solved.with_outcome_masked(),))])
    assert masked[0] > 0.0  # not known to have succeeded


def test_a_success_stays_known_when_newer_trials_have_pushed_it_out() -> None:
    exploring = replace(CONFIG, exploration=ExplorationConfig(0.4, 0.4))
    made = method("trial", "retrial", config=exploring)
    solved = replace(TRIED[0], successes=np.arange(5) == 4)
    assert CONFIG.retrial.network.max_trials == 2
    assert noise(made, [Context((SHOWN,), (solved, TRIED[1], TRIED[2]))])[0] == 0.0


# Settings.


def test_settings_that_cannot_be_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="RetrialConfig.rounds must be between 1 and 100, got 0"):
        ImitationConfig(retrial=RetrialConfig(rounds=0))
    with pytest.raises(ValueError, match=r"_trials_in_context is 3, but retrial.network.max_trials is 2"):
        ImitationConfig(retrial=RetrialConfig(NetworkConfig(max_trials=2), later_trials_in_context=3))
    with pytest.raises(ValueError, match="retrial.network and trial.network must be equal"):
        ImitationConfig(shared=True, trial=TrialConfig(NetworkConfig(width=32)))
    with pytest.raises(ValueError, match="in regime `none` set it to false"):
        IMITATION.phases(SHARED, "none")
