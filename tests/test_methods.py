"""Every method keeps its word: what holds for the whole registry, and methods that other packages bring."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_episodes import (
    FAMILY,
    REGIMES,
    attempt_of,
    networks_of,
    phases_of,
    small,
    some_contexts,
    tiny_batch,
    toy_episodes,
)

from wtl.core.episode import Context
from wtl.methods import cloning, mil, registry
from wtl.methods.registry import METHODS, PlayerRecipe, find_method, known_methods
from wtl.methods.spec import MethodSpec, Phase
from wtl.play.policy import Player
from wtl.play.rollout import RolloutSettings, play

NAMES = [spec.name for spec in METHODS]
PLAYABLE = [spec for spec in METHODS if not spec.missing]
TRAINED = [spec for spec in PLAYABLE if phases_of(spec, small(spec))]


def player_of(spec: MethodSpec, seed: int = 0) -> Player:
    config = small(spec)
    return spec.player(config, FAMILY.spec, networks_of(spec, config, seed), spec.name)


def readable(spec: MethodSpec) -> Iterator[list[Context]]:
    """Contexts of every kind that a spec says it reads."""
    kinds = {"required": (True,), "optional": (True, False), "ignored": (False, True)}[spec.reads.demonstrations]
    for demonstrations in kinds:
        for trials in range(3 if spec.reads.trials else 1):
            yield some_contexts(demonstrations, trials)


# What holds for the whole registry.


def test_names_are_distinct_and_summaries_are_one_sentence() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for spec in METHODS:
        assert spec.name.isidentifier() and spec.name == spec.name.lower()
        assert spec.summary[0].isupper() and spec.summary.endswith("."), spec.summary
        assert spec.summary.count(". ") == 0 and len(spec.summary) < 120, spec.summary


@pytest.mark.parametrize("spec", METHODS, ids=NAMES)
def test_the_defaults_build_and_are_frozen(spec: MethodSpec) -> None:
    config = spec.config()
    assert config == spec.config() and hash(config) == hash(spec.config())
    assert config.__dataclass_params__.frozen
    for _, phase in phases_of(spec, config):
        assert spec.network is not None and spec.learner is not None
        network = spec.network(config, FAMILY.spec, phase.part)
        assert spec.learner(config, FAMILY.spec, phase.part, network).network is network
    assert all(isinstance(value, (str, int, float)) for value in spec.headline(config).values())


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
def test_phases_are_in_order(spec: MethodSpec, regime: Any) -> None:
    try:
        phases = spec.phases(spec.config(), regime)
    except ValueError as error:
        assert regime == "none" and "\n" not in str(error) and spec.reads.demonstrations == "required"
        return
    names = [phase.name for phase in phases]
    assert phases and len(set(names)) == len(names)
    for number, phase in enumerate(phases):
        assert phase.name and "/" not in phase.name
        if phase.start_from:  # only what an earlier phase has trained can be gone on from
            assert phase.start_from in {before.part for before in phases[:number]}
        low, high = phase.needs.trials
        assert 0 <= low <= high
        # Trials are there before they are read.
        collected = any(before.collection for before in phases[: number + 1])
        assert not high or collected or phase.borrows_trials or phase.graded
    rounds = [phase.collection.round_number for phase in phases if phase.collection]
    assert rounds == list(range(len(rounds)))


@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
def test_every_phase_has_a_finite_loss_and_gradients(spec: MethodSpec) -> None:
    config = small(spec)
    networks = networks_of(spec, config)
    seen: set[tuple[Any, ...]] = set()
    for regime, phase in phases_of(spec, config):
        if (regime, phase.part, phase.needs) in seen or (regime == "none" and spec.reads.demonstrations == "required"):
            continue
        seen.add((regime, phase.part, phase.needs))
        assert spec.learner is not None
        learner = spec.learner(config, FAMILY.spec, phase.part, networks[phase.part])
        losses = learner.loss(tiny_batch(phase, regime))
        assert losses.named()["total"] is losses.total and torch.isfinite(losses.total), (regime, phase.name)
        learner.network.zero_grad()
        losses.total.backward()
        gradients = [p.grad for p in learner.network.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("spec", PLAYABLE, ids=lambda spec: spec.name)
def test_every_method_plays_in_the_contexts_that_it_reads(spec: MethodSpec) -> None:
    player = player_of(spec)
    assert player.source == spec.name
    for contexts in readable(spec):
        episodes = play(attempt_of(contexts), player, RolloutSettings(4))
        assert len(episodes) == 3 and {episode.source for episode in episodes} == {spec.name}
        for episode in episodes:
            actions = episode.trajectory.actions
            assert actions.shape == (4, 2) and np.isfinite(actions).all() and np.abs(actions).max() <= 1.0
        again = play(attempt_of(contexts), player, RolloutSettings(4))
        for one, other in zip(episodes, again, strict=True):
            np.testing.assert_array_equal(one.trajectory.actions, other.trajectory.actions)


@pytest.mark.parametrize("spec", PLAYABLE, ids=lambda spec: spec.name)
def test_what_a_method_says_that_it_reads_is_what_it_reads(spec: MethodSpec) -> None:
    """A demonstration that is required is missed with one sentence; what is ignored changes nothing."""
    player = player_of(spec)
    if spec.reads.demonstrations == "required":
        with pytest.raises(ValueError) as caught:
            play(attempt_of([Context()] * 3), player, RolloutSettings(2))
        assert "\n" not in str(caught.value)

    def first_steps(contexts: list[Context]) -> np.ndarray:
        episodes = play(attempt_of(contexts), player, RolloutSettings(3))
        return np.stack([episode.trajectory.actions for episode in episodes])

    alone = first_steps(some_contexts(True, 0))
    other = [replace(c, demonstrations=(toy_episodes("demonstration")[-1].trajectory,)) for c in some_contexts(True, 0)]
    assert (alone == first_steps(other)).all() == (spec.reads.demonstrations == "ignored")
    if not spec.reads.trials:
        np.testing.assert_array_equal(alone, first_steps(some_contexts(True, 2)))
    else:
        solved = [c.with_trial(toy_episodes("trial")[-1].trajectory) for c in some_contexts(True, 0)]
        assert all(context.solved for context in solved)
        assert (alone != first_steps(solved)).any()


@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
def test_settings_of_a_phase_are_plain_and_hold_what_it_depends_on(spec: MethodSpec) -> None:
    """They are what a stage on disk is compared with."""
    import json

    for _, phase in phases_of(spec, small(spec)):
        assert json.loads(json.dumps(phase.settings))
        other = spec.config()  # other sizes, so another outcome
        same_name: list[Phase] = [p for _, p in phases_of(spec, other) if p.name == phase.name]
        assert all(p.settings != phase.settings for p in same_name)


# Methods that other packages bring.

OUTSIDE = '''
from dataclasses import dataclass
import numpy as np
from wtl.methods.spec import MethodSpec, Reads
from wtl.play.policy import FromContext

@dataclass(frozen=True)
class Config:
    """How it stands still."""
    pace: float = 0.5

@dataclass(frozen=True)
class Still:
    config: Config
    source: str
    def adapt(self, contexts, seeds):
        return self
    def act(self, step):
        return np.full((len(step.rows), 2), self.config.pace)

SPEC = MethodSpec("still", "A method that stands still.", Config,
                  lambda config, spec, networks, source: FromContext(Still(config, source)),
                  Reads(demonstrations="ignored"))
NOT_A_SPEC = 3
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of somebody else, importable."""
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "still.py").write_text(OUTSIDE)
    (package / "broken.py").write_text("import no_such_module_anywhere")
    (package / "garbled.py").write_text("def (:")
    (package / "impostor.py").write_text(OUTSIDE.replace('"still"', '"cloning"'))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    known_methods.cache_clear()
    yield "theirs.still:SPEC"
    known_methods.cache_clear()
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]


