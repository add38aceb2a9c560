"""`import wtl`: what a researcher uses from a file of her own or a notebook."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import ToyRun
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_episodes import FAMILY, toy_episodes

import wtl

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "my_evaluation.py"
NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"
SMALL = "tasks={goals_per_family: 2, validation_goals_per_family: 2, test_goals_per_family: 3}"


def arrays(episode: wtl.Episode) -> dict[str, np.ndarray]:
    names = ("observations", "actions", "rewards", "successes")
    return {name: getattr(episode.trajectory, name) for name in names}


def test_importing_is_quick_and_every_name_is_there() -> None:
    code = "import sys, wtl; assert not {'torch', 'pandas', 'metaworld', 'numpy'} & set(sys.modules); print(dir(wtl))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in wtl.__all__:
        assert name in done.stdout and getattr(wtl, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wtl.nothing  # noqa: B018


def test_a_context_is_made_from_arrays_in_order_or_by_name() -> None:
    own = arrays(toy_episodes("demonstration")[0])
    by_name, in_order = wtl.make_context([own]), wtl.make_context([list(own.values())], trials=[own])
    assert np.array_equal(by_name.demonstrations[0].actions, in_order.trials[0].actions)
    with pytest.raises(ValueError, match="missing: rewards, successes"):
        wtl.make_context([{"observations": own["observations"], "actions": own["actions"]}])
    with pytest.raises(ValueError, match="in this order; got 2 arrays"):
        wtl.make_context([[own["observations"], own["actions"]]])
    with pytest.raises(ValueError, match=r"demonstration 0 has (\d+) actions and \1 observations, expected \d+"):
        wtl.make_context([{**own, "observations": own["observations"][1:]}])


def at(array: np.ndarray, place: int, value: Any) -> np.ndarray:
    changed = array.astype(object if isinstance(value, str) else np.result_type(array, np.asarray(value)))
    changed.flat[place % array.size] = value
    return changed


DAMAGE = st.one_of(
    st.builds(lambda value, place: lambda array: at(array, place, value),
              st.sampled_from([np.nan, np.inf, -np.inf, 1e300, "0.5", 1j]), st.integers(0, 999)),
    st.sampled_from([
        lambda array: array[:-1], lambda array: array[..., None, None], lambda array: None, lambda array: "numbers",
        lambda array: array.astype(str), lambda array: [[1.0], [1.0, 2.0]], lambda array: array[:0],
        lambda array: array.astype(complex), lambda array: np.zeros(array.shape, "datetime64[s]"), lambda array: {},
    ]),
)  # fmt: skip


@given(st.sampled_from(["observations", "actions", "rewards", "successes"]), DAMAGE, st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_context_of_other_things_than_numbers_is_one_sentence(name: str, damage: Any, as_trial: bool) -> None:
    sound = arrays(toy_episodes("demonstration")[0])
    wrong = {**sound, name: damage(sound[name])}
    what = "trial" if as_trial else "demonstration"
    with pytest.raises(ValueError, match=f"^{what} 1[ :]") as caught:
        wtl.make_context(**{f"{what}s": [sound, wrong]})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("episodes", [3, None, "abc", {"observations": 1}, [3], [None], ["abcd"], [[1, 2]], [{}]])
def test_a_context_of_no_episodes_is_one_sentence(episodes: Any) -> None:
    with pytest.raises(ValueError, match="^demonstrations? (0 )?(must be|needs)"):
        wtl.make_context(episodes)
    with pytest.raises(ValueError, match="^trials? (0 )?(must be|needs)"):
        wtl.make_context(trials=episodes)


@pytest.fixture(scope="module")
def trained(toy_run: ToyRun) -> wtl.Trained:
    checkpoint = toy_run.plan.checkpoint(toy_run.plan.main)
    assert checkpoint is not None
    return wtl.load(checkpoint)


def test_a_trained_method_acts_in_any_loop_as_in_an_evaluation(trained: wtl.Trained) -> None:
    """A loop of one's own, `play_episode` and the package's own play give the same episode."""
    shown, task = toy_episodes("demonstration")[1], FAMILY.sample_tasks(1, 0, "test")[0]
    context = wtl.make_context([arrays(shown)])
    environment = FAMILY.make_environment()
    agent, actions = trained.agent(context, seed=3), []
    observation, _ = environment.reset(options={"task": task})
    for _ in range(FAMILY.spec.horizon_steps):
        actions.append(agent.act(observation))
        observation, *_ = environment.step(actions[-1])
    whole = wtl.RolloutSettings(FAMILY.spec.horizon_steps, after_success_steps=None)
    trial = wtl.play_episode(environment, trained.agent(context, 3), options={"task": task}, settings=whole)
    assert np.array_equal(trial.actions, np.stack(actions))
    again = trained.agent(context.with_trial(trial), 4).act(observation)
    assert again.shape == (2,) and np.abs(again).max() <= 1


def test_what_an_agent_cannot_read_is_said(trained: wtl.Trained) -> None:
    size = FAMILY.spec.layout.size
    wide = np.zeros((3, size + 1)), np.zeros((2, 2)), np.zeros(2), np.zeros(2, bool)
    with pytest.raises(ValueError, match=f"reads observations of {size} numbers, the context holds {size + 1}"):
        trained.agent(wtl.make_context([wide]))
    agent = trained.agent(wtl.make_context([arrays(toy_episodes("demonstration")[0])]))
    with pytest.raises(ValueError, match=rf"of shape \({size},\), got \(39,\)"):
        agent.act(np.zeros(39))
    with pytest.raises(ValueError, match="was given an observation that is not finite at step 0"):
        agent.act(np.full(size, np.nan))
    for nonsense in ("x" * size, None, {}):
        with pytest.raises(ValueError, match="reads observations of (numbers|shape)"):
            agent.act(nonsense)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="agent reads what `make_context` returns, got NoneType"):
        trained.agent(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be a whole number, got 'x'"):
        trained.agent(seed="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no trained method in 'nowhere'; give the folder of one, or .*ml45"):
        wtl.load("nowhere")


class Walk(gymnasium.Env):
    """Somebody's environment: along a line to 1, one array for all observations, ends by itself."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.state = np.full(FAMILY.spec.layout.size, float(seed or 0) / 10)
        return self.state, {}

    def step(self, action: np.ndarray) -> Any:
        self.state += float(action[0]) * 0.0 + 0.25
        done = bool(self.state[0] >= 1)
        return self.state, 1.0, done, False, {"success": done}


