"""Evaluating: one fixed list of entries, each counted once, and controls that take away what they say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ProbeRun
from strategies import PROBE, make_task, make_trajectory, same_trajectory

from wtl.analysis.results import EpisodeResult, read_results
from wtl.compute.executor import SerialExecutor
from wtl.core.episode import Context
from wtl.play.attempts import ExplorationConfig, Session
from wtl.stages import evaluate as evaluation
from wtl.stages.evaluate import (
    CONTROLS,
    Contestants,
    EntryList,
    EvaluationConfig,
    control_contexts,
    evaluate,
    make_entries,
)

CONFIG = EvaluationConfig(horizon_steps=24, after_success_steps=0, controls=CONTROLS, unit_entries=4)


def entries_of(probe_run: ProbeRun, seed: int = 0, config: EvaluationConfig = CONFIG) -> EntryList:
    return make_entries(probe_run.plan.distribution, probe_run.plan.shelf, config, seed)


def described(entries: EntryList) -> list[tuple[str, str, int]]:
    return [(s.task.name, s.demonstration_name, s.seed) for s in entries.sessions]


class Backwards(SerialExecutor):
    """Units done in the reverse order."""

    def map(self, function: Any, units: Any) -> Any:
        for index in reversed(range(len(units))):
            yield index, function(units[index])


def run(probe_run: ProbeRun, directory: Path, executor: Any = None, **changes: Any) -> tuple[EpisodeResult, ...]:
    plan = probe_run.plan
    contestants = Contestants(plan.operator(2), plan.cloning.policy, plan.mil.policy)
    arguments: dict[str, Any] = {
        "config": CONFIG, "baselines": ("cloning", "mil", "nearest_neighbour", "expert"), "progress": lambda *_: None,
    }  # fmt: skip
    return evaluate(
        plan.distribution, exploration=ExplorationConfig(0.0, spare_last=False), regime="family", shelf=plan.shelf,
        contestants=contestants, train_seed=0, seed=5, directory=directory, executor=executor or SerialExecutor(),
        **arguments | changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def played(probe_run: ProbeRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[EpisodeResult, ...]]:
    directory = tmp_path_factory.mktemp("evaluation")
    return directory, run(probe_run, directory)


# Entries.


def test_the_entries_of_a_seed_are_fixed(probe_run: ProbeRun) -> None:
    assert described(entries_of(probe_run)) == described(entries_of(probe_run))
    assert described(entries_of(probe_run)) != described(entries_of(probe_run, seed=1))


def test_an_entry_is_a_test_task_with_a_demonstration_of_another_one(probe_run: ProbeRun) -> None:
    entries = entries_of(probe_run)
    counts = Counter(s.task for s in entries.sessions)
    assert counts == dict.fromkeys(probe_run.plan.distribution.test, CONFIG.entries_per_task)
    assert len({s.seed for s in entries.sessions}) == len(entries.sessions)
    for session in entries.sessions:
        family, split, _ = session.demonstration_name.split("/")
        assert session.demonstration_name != session.task.name and (family, split) == (session.task.family, "test")


def test_entries_of_a_task_show_different_demonstrations_and_the_second_is_a_third(probe_run: ProbeRun) -> None:
    config = replace(CONFIG, split="train")
    entries = entries_of(probe_run, config=config)
    for first, second in zip(entries.sessions[::2], entries.sessions[1::2], strict=True):
        assert first.task == second.task and first.demonstration_name != second.demonstration_name
    for session, other, stranger in zip(entries.sessions, entries.second, entries.wrong, strict=True):
        assert session.demonstration and other and not same_trajectory(session.demonstration, other)
        assert stranger and not same_trajectory(session.demonstration, stranger)


# Rows.


def test_each_entry_is_counted_once_by_every_method_and_control(played: Any) -> None:
    _, rows = played
    counts = Counter((r.method, r.control, r.attempt) for r in rows)
    assert counts == dict.fromkeys(
        [("wtl", "", k) for k in (0, 1, 2)] + [("wtl", control, 1) for control in CONTROLS]
        + [(name, "", 0) for name in ("cloning", "mil", "nearest_neighbour", "expert")], 16,
    )  # fmt: skip
    for key in counts:
        own = [r.entry for r in rows if (r.method, r.control, r.attempt) == key]
        assert sorted(own) == sorted({r.entry for r in rows})


def test_the_expert_is_the_ceiling(played: Any) -> None:
    assert all(r.success for r in played[1] if r.method == "expert")


def test_the_files_are_those_that_are_documented(played: Any, probe_run: ProbeRun) -> None:
    directory, rows = played
    assert set(read_results(directory / "episodes.csv")) == set(rows)
    listed = json.loads((directory / "entries.json").read_text())
    assert [(e["task"], e["demonstration"], e["seed"]) for e in listed] == described(entries_of(probe_run, seed=5))
    families = json.loads((directory / "families.json").read_text())
    assert families == {name: {"hidden_goal": True} for name in sorted(PROBE)}


def test_units_that_are_there_are_not_played_again(probe_run: ProbeRun, played: Any, tmp_path: Path) -> None:
    directory, rows = played
    whole = (directory / "episodes.csv").read_bytes()
    units = sorted((directory / "units").iterdir())
    assert len(units) == 4
    for unit in units[1:]:
        target = tmp_path / "units" / unit.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(unit.read_bytes())
    progress: list[tuple[int, int]] = []
    assert set(run(probe_run, tmp_path, progress=lambda *p: progress.append(p))) == set(rows)
    assert progress == [(3, 4), (4, 4)]
    assert (tmp_path / "episodes.csv").read_bytes() == whole


def test_the_order_of_the_units_does_not_matter(probe_run: ProbeRun, played: Any, tmp_path: Path) -> None:
    run(probe_run, tmp_path, Backwards())
    assert (tmp_path / "episodes.csv").read_bytes() == (played[0] / "episodes.csv").read_bytes()


def test_attempts_do_not_depend_on_which_controls_are_played(probe_run: ProbeRun, played: Any, tmp_path: Path) -> None:
    bare = run(probe_run, tmp_path, config=replace(CONFIG, controls=()), baselines=())
    assert set(bare) == {r for r in played[1] if r.method == "wtl" and not r.control}


# Controls.


def a_list() -> tuple[list[Context], EntryList]:
    """Two tasks with two entries each; every trajectory is another one."""
    made = iter(range(100))
    tasks = [make_task(f"alpha/{i // 2}") for i in range(4)]
    sessions = tuple(Session(task, make_trajectory(3, next(made)), "shown", i) for i, task in enumerate(tasks))
    second = tuple(make_trajectory(4, next(made)) for _ in tasks)
    wrong = tuple(make_trajectory(5, next(made)) for _ in tasks)
    contexts = [
        Context(s.demonstration, (make_trajectory(6, next(made)), make_trajectory(6, next(made)))) for s in sessions
    ]
    return contexts, EntryList(sessions, second, wrong)


def test_controls_change_exactly_what_they_say() -> None:
    contexts, entries = a_list()
    changed = {name: control_contexts(name, contexts, entries) for name in CONTROLS}
    for i, context in enumerate(contexts):
        blind, masked = changed["blind_retry"][i], changed["masked_reward"][i]
        assert blind.demonstration is context.demonstration and blind.trials == ()
        assert masked.demonstration is context.demonstration and len(masked.trials) == 2
        for hidden, shown in zip(masked.trials, context.trials, strict=True):
            assert not hidden.outcome_known and not hidden.rewards.any() and not hidden.success
            np.testing.assert_array_equal(hidden.observations, shown.observations)
            np.testing.assert_array_equal(hidden.actions, shown.actions)
        second = changed["second_demonstration"][i]
        assert second.demonstration is context.demonstration and second.trials == (entries.second[i],)
        none = changed["no_demonstration"][i]
        assert none.demonstration is None and none.trials is context.trials
        wrong = changed["wrong_family"][i]
        assert wrong.demonstration is entries.wrong[i] and wrong.trials is context.trials


def test_a_shuffled_trial_comes_from_another_task() -> None:
    contexts, entries = a_list()
    sources = []
    for i, changed in enumerate(control_contexts("shuffled_trial", contexts, entries)):
        assert changed.demonstration is contexts[i].demonstration
        [source] = [j for j, context in enumerate(contexts) if context.trials is changed.trials]
        assert entries.sessions[source].task != entries.sessions[i].task
        sources.append(source)
    assert len(set(sources)) == 4  # spread evenly


def test_shuffling_needs_two_tasks() -> None:
    contexts, entries = a_list()
    one_task = EntryList(*(values[:2] for values in (entries.sessions, entries.second, entries.wrong)))
    with pytest.raises(ValueError, match="shuffled_trial needs entries of at least two tasks in each family"):
        control_contexts("shuffled_trial", contexts[:2], one_task)


def test_a_unit_of_one_task_can_be_shuffled_too(probe_run: ProbeRun, tmp_path: Path) -> None:
    """However the work is cut, a family with several tasks has other tasks to take a trial from."""
    config = replace(CONFIG, controls=("shuffled_trial",), unit_entries=2)
    rows = run(probe_run, tmp_path, config=config, baselines=())
    assert sum(r.control == "shuffled_trial" for r in rows) == 16


def test_an_unknown_control_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown control 'luck', known are blind_retry, shuffled_trial"):
        control_contexts("luck", *a_list())
    with pytest.raises(ValueError, match="evaluation.controls: unknown 'luck'"):
        EvaluationConfig(controls=("luck",))
    with pytest.raises(ValueError, match="evaluation.baselines: unknown 'luck'"):
        EvaluationConfig(baselines=("luck",))
    with pytest.raises(ValueError, match=r"control_attempt must lie in 1 .. evaluation.attempts \(2\), got 3"):
        EvaluationConfig(control_attempt=3)


def test_controls_without_meaning_are_left_out() -> None:
    _, entries = a_list()
    bare = EntryList(tuple(replace(s, demonstration=None) for s in entries.sessions), (None,) * 4, (None,) * 4)
    possible = [name for name in CONTROLS if evaluation._possible(name, bare)]
    assert possible == ["blind_retry", "shuffled_trial", "masked_reward"]
    assert all(evaluation._possible(name, entries) for name in CONTROLS)
