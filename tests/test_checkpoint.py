"""Checkpoints: a saved method plays as before, noise included, and what is damaged or another's is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_episodes import FAMILY, attempt_of, networks_of, phases_of, small, some_contexts

from wtl.app.config import load_config
from wtl.app.plan import Plan
from wtl.core.episode import Context
from wtl.methods import cloning, imitation
from wtl.methods.checkpoint import (
    CheckpointError,
    from_plain,
    load_networks,
    load_player,
    method_name,
    read_checkpoint,
    save_checkpoint,
)
from wtl.methods.imitation.config import ExplorationConfig
from wtl.methods.registry import METHODS, PlayerRecipe
from wtl.methods.spec import MethodSpec
from wtl.play.policy import Player
from wtl.play.rollout import RolloutSettings, play

TRAINED = [spec for spec in METHODS if not spec.missing and phases_of(spec, small(spec))]


def saved(directory: Path, spec: MethodSpec, seed: int = 0, config: Any = None) -> Player:
    """Write a method with fresh weights; return it as a player."""
    config = config or small(spec)
    networks = networks_of(spec, config, seed)
    save_checkpoint(directory, spec, config, FAMILY.spec, networks)
    return spec.player(config, FAMILY.spec, networks, "untrained")


def actions(player: Player, contexts: list[Context], steps: int = 6) -> np.ndarray:
    return np.stack([e.trajectory.actions for e in play(attempt_of(contexts), player, RolloutSettings(steps))])


def change(directory: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "method.json"
    content = json.loads(path.read_text())
    del content["checksum"]  # as in a file of an earlier version, which nothing vouches for
    edit(content)
    path.write_text(json.dumps(content))


# What is saved.


@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
def test_a_saved_method_plays_as_before(spec: MethodSpec, tmp_path: Path) -> None:
    player = saved(tmp_path / "one", spec)
    loaded = load_player(tmp_path / "one", spec)
    for trials in range(3 if spec.reads.trials else 1):
        contexts = some_contexts(True, trials)
        np.testing.assert_array_equal(actions(loaded, contexts), actions(player, contexts))
    checkpoint = read_checkpoint(tmp_path / "one", spec)
    assert checkpoint.config == small(spec) != spec.config()
    assert checkpoint.parts == tuple(sorted({phase.part for _, phase in phases_of(spec, small(spec))}))
    assert loaded.source == checkpoint.source == f"{spec.name} {checkpoint.sha256[:12]}"
    assert method_name(tmp_path / "one") == spec.name

    saved(tmp_path / "other", spec, seed=1)
    assert load_player(tmp_path / "other", spec).source != loaded.source
    saved(tmp_path / "again", spec)
    for file in ("weights.safetensors", "method.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_a_checkpoint_remembers_sizes_and_no_names(tmp_path: Path) -> None:
    saved(tmp_path, cloning.SPEC)
    content = json.loads((tmp_path / "method.json").read_text())
    assert not {"name", "hidden_goal", "weight"} & set(content["family"])
    assert read_checkpoint(tmp_path, cloning.SPEC).family == replace(FAMILY.spec, name="any", hidden_goal=True)


@pytest.mark.parametrize("attempt", [0, 1])
def test_noise_is_that_with_which_a_policy_was_made(attempt: int, tmp_path: Path) -> None:
    """A run's YAML configures the methods that it trains; a checkpoint brings its own settings."""
    spec = imitation.SPEC
    quiet = replace(small(spec), exploration=ExplorationConfig(0.0, 0.0))
    contexts = some_contexts(True, attempt)
    noisy = actions(saved(tmp_path / "noisy", spec), contexts)
    without = actions(saved(tmp_path / "quiet", spec, config=quiet), contexts)
    assert np.abs(noisy - without).max() > 0.05  # the same weights
    for name, expected in (("noisy", noisy), ("quiet", without)):
        asked = [
            f"checkpoint={tmp_path / name}",
            "methods.imitation.exploration={trial_noise: 0.9, retrial_noise: 0.9}",
        ]
        plan = Plan(load_config("toy", asked))
        assert plan.config.settings_of("imitation").exploration.trial_noise == 0.9
        np.testing.assert_array_equal(actions(plan.make_player(plan.main)(FAMILY.spec), contexts), expected)


def test_a_recipe_prefers_the_checkpoint_to_settings(tmp_path: Path) -> None:
    player, contexts = saved(tmp_path, imitation.SPEC), some_contexts(True, 0)
    recipe = PlayerRecipe("imitation", imitation.SPEC.config(), tmp_path)
    np.testing.assert_array_equal(actions(recipe.player(FAMILY.spec), contexts), actions(player, contexts))


def test_settings_of_a_checkpoint_are_part_of_an_evaluation(tmp_path: Path) -> None:
    """The same weights with other noise are another method: its old numbers must not pass for the new ones."""
    identities = set()
    for name, noise in (("one", 0.1), ("two", 0.2)):
        config = replace(small(imitation.SPEC), exploration=ExplorationConfig(noise))
        saved(tmp_path / name, imitation.SPEC, config=config)
        asked = ["directory=runs/none", f"checkpoint={tmp_path / name}"]
        identities.add(Plan(load_config("toy", asked)).evaluation.identity)
    assert len(identities) == 2


def test_settings_of_an_untrained_main_method_are_part_of_an_evaluation() -> None:
    asked = ["directory=runs/none", "method=nearest_neighbour", "evaluation.methods=[]"]
    identities = {
        Plan(load_config("toy", [*asked, f"methods.nearest_neighbour.window_steps={window}"])).evaluation.identity
        for window in (5, 6)
    }
    assert len(identities) == 2