def test_any_gymnasium_environment_is_played(trained: wtl.Trained) -> None:
    context = wtl.make_context([arrays(toy_episodes("demonstration")[0])])
    trial = wtl.play_episode(Walk(), trained.agent(context), seed=5)
    assert trial.observations[:, 0].tolist() == [0.5, 0.75, 1.0]
    assert trial.success and len(trial) == 2


def test_episodes_are_written_and_read_back(tmp_path: Path) -> None:
    episodes = toy_episodes("demonstration")
    store = wtl.write_episodes(tmp_path / "mine", episodes, per_file=2)
    assert len(list((tmp_path / "mine").glob("shard-*"))) == -(-len(episodes) // 2)
    for old, new in zip(episodes, wtl.read_episodes(tmp_path / "mine"), strict=True):
        assert (old.task, old.seed) == (new.task, new.seed)
        assert all(np.array_equal(a, b) for a, b in zip(arrays(old).values(), arrays(new).values(), strict=True))
    assert len(store) == len(episodes)
    with pytest.raises(ValueError, match="holds episodes already"):
        wtl.write_episodes(tmp_path / "mine", episodes)
    with pytest.raises(ValueError, match="there are no episodes to write into"):
        wtl.write_episodes(tmp_path / "none" / "deep", [])
    with pytest.raises(ValueError, match=r"entry 1 is no episode \(`wtl.Episode`\) but NoneType"):
        wtl.write_episodes(tmp_path / "none" / "deep", [episodes[0], None])  # type: ignore[list-item]
    for count in (0, -1, 1.5):
        with pytest.raises(ValueError, match="per_file must be"):
            wtl.write_episodes(tmp_path / "none" / "deep", episodes, per_file=count)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class Still:
    """A policy that ignores everything."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        return np.zeros((len(observations), 2))


class Repeats:
    """A method that plays the newest trial, or the demonstration, again."""

    source = "repeats"

    def adapt(self, contexts: Any, seeds: Any) -> Any:
        made = Repeats()
        made.actions = [(c.trials or c.demonstrations)[-1].actions for c in contexts]  # type: ignore[attr-defined]
        return made

    def act(self, step: wtl.StepBatch) -> np.ndarray:
        return np.stack([self.actions[r][min(step.number, len(self.actions[r]) - 1)] for r in step.rows])  # type: ignore[attr-defined]


def test_any_policy_is_evaluated_with_controls_beside_the_methods_that_need_no_training(tmp_path: Path) -> None:
    controls = "evaluation.controls=[blind_retry,shuffled_trial]"
    results = wtl.evaluate(Repeats(), "toy", [SMALL, controls], directory=tmp_path / "mine")
    played = {(row.method, row.control): row.main for row in results.rows.itertuples()}
    assert played == {
        ("Repeats", ""): True, ("Repeats", "blind_retry"): True, ("Repeats", "shuffled_trial"): True,
        ("nearest_neighbour", ""): False, ("expert", ""): False,
    }  # fmt: skip
    assert results.rows.query("method == 'Repeats'")["attempt"].max() == 2
    assert (results.rows["entry_digest"] != "").all() and results.hidden_goal_families
    made = json.loads((tmp_path / "mine" / "evaluation" / "manifest.json").read_text())["results"]
    assert made["episodes"] == len(results.rows) and len(made["entries"]) == 12
    assert "success of Repeats in % by family" in wtl.report({"mine": tmp_path / "mine"})
    wtl.draw_curves({"mine": results}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="holds an evaluation already"):
        wtl.evaluate(Repeats(), "toy", [SMALL], directory=tmp_path / "mine")


def test_a_policy_that_ignores_contexts_plays_attempt_0_and_nothing_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    results = wtl.evaluate(Still(), "toy", [SMALL, "evaluation.methods=[]"], name="still")
    assert set(results.rows["method"]) == {"still"} and set(results.rows["attempt"]) == {0}
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="a policy has adapt.* or act.*; int has neither"):
        wtl.evaluate(7, "toy", [SMALL])  # type: ignore[arg-type]


class SomethingElse:
    def adapt(self, contexts: Any, seeds: Any) -> Any:
        return len


@pytest.mark.parametrize(
    ("make", "how", "sentence"),
    [
        (lambda: Still, {}, r"a policy is an object, and Still is a class; give Still\(...\)"),
        (lambda: "ml45", {}, "str has neither"),
        (Still, {"name": "a\nb"}, "name must be text without control characters"),
        (Still, {"name": " "}, "name must be text that can be seen"),
        (Still, {"name": 3}, "name must be text, got 3"),
        (Still, {"overrides": "seed=3"}, r"overrides must be a list of key=value, got the text 'seed=3'"),
        (lambda: wtl.load("ml45"), {}, "was trained for families of other sizes"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence_and_nothing_is_written(
    make: Any, how: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        wtl.evaluate(make(), "toy", **{"overrides": [SMALL], **how}, directory=tmp_path / "deep" / "run")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_an_object_that_adapts_to_no_policy_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"an object with act\(step\), got <built-in function len>"):
        wtl.evaluate(SomethingElse(), "toy", [SMALL])  # type: ignore[arg-type]


def test_what_is_no_evaluation_is_not_reported(tmp_path: Path) -> None:
    for runs in ({}, [tmp_path], {"a": 3}, 3):
        with pytest.raises(ValueError, match=r"(expected evaluations by the names to show|must be results of an)"):
            wtl.report(runs)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"(expected evaluations by the names to show|must be results of an)"):
            wtl.draw_curves(runs, tmp_path / "curve.png")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_evaluated_from_python_gives_the_numbers_of_the_run(trained: wtl.Trained, toy_run: ToyRun) -> None:
    overrides = [one for one in toy_run.arguments if not one.startswith(("directory", "executor"))]
    rows = wtl.evaluate(trained, "toy", overrides).rows.query("method == 'imitation'")
    before = wtl.read_results(toy_run.root).rows.query("method == 'imitation'")
    names = ["control", "task", "attempt", "success", "steps", "entry_digest"]
    assert sorted(map(tuple, rows[names].to_numpy())) == sorted(map(tuple, before[names].to_numpy()))


def test_evaluating_ones_own_policy_takes_ten_lines_in_a_file_outside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = EXAMPLE.read_text()
    docstring = ast.parse(source).body[0]
    lines = source.splitlines()[docstring.end_lineno :]
    assert len([line for line in lines if line.strip()]) <= 10
    for name in (EXAMPLE.name, "my_policy.py"):
        (tmp_path / name).write_text((EXAMPLE.parent / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path(EXAMPLE.name, run_name="__main__")
    said = capsys.readouterr().out
    assert "| ↳ blind_retry |" in said and "| 1 - 0 |" in said
    assert (tmp_path / "runs" / "best" / "improvement.png").is_file()
    sys.modules.pop("my_policy", None)


def cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_small_and_has_no_outputs() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert NOTEBOOK.stat().st_size < 10_000
    for cell in content["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    for source in cells():
        compile(source, str(NOTEBOOK), "exec")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_goes_from_nothing_to_a_curve(tmp_path: Path) -> None:
    """Its cells in one process, one after the other, as a kernel would run them."""
    (tmp_path / "cells.py").write_text("\n\n".join(cells()))
    done = subprocess.run([sys.executable, "cells.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "learned_transfer" in done.stdout
