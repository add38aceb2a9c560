"""What can be checked is checked before the first stage begins, and a corrected command is not refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import tiny
from rich.console import Console

from wtl.app.checks import check_plan
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.app.plan import Plan
from wtl.methods.registry import find_method
from wtl.methods.spec import MethodSpec

PRESETS = ("toy", "quick", "ml1")


def checked(directory: Path, *overrides: str, preset: str = "toy") -> None:
    check_plan(Plan(load_config(preset, [f"directory={directory}", *overrides])))


@pytest.mark.parametrize(
    "override, sentence",
    [
        (
            "methods.imitation.retrial={first_trials_in_context: 2}",
            "imitation/retrial-0 reads up to 2 trials of a task, and of no train task are more than 1 played",
        ),
        (
            "methods.imitation.retrial={network: {max_trials: 9}, later_trials_in_context: 5}",
            "imitation/retrial-1 reads up to 5 trials of a task, and of no train task are more than 4 played",
        ),
        (
            "demonstrations.splits=[test]",
            "demonstrations.splits must hold train, whose tasks are to be shown; got test",
        ),
        ("demonstrations.splits=[train, validation]", "demonstrations.splits must hold test"),
        ("methods.cloning.train.device=cuda", "train.device is cuda, but no GPU is available"),
        ("checkpoint=ml45", "was trained for families of other sizes: their layout is "),
    ],
)
def test_a_mistake_of_a_later_stage_shows_at_once(tmp_path: Path, override: str, sentence: str) -> None:
    if "cuda" in override and __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError) as caught:
        checked(tmp_path, override)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_written_before_a_check_fails_and_the_corrected_command_goes_on(tmp_path: Path) -> None:
    wrong = "methods.imitation.retrial.first_trials_in_context=2"
    pipeline = Pipeline(load_config("toy", tiny(tmp_path / "run", wrong)), Console(quiet=True))
    with pytest.raises(ValueError, match="reads up to 2 trials"):
        pipeline.run()
    assert not (tmp_path / "run").exists()
    Pipeline(load_config("toy", tiny(tmp_path / "run")), Console(quiet=True)).run(only="demonstrations")


def test_a_stage_that_failed_at_once_may_begin_with_corrected_settings(tmp_path: Path) -> None:
    wrong = Pipeline(
        load_config("toy", tiny(tmp_path / "run", f"demonstrations.own={tmp_path / 'nowhere'}")), Console(quiet=True)
    )
    with pytest.raises(ValueError):
        wrong.run(only="demonstrations")
    Pipeline(load_config("toy", tiny(tmp_path / "run")), Console(quiet=True)).run(only="demonstrations")


def test_a_network_that_cannot_be_built_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def network(*_: object) -> None:
        raise RuntimeError("size\nmismatch")

    cloning = find_method("cloning")
    monkeypatch.setitem(vars(cloning), "network", network)
    assert isinstance(cloning, MethodSpec)
    with pytest.raises(ValueError, match=r"methods.cloning: its network policy cannot be built: size mismatch"):
        checked(tmp_path, "method=cloning")


@pytest.mark.parametrize("width, heads", [(10, 4), (1, 2)])
def test_heads_divide_the_width(tmp_path: Path, width: int, heads: int) -> None:
    with pytest.raises(ValueError, match=r"methods.imitation.trial.network: .* a multiple of network.heads, got"):
        load_config("toy", [f"methods.imitation.trial.network={{width: {width}, heads: {heads}}}"])


def test_the_presets_pass(tmp_path: Path) -> None:
    checked(tmp_path)
    checked(tmp_path, "method=trajectory_transfer")
    checked(tmp_path, "regime=none", "demonstrations.splits=[train, validation]")
