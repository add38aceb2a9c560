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
    load_config,
    preset_path,
    to_plain,
    to_yaml,
    trained_policy,
)

ALL = sorted(path.stem for path in PRESETS.glob("*.yaml"))


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
    config = load_config(
        "toy", ["trial.train.steps=7", "regime=goal", "trials.horizons_steps=[3, 4]", "trial.train.steps=8"]
    )
    assert (config.trial.train.steps, config.regime, config.trials.horizons_steps) == (8, "goal", (3, 4))
    assert config.trial.train.batch == load_config("toy", []).trial.train.batch


def plain_types(value: Any) -> set[type]:
    if dataclasses.is_dataclass(value):
        return set().union(*(plain_types(getattr(value, f.name)) for f in dataclasses.fields(value)))
    if isinstance(value, tuple):
        return {tuple}.union(*map(plain_types, value))
    return {type(value)}


def test_nothing_below_sees_omegaconf() -> None:
    config = load_config("ml10", ["tasks.train=[reach-v3, push-v3]"])
    assert plain_types(config) <= {int, float, bool, str, tuple, dict, type(None)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3  # type: ignore[misc]
    assert to_plain(config)["tasks"]["train"] == ("reach-v3", "push-v3")


@pytest.mark.parametrize(
    "override, message",
    [
        ("trial.train.stps=3", "trial.train.stps: Key 'stps' not in 'TrainConfig'. Did you mean: 'steps'?"),
        ("regim=goal", "Key 'regim' not in 'RunConfig'. Did you mean: 'regime'?"),
        ("trial.train.steps=abc", "trial.train.steps: Value 'abc' of type 'str' could not be converted to Integer"),
        (
            "tasks.goals_per_family=1.5",
            "tasks.goals_per_family: Value '1.5' of type 'float' could not be converted to Integer",
        ),
        ("workers=", "workers: Incompatible value 'None' for field of type 'int'"),
        ("regime=foo", "regime: Invalid value 'foo', expected one of ['goal', 'family', 'none']"),
        ("retrial.rounds=0", "retrial.rounds must be at least 1, got 0"),
        (
            "retrial.later_trials_in_context=9",
            "retrial.*_trials_in_context is 9, but retrial.policy.network.max_trials is 4",
        ),
        ("evaluation.controls=[blind]", "evaluation.controls: unknown 'blind', known are blind_retry, "),
        ("evaluation.baselines=[bc]", "evaluation.baselines: unknown 'bc', known are cloning, "),
        ("evaluation.control_attempt=3", "evaluation.control_attempt must lie in 1 .. evaluation.attempts (2), got 3"),
        ("trial.train.steps=0", "train.steps must be at least 1, got 0"),
        ("tasks.test_goals_per_family=1", "tasks.test_goals_per_family must be at least 2, got 1"),
        (
            "tasks={procedural_families: 5, tasks_per_procedural_family: 1}",
            "tasks.tasks_per_procedural_family must be at least 2, got 1",
        ),
        ("tasks.hidden_goal_weight=0", "tasks.hidden_goal_weight must be at least 1, got 0"),
        (
            "retrial={shared: true, policy: {network: {width: 8}}}",
            "retrial.shared goes on from the trial policy: the two policy.network must be equal",
        ),
        ("steps", "expected key=value, got 'steps'; for example retrial.train.steps=1000"),
        ("=3", "expected key=value, got '=3'"),
        ("a=[1,", "is not YAML"),
        ("trial=3", "int is not a subclass of PhaseConfig"),
        ("trials.horizons_steps=[a]", "could not be converted to Integer"),
    ],
)
def test_a_mistake_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("toy", [override])
    text = str(caught.value)
    assert message in text and "toy.yaml" in text and "\n" not in text


@pytest.mark.parametrize(
    "text, message",
    [
        ("bogus: 3\n", "Key 'bogus' not in 'RunConfig'"),
        ("trial: {train: {steps: many}}\n", "trial.train.steps: Value 'many'"),
        ("- 1\n", "Cannot merge incompatible container types"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), [])
    assert message in str(caught.value) and "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.touch()
    assert load_config(str(path), []) == RunConfig()


def test_a_file_that_is_not_there_names_the_presets() -> None:
    with pytest.raises(
        ConfigError,
        match="there is no configuration 'nope'; give a YAML file.* ml1, ml10, ml45, pretrained, quick, toy",
    ):
        load_config("nope", [])


def test_a_run_directory_is_a_configuration(tmp_path: Path) -> None:
    config = load_config("toy", ["seed=5"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert preset_path(str(tmp_path)) == tmp_path / "config.yaml"
    assert load_config(str(tmp_path), []) == config


def test_the_policy_that_comes_with_the_package_is_small_and_acts() -> None:
    from strategies import make_trajectory

    from tasks.metaworld.family import LAYOUT
    from wtl.core.episode import Context
    from wtl.methods import load_policy

    folder = trained_policy("ml45")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    shown = make_trajectory(40, layout=LAYOUT, action_size=4)
    actor = load_policy(folder, "following").actor([Context(shown)], [0])
    assert np.abs(actor.act(shown.observations[:1].copy(), np.array([0]))).max() <= 1.05
    with pytest.raises(ConfigError, match="trained: there is no policy in 'nowhere'; give the folder of one, or.*ml45"):
        trained_policy("nowhere")
