"""Methods: which contexts each reads, that a saved policy acts as before, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from strategies import PLANE, make_trajectory

from wtl.core.episode import Context
from wtl.core.task import FamilySpec
from wtl.methods import load_policy
from wtl.methods.cloning import Cloning, CloningConfig
from wtl.methods.imitation.network import NetworkConfig
from wtl.methods.imitation.policy import PolicyConfig
from wtl.methods.imitation.retrial import RetrialPolicy
from wtl.methods.imitation.shared import SharedPolicy
from wtl.methods.imitation.trial import TrialPolicy
from wtl.methods.learner import spec_from_json, spec_to_json
from wtl.methods.mil import Mil, MilConfig
from wtl.methods.nn.acting import ActingConfig, MixtureActor
from wtl.methods.nn.mixture import Mixture

SPEC = FamilySpec("alpha", PLANE, 2, 10, 2, True, 1.0)
SMALL = PolicyConfig(NetworkConfig(width=16, heads=2, encoder_layers=1, reader_layers=1, components=3, max_trials=2))
SHOWN, *TRIED = (make_trajectory(5, seed) for seed in range(5))
NOW = np.stack([make_trajectory(1, 50 + i).observations[0] for i in range(3)])
MAKERS: dict[str, Callable[[], Any]] = {
    "trial": lambda: TrialPolicy(SMALL, SPEC, 4),
    "retrial": lambda: RetrialPolicy(SMALL, SPEC, 4),
    "shared": lambda: SharedPolicy(SMALL, SPEC, 4),
    "cloning": lambda: Cloning(CloningConfig(16, 3), SPEC),
    "mil": lambda: Mil(MilConfig(16, 3, frames=4), SPEC),
}


def made(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    policy = MAKERS[name]()
    policy.fit_features(torch.randn(30, PLANE.size))
    return policy


def contexts_for(name: str) -> list[Context]:
    trials = [(t,) for t in TRIED[:3]] if name in ("retrial", "shared") else [()] * 3
    return [Context(make_trajectory(5, 20 + i), trials[i]) for i in range(3)]


def actions(policy: Any, contexts: list[Context], seeds: Any = (1, 2, 3)) -> np.ndarray:
    return policy.actor(contexts, list(seeds)).act(NOW[: len(contexts)], np.arange(len(contexts)))


# Which contexts.


def test_the_trial_policy_refuses_trials_and_needs_a_demonstration() -> None:
    policy = made("trial")
    with pytest.raises(ValueError, match="trial policy expects a context with 0 trials, got 2; use the retrial policy"):
        policy.actor([Context(SHOWN, (TRIED[0], TRIED[1]))], [0])
    with pytest.raises(
        ValueError, match="trial policy expects a demonstration, got none; in regime `none` use cloning"
    ):
        policy.actor([Context()], [0])


def test_the_retrial_policy_needs_a_trial_and_reads_the_newest() -> None:
    policy = made("retrial")
    with pytest.raises(ValueError, match="retrial policy expects a context with at least 1 trial, got 0"):
        policy.actor([Context(SHOWN)], [0])
    three, newest = Context(SHOWN, tuple(TRIED[:3])), Context(SHOWN, tuple(TRIED[1:3]))
    np.testing.assert_array_equal(actions(policy, [three]), actions(policy, [newest]))
    turned = Context(SHOWN, (TRIED[2], TRIED[1]))
    assert (actions(policy, [newest]) != actions(policy, [turned])).any()  # which one is newer matters
    actions(policy, [Context(None, (TRIED[0],))])  # without a demonstration it still improves


def test_the_shared_policy_reads_whatever_there_is() -> None:
    policy = made("shared")
    for context in (Context(SHOWN), Context(SHOWN, (TRIED[0],)), Context(None, (TRIED[0], TRIED[1]))):
        actions(policy, [context])
    with pytest.raises(ValueError, match="shared policy expects a demonstration or a trial, got neither"):
        policy.actor([Context()], [0])


def test_cloning_ignores_the_context() -> None:
    policy = made("cloning")
    for context in (Context(), Context(SHOWN), Context(None, (TRIED[0],))):
        np.testing.assert_array_equal(actions(policy, [context] * 3), actions(policy, [Context()] * 3))


@pytest.mark.parametrize("name", ["trial", "retrial", "shared", "mil"])
def test_what_was_shown_matters(name: str) -> None:
    policy, contexts = made(name), contexts_for(name)
    other = [replace(context, demonstration=SHOWN) for context in contexts]
    assert (actions(policy, contexts) != actions(policy, other)).any()


@pytest.mark.parametrize("name", MAKERS)
def test_rows_act_by_themselves(name: str) -> None:
    policy, contexts = made(name), contexts_for(name)
    together = actions(policy, contexts)
    assert together.shape == (3, 2) and np.abs(together).max() <= 1.05
    actor = policy.actor(contexts, [1, 2, 3])
    rows = np.array([2, 0])
    np.testing.assert_allclose(actor.act(NOW[rows], rows), together[rows], atol=1e-6)
    np.testing.assert_allclose(policy.actor(contexts[1:2], [2]).act(NOW[1:2], np.array([0]))[0], together[1], atol=1e-6)


# Acting.


def fixed(*weights: float) -> Callable[[Any, Any], Mixture]:
    """An answer whose component i has the mean i."""

    def answer(rows: torch.Tensor, observations: torch.Tensor) -> Mixture:
        count = len(rows)
        means = torch.arange(len(weights), dtype=torch.float32)[:, None].expand(count, -1, 1)
        return Mixture(torch.log(torch.tensor(weights)).expand(count, -1), means, torch.zeros(count, len(weights), 1))

    return answer


def test_a_held_component_is_kept_over_the_episode_and_drawn_by_weight() -> None:
    count = 400
    actor = MixtureActor(ActingConfig("held"), fixed(0.1, 0.6, 0.3), range(count))
    rows = np.arange(count)
    first = actor.act(np.zeros((count, 1)), rows)
    for _ in range(5):
        np.testing.assert_array_equal(actor.act(np.zeros((count, 1)), rows), first)
    shares = [(first == i).mean() for i in range(3)]
    np.testing.assert_allclose(shares, [0.1, 0.6, 0.3], atol=0.08)
    some = np.array([7, 3])
    np.testing.assert_array_equal(actor.act(np.zeros((2, 1)), some), first[some])
    again = MixtureActor(ActingConfig("held"), fixed(0.1, 0.6, 0.3), [7])
    np.testing.assert_array_equal(again.act(np.zeros((1, 1)), np.array([0])), first[[7]])  # its seed, not its row


def test_the_likeliest_component_needs_no_luck() -> None:
    actor = MixtureActor(ActingConfig("likeliest"), fixed(0.1, 0.6, 0.3), range(50))
    assert (actor.act(np.zeros((50, 1)), np.arange(50)) == 1.0).all()


def test_a_held_hypothesis_is_dropped_after_a_success() -> None:
    solved = [i % 2 == 0 for i in range(50)]
    actor = MixtureActor(ActingConfig("held"), fixed(0.3, 0.4, 0.3), range(50), solved)
    chosen = actor.act(np.zeros((50, 1)), np.arange(50))[:, 0]
    assert (chosen[::2] == 1.0).all() and set(chosen[1::2]) == {0.0, 1.0, 2.0}
    some = np.array([3, 2])
    np.testing.assert_array_equal(actor.act(np.zeros((2, 1)), some)[:, 0], chosen[some])


# On disk.


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_policy_acts_as_before(name: str, tmp_path: Path) -> None:
    policy = made(name)
    policy.save(tmp_path)
    loaded = load_policy(tmp_path, name)
    np.testing.assert_array_equal(actions(loaded, contexts_for(name)), actions(policy, contexts_for(name)))
    assert loaded.source.startswith(f"{name} ") and loaded.source == load_policy(tmp_path).source
    made(name, seed=1).save(tmp_path / "other")
    assert load_policy(tmp_path / "other").source != loaded.source
    made(name).save(tmp_path / "again")
    for file in ("weights.safetensors", "policy.json"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def change(directory: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = directory / "policy.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_policy_of_another_kind_or_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no trained policy \(policy.json is missing\); train it first"):
        load_policy(tmp_path)
    made("trial").save(tmp_path)
    with pytest.raises(ValueError, match="holds a trial policy, expected cloning"):
        load_policy(tmp_path, "cloning")
    change(tmp_path, lambda content: content.update(method="magic"))
    with pytest.raises(ValueError, match="holds a magic policy, expected"):
        load_policy(tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_a_checkpoint_of_another_model_is_one_sentence(name: str, tmp_path: Path) -> None:
    made(name).save(tmp_path)
    config = "network" if name in ("trial", "retrial", "shared") else None

    def widen(content: dict[str, Any]) -> None:
        (content["config"][config] if config else content["config"])["width"] = 32

    change(tmp_path, widen)
    with pytest.raises(ValueError, match="is a checkpoint of another model: ") as caught:
        load_policy(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_with_other_layers_names_them(tmp_path: Path) -> None:
    made("trial").save(tmp_path)
    change(tmp_path, lambda content: content["config"]["network"].update(encoder_layers=2))
    with pytest.raises(ValueError, match=r"is a checkpoint of another model: encoder\.1\..* do not match"):
        load_policy(tmp_path)


@pytest.mark.parametrize("damage", ["delete", "cut", "flip"])
def test_damaged_weights_are_refused(tmp_path: Path, damage: str) -> None:
    made("trial").save(tmp_path)
    path = tmp_path / "weights.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[-2] ^= 64
        path.write_bytes(content if damage == "flip" else content[:-100])
    with pytest.raises(ValueError, match=r"weights.safetensors .*train it again"):
        load_policy(tmp_path)


def test_a_policy_starts_from_its_like_only(tmp_path: Path) -> None:
    retrial = made("retrial")
    retrial.save(tmp_path)
    other = made("retrial", seed=1)
    other.start_from(tmp_path)
    np.testing.assert_array_equal(actions(other, contexts_for("retrial")), actions(retrial, contexts_for("retrial")))
    trial = made("trial")
    trial.save(tmp_path / "trial")
    heir = made("shared", seed=1)
    heir.start_from(tmp_path / "trial")  # one network goes on where the other ended
    same = [Context(SHOWN)] * 3
    np.testing.assert_array_equal(actions(heir, same), actions(trial, same))
    with pytest.raises(ValueError, match="is no trial policy, so a trial policy cannot start from it"):
        made("trial").start_from(tmp_path)


def test_a_checkpoint_remembers_sizes_and_no_names() -> None:
    content = json.loads(json.dumps(spec_to_json(SPEC)))
    assert "name" not in content and "hidden_goal" not in content
    assert spec_from_json(content) == replace(SPEC, name="any", hidden_goal=True)