def test_a_method_is_found_at_its_address_and_plays(outside: str) -> None:
    spec = find_method(outside)
    assert (spec.name, find_method(outside)) == ("still", spec)
    player = PlayerRecipe(outside, spec.config(pace=0.25)).player(FAMILY.spec)
    (episode,) = play(attempt_of([Context()]), player, RolloutSettings(3))
    assert (episode.trajectory.actions == 0.25).all() and episode.source == "still"


def test_its_settings_come_from_the_configuration(outside: str) -> None:
    from wtl.app.config import ConfigError, load_config

    config = load_config("toy", [f"method={outside}", "methods.still.pace=0.75"])
    assert config.settings_of(outside).pace == 0.75
    with pytest.raises(ConfigError, match=r"methods.still.*pce"):
        load_config("toy", [f"method={outside}", "methods.still.pce=0.75"])


@pytest.mark.parametrize(
    "address, sentence",
    [
        ("theirs.still:NOT_A_SPEC", "theirs.still:NOT_A_SPEC is no method: expected a MethodSpec, got int"),
        ("theirs.still:SPCE", "there is no method at 'theirs.still:SPCE'.*expected package.module:SPEC"),
        ("theirs.nothing:SPEC", "there is no method at 'theirs.nothing:SPEC' .*No module named"),
        ("theirs.broken:SPEC", "there is no method at .*no_such_module_anywhere"),
        ("theirs.garbled:SPEC", "there is no method at 'theirs.garbled:SPEC' .*invalid syntax"),
        (".still:SPEC", "there is no method at '.still:SPEC' "),
        (":SPEC", "there is no method at ':SPEC' "),
        ("theirs.impostor:SPEC", "theirs.impostor:SPEC is a method named 'cloning', which is taken"),
        ("magic", "unknown method 'magic'; known are imitation, .*or give package.module:SPEC"),
    ],
)
def test_what_is_no_method_is_one_sentence(outside: str, address: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        find_method(address)
    assert "\n" not in str(caught.value)


def test_a_method_of_this_package_has_an_address_too() -> None:
    assert find_method("wtl.methods.mil:SPEC") is mil.SPEC is find_method("mil")


def install(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    """As if a package were installed that names these in the group of methods."""
    points = [importlib.metadata.EntryPoint("any", value, registry.GROUP) for value in values]

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        assert group == "wtl.methods"
        return points

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    known_methods.cache_clear()


def test_methods_of_installed_packages_have_names(outside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown method 'still'"):
        find_method("still")
    install(monkeypatch, outside)
    assert find_method("still") is find_method(outside)
    assert list(known_methods()) == [*NAMES, "still"]


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("theirs.impostor:SPEC", "entry point theirs.impostor:SPEC brings a method named 'cloning', which is taken"),
        ("theirs.still:NOT_A_SPEC", "theirs.still:NOT_A_SPEC is no method"),
        ("theirs.broken:SPEC", "entry point theirs.broken:SPEC cannot be loaded .*no_such_module_anywhere"),
    ],
)
def test_an_installed_package_that_brings_no_method_is_one_sentence(
    outside: str, monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    install(monkeypatch, value)
    with pytest.raises(ValueError, match=sentence) as caught:
        find_method("cloning")
    assert "\n" not in str(caught.value)


def test_a_recipe_is_small_and_names_the_method_only() -> None:
    import pickle

    recipe = PlayerRecipe("cloning", None, Path("somewhere"))
    assert pickle.loads(pickle.dumps(recipe)) == recipe and len(pickle.dumps(recipe)) < 500
    assert cloning.SPEC.reads.demonstrations == "ignored"
