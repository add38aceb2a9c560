"""Configurations: presets load, overrides arrive, and each mistake is one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wtl.app.config import (
    PRESETS,
    ConfigError,
    RunConfig,
    checkpoint_directory,
    load_config,
    preset_path,
    to_plain,
    to_yaml,
)

ALL = sorted(path.stem for path in PRESETS.glob("*.yaml") if not path.stem.startswith("_"))


@pytest.mark.parametrize("name", ALL)
def test_every_preset_loads_and_its_resolved_form_loads_again(name: str, tmp_path: Path) -> None:
    config = load_config(name, [])
    assert isinstance(config, RunConfig) and config.directory == f"runs/{name}"
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(to_yaml(config))
    assert load_config(str(resolved), []) == config


def test_the_presets_that_the_documentation_promises_are_there() -> None:
    assert set(ALL) >= {"toy", "quick", "ml1", "ml10", "ml45", "pretrained"}


def test_overrides_come_last_and_the_later_one_wins() -> None:
    steps = "methods.imitation.trial.train.steps"
    config = load_config("toy", [f"{steps}=7", "regime=goal", "trials.horizons_steps=[3, 4]", f"{steps}=8"])
    train = config.settings_of("imitation").trial.train
    assert (train.steps, config.regime, config.trials.horizons_steps) == (8, "goal", (3, 4))
    assert train.batch == load_config("toy", []).settings_of("imitation").trial.train.batch


def plain_types(value: Any) -> set[type]:
    if dataclasses.is_dataclass(value):
        return set().union(*(plain_types(getattr(value, f.name)) for f in dataclasses.fields(value)))
    if isinstance(value, dict):
        return {dict}.union(*map(plain_types, value.values()))
    if isinstance(value, tuple):
        return {tuple}.union(*map(plain_types, value))
    return {type(value)}


def test_a_configuration_is_made_of_plain_values() -> None:
    config = load_config("ml10", ["tasks.train=[reach-v3, push-v3]"])
    assert plain_types(config) <= {int, float, bool, str, tuple, dict, type(None)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3  # type: ignore[misc]
    assert to_plain(config)["tasks"]["train"] == ("reach-v3", "push-v3")


@pytest.mark.parametrize(
    "override, message",
    [
        (
            "methods.imitation.trial.train.stps=3",
            "methods.imitation.trial.train.stps does not exist; did you mean steps?",
        ),
        ("regim=goal", "regim does not exist; did you mean regime?"),
        (
            "methods.imitation.trial.train.steps=abc",
            "methods.imitation.trial.train.steps must be a whole number, got 'abc'",
        ),
        (
            "tasks.goals_per_family=1.5",
            "tasks.goals_per_family must be a whole number, got '1.5'",
        ),
        ("workers=", "workers must be a whole number, got nothing"),
        ("regime=foo", "regime must be goal, family or none, got 'foo'"),
        ("methods.imitation.retrial.rounds=0", "methods.imitation.retrial.rounds must be between 1 and 100, got 0"),
        (
            "methods.imitation.retrial.later_trials_in_context=9",
            "retrial.*_trials_in_context is 9, but retrial.network.max_trials is 4",
        ),
        ("evaluation.controls=[blind]", "unknown control 'blind'; known are blind_retry, "),
        ("evaluation.methods=[bc]", "unknown method 'bc'; known are imitation, "),
        ("method=bc", "unknown method 'bc'; known are imitation, "),
        ("method=nowhere:SPEC", "there is no method at 'nowhere:SPEC'"),
        ("methods.bc.width=3", "methods.bc: unknown method; known are imitation, "),
        ("evaluation.control_attempt=3", "evaluation.control_attempt must lie in 1 .. evaluation.attempts (2), got 3"),
        (
            "methods.imitation.trial.train.steps=0",
            "methods.imitation.trial.train.steps must be between 1 and 1000000000, got 0",
        ),
        ("tasks.test_goals_per_family=1", "tasks.test_goals_per_family must be between 2 and 100000, got 1"),
        ("tasks.goals_per_family=1", "tasks.goals_per_family must be 0 or at least 2, got 1"),
        (
            "tasks={procedural_families: 5, tasks_per_procedural_family: 1}",
            "tasks.tasks_per_procedural_family must be between 2 and 100000, got 1",
        ),
        ("tasks.hidden_goal_weight=0", "tasks.hidden_goal_weight must be between 1 and 1000, got 0"),
        ("protocol.horizon_steps=0", "protocol.horizon_steps must be between 1 and 100000, got 0"),
        ("protocol.feedback=never", "protocol.feedback must be end or step, got 'never'"),
        (
            "methods.imitation={shared: true, retrial: {network: {width: 8}}}",
            "shared goes on from the trial policy: retrial.network and trial.network must be equal",
        ),
        ("steps", "expected key=value, got 'steps'; for example tasks.family=push-v3"),
        ("=3", "expected key=value, got '=3'"),
        ("a=[1,", "is not YAML"),
        ("methods.imitation.trial=3", "methods.imitation.trial must be a section of keys, got '3'"),
        ("trials.horizons_steps=[a]", "trials.horizons_steps must be a whole number, got 'a'"),
        ("checkpoint=nowhere", "there is no trained method in 'nowhere'; give the folder of one, or one of ml45"),
    ],
)
def test_a_mistake_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("toy", [override])
    text = str(caught.value)
    assert message in text and "\n" not in text


def test_a_method_that_cannot_be_trained_in_a_regime_says_so_at_once() -> None:
    with pytest.raises(ConfigError, match="needs something to follow; in regime `none` choose another method"):
        load_config("toy", ["method=trajectory_transfer", "regime=none"])


@pytest.mark.parametrize("preset", ["quick", "toy", "ml1"])
def test_every_method_suits_every_preset(preset: str) -> None:
    """Defaults of a method's training belong to the method, so none is refused for another one's sake."""
    for name in ("imitation", "trajectory_transfer", "cloning", "mil", "nearest_neighbour", "expert"):
        assert load_config(preset, [f"method={name}"]).method == name


def test_a_preset_may_stand_on_another_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 3\ntasks: {family: push-v3, seed: 9}\n")
    (tmp_path / "mine.yaml").write_text("base: base.yaml\ntasks: {seed: 4}\n")
    config = load_config(str(tmp_path / "mine.yaml"), [])
    assert (config.seed, config.tasks.family, config.tasks.seed) == (3, "push-v3", 4)


@pytest.mark.parametrize(
    "text, message",
    [
        ("bogus: 3\n", "bogus does not exist; the keys are directory, seed, "),
        ("methods: {mil: {train: {steps: many}}}\n", "methods.mil.train.steps must be a whole number, got 'many' ("),
        ("- 1\n", "must hold `key: value` lines"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), [])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.touch()
    config = load_config(str(path), [])
    assert dataclasses.replace(config, methods={}) == RunConfig()
    assert all(settings == type(settings)() for settings in config.methods.values())


def test_a_file_that_is_not_there_names_the_presets() -> None:
    with pytest.raises(
        ConfigError,
        match="there is no configuration 'nope'; give a YAML file.* ml1, ml10, ml45, pretrained, .*toy",
    ):
        load_config("nope", [])


def test_a_run_directory_is_a_configuration(tmp_path: Path) -> None:
    config = load_config("toy", ["seed=5"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert preset_path(str(tmp_path)) == tmp_path / "config.yaml"
    assert load_config(str(tmp_path), []) == config
    (tmp_path / "demonstrations").mkdir()
    (tmp_path / "demonstrations" / "settings.json").touch()  # now it has begun, and lies where it lies
    assert load_config(str(tmp_path), []) == dataclasses.replace(config, directory=str(tmp_path))
    assert load_config(str(tmp_path / "config.yaml"), ["directory=x"]) == dataclasses.replace(config, directory="x")


def test_the_checkpoint_that_comes_with_the_package_is_small_and_acts() -> None:
    from strategies import make_trajectory

    from wtl.core.episode import Context
    from wtl.methods.checkpoint import load_player, method_name
    from wtl.methods.registry import find_method
    from wtl.play.policy import FromContext, StepBatch
    from wtl.tasks.metaworld.family import LAYOUT

    folder = checkpoint_directory("ml45")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    player = load_player(folder, find_method(method_name(folder)))
    assert isinstance(player, FromContext)
    shown = make_trajectory(40, layout=LAYOUT, action_size=4)
    policy = player.method.adapt([Context((shown,))], [0])
    step = StepBatch(shown.observations[:1], np.array([0]), 0, np.full(1, np.nan), np.full(1, np.nan))
    assert np.abs(policy.act(step)).max() <= 1.05


def test_a_checkpoint_says_which_method_it_is() -> None:
    config = load_config("toy", ["checkpoint=ml45"])
    assert config.method == "learned_transfer"