# From plain values to dataclasses.


@dataclass(frozen=True)
class Inner:
    """A number."""

    steps: int = 3


@dataclass(frozen=True)
class Outer:
    """Everything that a configuration may hold."""

    inner: Inner = Inner()
    maybe: Inner | None = None
    count: int | None = None
    sizes: tuple[int, ...] = ()
    pairs: tuple[Inner, ...] = ()
    mixed: tuple[str, Inner] = ("", Inner())


@pytest.mark.parametrize(
    "made",
    [
        Outer(),
        Outer(Inner(4), Inner(5), 6, (1, 2, 3), (Inner(7), Inner(8)), ("a", Inner(9))),
        Outer(maybe=Inner(1), pairs=(Inner(2),)),
    ],
)
def test_a_configuration_comes_back_from_json(made: Outer) -> None:
    assert from_plain(Outer, json.loads(json.dumps(asdict(made)))) == made


# What is refused.


def assert_refused(directory: Path, spec: MethodSpec, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_player(directory, spec)
    assert "\n" not in str(caught.value)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert_refused(tmp_path, cloning.SPEC, r"holds no trained method \(method.json is missing\); train it first")


@pytest.mark.parametrize("damage", ["delete", "cut", "flip"])
def test_damaged_weights(damage: str, tmp_path: Path) -> None:
    saved(tmp_path, cloning.SPEC)
    path = tmp_path / "weights.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[-2] ^= 64
        path.write_bytes(content if damage == "flip" else content[:-100])
    assert_refused(
        tmp_path, cloning.SPEC, r"weights.safetensors cannot be read \(.*\); copy it again from where it came"
    )


@pytest.mark.parametrize("garbage", ["", "{", "[]", "3", "null", "{}", '{"version": 1}', "\u00e9" * 3])
def test_a_description_that_is_none(garbage: str, tmp_path: Path) -> None:
    saved(tmp_path, cloning.SPEC)
    (tmp_path / "method.json").write_text(garbage, encoding="latin-1")
    assert_refused(tmp_path, cloning.SPEC, r"method.json cannot be read \(.*\); copy it again from where it came")
    with pytest.raises(CheckpointError):
        method_name(tmp_path)


@pytest.mark.parametrize("field", ["config", "family", "parts", "sha256"])
def test_a_description_that_lacks_something(field: str, tmp_path: Path) -> None:
    saved(tmp_path, cloning.SPEC)
    change(tmp_path, lambda content: content.pop(field))
    assert_refused(tmp_path, cloning.SPEC, rf"method.json cannot be read \(it has no '{field}'\)")


def test_another_version(tmp_path: Path) -> None:
    saved(tmp_path, cloning.SPEC)
    change(tmp_path, lambda content: content.update(version=2))
    assert_refused(tmp_path, cloning.SPEC, "method.json is of version 2, and this program reads version 1")


@pytest.mark.parametrize("spec", TRAINED[1:], ids=lambda spec: spec.name)
def test_another_methods_checkpoint(spec: MethodSpec, tmp_path: Path) -> None:
    saved(tmp_path, spec)
    assert_refused(tmp_path, imitation.SPEC, f"holds a checkpoint of {spec.name}, expected imitation")


@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
def test_other_fields_or_values_in_the_settings(spec: MethodSpec, tmp_path: Path) -> None:
    saved(tmp_path, spec)
    change(tmp_path, lambda content: content["config"].update(wings=2))
    assert_refused(tmp_path, spec, f"does not fit this version of {spec.name}: .*'wings'")
    saved(tmp_path, spec)
    change(tmp_path, lambda content: content["family"].update(wings=2))
    assert_refused(tmp_path, spec, f"does not fit this version of {spec.name}: .*'wings'")
    saved(tmp_path, spec)
    change(tmp_path, lambda content: content["family"]["layout"].update(size=3))
    assert_refused(tmp_path, spec, "an observation layout must name each of its 3 numbers")


@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
def test_weights_of_other_sizes_are_of_another_model(spec: MethodSpec, tmp_path: Path) -> None:
    saved(tmp_path, spec)

    def widen(settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            if isinstance(value, dict):
                widen(value)
            elif name == "width":
                settings[name] = 32

    change(tmp_path, lambda content: widen(content["config"]))
    assert_refused(tmp_path, spec, "is a checkpoint of another model: ")


def test_other_layers_are_named(tmp_path: Path) -> None:
    saved(tmp_path, imitation.SPEC)
    change(tmp_path, lambda content: content["config"]["trial"]["network"].update(encoder_layers=2))
    assert_refused(tmp_path, imitation.SPEC, r"is a checkpoint of another model: .*encoder\.1\.")


def test_a_value_of_another_type_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, cloning.SPEC)
    change(tmp_path, lambda content: content["config"].update(width="wide"))
    assert_refused(tmp_path, cloning.SPEC, "CloningConfig.width must be a whole number")


def test_networks_that_an_earlier_phase_has_trained_are_all_there(tmp_path: Path) -> None:
    saved(tmp_path, imitation.SPEC)
    networks = load_networks(read_checkpoint(tmp_path, imitation.SPEC), imitation.SPEC)
    expected = networks_of(imitation.SPEC, small(imitation.SPEC))
    assert networks.keys() == expected.keys() == {"trial", "retrial", "uninformed"}
    for part, network in networks.items():
        for name, tensor in network.state_dict().items():
            assert tensor.equal(expected[part].state_dict()[name]), (part, name)
