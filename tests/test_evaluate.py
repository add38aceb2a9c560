"""Evaluating: one fixed list of entries, each counted once, and controls that take away what they say."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from players import FixedPolicy, line_family, make_directions
from strategies import TOY, make_episode, make_task, make_trajectory, same_trajectory

from wtl.analysis.results import EpisodeResult, read_results
from wtl.compute.executor import SerialExecutor
from wtl.core.episode import Context
from wtl.core.task import Regime, TaskDistribution
from wtl.data.demonstrations import DemonstrationStore
from wtl.data.store import close_store, write_shard
from wtl.methods.registry import PlayerRecipe, find_method
from wtl.play.policy import FromContext, Policy, Session
from wtl.play.protocol import ProtocolConfig
from wtl.stages.controls import CONTROLS, Control, ControlEntry, find_control
from wtl.stages.demonstrations import DemonstrationsConfig, DemonstrationStage
from wtl.stages.evaluate import Contestant, EvaluationConfig, EvaluationStage
from wtl.tasks import make_distribution

NAMES = tuple(control.name for control in CONTROLS)
CONFIG = EvaluationConfig(controls=NAMES, unit_entries=4)
PROTOCOL = ProtocolConfig("repeated", horizon_steps=24, after_success_steps=0)
MAIN = Contestant("directions", "", make_directions, reads_trials=True)


def sampled(tasks: int = 4) -> TaskDistribution:
    return make_distribution(
        "toy", seed=1, goals_per_family=3, validation_goals_per_family=1, test_goals_per_family=tasks
    )


SMALL = sampled()


def baseline(name: str) -> Contestant:
    recipe = PlayerRecipe(name, find_method(name).config())
    return Contestant(name, name, recipe.player, reads_trials=False)


def silent(*_: Any) -> None:
    """No progress bar."""


@functools.cache
def demonstrated(root: Path, tasks: int = 4, per_task: int = 1) -> Path:
    directory = root / f"{tasks}-{per_task}"
    config = DemonstrationsConfig(splits=("train", "test"), per_task=per_task)
    DemonstrationStage(sampled(tasks), config, "family", 0).collect(directory, SerialExecutor(), silent)
    return directory


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demonstrations")


def stage_of(
    root: Path,
    *,
    config: EvaluationConfig = CONFIG,
    seed: int = 5,
    tasks: int = 4,
    per_task: int = 1,
    regime: Regime = "family",
) -> EvaluationStage:
    store = DemonstrationStore(demonstrated(root, tasks, per_task), regime)
    return EvaluationStage(sampled(tasks), config, PROTOCOL, store, regime, train_seed=0, seed=seed)


def described(sessions: Sequence[Session]) -> list[tuple[str, str, int]]:
    return [(s.task.name, s.demonstration_name, s.seed) for s in sessions]


class Backwards(SerialExecutor):
    """Units done in the reverse order."""

    def map(self, function: Any, units: Any) -> Any:
        for index in reversed(range(len(units))):
            yield index, function(units[index])


def run(
    stage: EvaluationStage,
    directory: Path,
    contestants: Sequence[Contestant] = (MAIN,),
    executor: Any = None,
    progress: Any = silent,
) -> list[EpisodeResult]:
    count = stage.evaluate(contestants, directory, executor or SerialExecutor(), progress)
    rows = list(read_results(directory / "episodes.csv"))
    assert len(rows) == count
    return rows


ALL = (MAIN, baseline("nearest_neighbour"), baseline("expert"))


@pytest.fixture(scope="module")
def played(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EpisodeResult]]:
    directory = tmp_path_factory.mktemp("evaluation")
    return directory, run(stage_of(root), directory, ALL)


# Entries.


def test_the_entries_of_a_seed_are_fixed(root: Path) -> None:
    assert described(stage_of(root).entries()) == described(stage_of(root).entries())
    assert described(stage_of(root).entries()) != described(stage_of(root, seed=1).entries())


def test_an_entry_is_a_test_task_with_a_demonstration_of_another_one(root: Path) -> None:
    entries = stage_of(root).entries()
    assert Counter(s.task for s in entries) == dict.fromkeys(SMALL.test, CONFIG.entries_per_task)
    assert len({s.seed for s in entries}) == len(entries)
    for session in entries:
        family, split, _ = session.demonstration_name.split("/")
        assert session.demonstration_name != session.task.name and (family, split) == (session.task.family, "test")


def test_entries_of_a_task_show_different_demonstrations(root: Path) -> None:
    entries = stage_of(root).entries()
    for first, second in zip(entries[::2], entries[1::2], strict=True):
        assert first.task == second.task and first.demonstration_name != second.demonstration_name


def test_the_record_names_the_very_demonstrations_that_stand_in_the_context(root: Path) -> None:
    """Several demonstrations of a task have one name, and which of them was shown must not be guessed from it."""
    entries = stage_of(root, per_task=3).entries()
    assert len({s.demonstrations[0].seed for s in entries}) > len(SMALL.test)  # not always the first of its task
    for session in entries:
        assert session.context.demonstrations == tuple(e.trajectory for e in session.demonstrations)
        assert session.context.trials == ()


# Rows.


def test_each_entry_is_counted_once_by_every_method_and_control(played: Any) -> None:
    _, rows = played
    counts = Counter((r.method, r.control, r.attempt) for r in rows)
    assert counts == dict.fromkeys(
        [("directions", "", k) for k in (0, 1, 2)] + [("directions", control, 1) for control in NAMES]
        + [(name, "", 0) for name in ("nearest_neighbour", "expert")], 16,
    )  # fmt: skip
    for key in counts:
        own = [r.entry for r in rows if (r.method, r.control, r.attempt) == key]
        assert sorted(own) == sorted({r.entry for r in rows})


def test_the_expert_is_the_ceiling(played: Any) -> None:
    assert all(r.success for r in played[1] if r.method == "expert")


def test_the_files_are_those_that_are_documented(played: Any, root: Path) -> None:
    directory, _ = played
    listed = json.loads((directory / "entries.json").read_text())
    assert [(e["task"], e["demonstration"], e["seed"]) for e in listed] == described(stage_of(root).entries())
    families = json.loads((directory / "families.json").read_text())
    assert families == {name: {"hidden_goal": True} for name in sorted(TOY)}


def test_units_that_are_there_are_not_played_again(root: Path, played: Any, tmp_path: Path) -> None:
    directory, rows = played
    units = sorted((directory / "units").iterdir())
    assert [unit.suffix for unit in units] == 4 * [".csv"] + [".sha256"]
    for unit in units[1:]:
        target = tmp_path / "units" / unit.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(unit.read_bytes())
    progress: list[tuple[int, int]] = []
    assert run(stage_of(root), tmp_path, ALL, progress=lambda *p: progress.append(p)) == rows
    assert progress == [(3, 4), (4, 4)]
    assert (tmp_path / "episodes.csv").read_bytes() == (directory / "episodes.csv").read_bytes()


def test_the_order_of_the_units_does_not_matter(root: Path, played: Any, tmp_path: Path) -> None:
    run(stage_of(root), tmp_path, ALL, Backwards())
    assert (tmp_path / "episodes.csv").read_bytes() == (played[0] / "episodes.csv").read_bytes()


def test_attempts_do_not_depend_on_which_controls_are_played(root: Path, played: Any, tmp_path: Path) -> None:
    bare = run(stage_of(root, config=replace(CONFIG, controls=())), tmp_path)
    assert set(bare) == {r for r in played[1] if r.method == "directions" and not r.control}


@pytest.mark.parametrize("size", [1, 5, 100])
def test_no_result_depends_on_how_work_is_cut(root: Path, played: Any, tmp_path: Path, size: int) -> None:
    """Above all the shuffled trials: whose they are is settled before anything is cut."""
    rows = run(stage_of(root, config=replace(CONFIG, unit_entries=size)), tmp_path)
    assert len(list((tmp_path / "units").glob("*.csv"))) == {1: 8, 5: 4, 100: 2}[size]
    own = [r for r in played[1] if r.method == "directions"]
    assert {r.control for r in rows} == {"", *NAMES} and set(rows) == set(own)


def test_another_label_draws_other_numbers(root: Path, played: Any, tmp_path: Path) -> None:
    twin = Contestant("twin", "twin", make_directions, reads_trials=False)
    rows = {r.entry: r.total_reward for r in run(stage_of(root), tmp_path, (twin,))}
    own = {r.entry: r.total_reward for r in played[1] if (r.method, r.control, r.attempt) == ("directions", "", 0)}
    assert rows.keys() == own.keys() and not any(rows[entry] == own[entry] for entry in own)


# Controls.


def entries_of(stage: EvaluationStage) -> list[ControlEntry]:
    return [entry for unit in stage.units(Path("nowhere"), ()) for entry in unit.entries]


def test_spare_and_stranger_are_other_demonstrations(root: Path) -> None:
    for entry in entries_of(stage_of(root)):
        shown = entry.session.context.demonstration
        assert shown and entry.spare and entry.stranger
        assert not same_trajectory(shown, entry.spare) and not same_trajectory(shown, entry.stranger)


@pytest.mark.parametrize("tasks", [2, 3, 4, 5])
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_partners_are_of_another_task_whatever_the_cut(root: Path, tasks: int, copies: int) -> None:
    found = {}
    for size in (1, 3, 100):
        stage = stage_of(root, tasks=tasks, config=replace(CONFIG, entries_per_task=copies, unit_entries=size))
        pairs = []
        for unit in stage.units(Path("nowhere"), ()):
            for entry in unit.entries:
                assert entry.partner is not None
                partner = unit.entries[entry.partner].session
                assert partner.task.parameters != entry.session.task.parameters
                assert partner.task.family == entry.session.task.family
                pairs.append((entry.session.seed, partner.seed))
        assert len({partner for _, partner in pairs}) == len(pairs)  # spread evenly
        found[size] = sorted(pairs)
    assert found[1] == found[3] == found[100]


def test_a_family_with_one_task_plays_no_shuffled_control(tmp_path: Path) -> None:
    """Its entries have nobody to take a trial from; the other controls are played."""
    family = line_family("lonely")
    [task] = family.sample_tasks(1, 0, "test")
    shown = [make_episode(replace(make_task(f"shown/{i}", "lonely", "test")), seed=i) for i in range(3)]
    write_shard(tmp_path / "shown", 0, shown)
    close_store(tmp_path / "shown", 1)
    store = DemonstrationStore(tmp_path / "shown", "family")
    distribution = TaskDistribution({"lonely": family}, (), (), (task,))
    stage = EvaluationStage(
        distribution, CONFIG, ProtocolConfig(horizon_steps=3), store, "family", train_seed=0, seed=0
    )
    assert [entry.partner for entry in entries_of(stage)] == [None, None]
    rows = run(stage, tmp_path / "evaluation", [Contestant("still", "", lambda spec: FixedPolicy(), True)])
    assert {r.control for r in rows} == {"", *NAMES} - {"shuffled_trial", "wrong_family"}  # nor is there a stranger


def test_the_stranger_is_of_the_next_family(tmp_path: Path) -> None:
    """As in earlier runs; with one family's demonstration for all, the control would ask about that family."""
    families = {name: line_family(name) for name in ("one", "two", "three")}
    shown = [make_episode(make_task(f"{name}/{i}", name, "test"), seed=10 * n + i)
             for n, name in enumerate(families) for i in range(3)]  # fmt: skip
    write_shard(tmp_path, 0, shown)
    close_store(tmp_path, 1)
    tasks = tuple(task for family in families.values() for task in family.sample_tasks(2, 0, "test"))
    store = DemonstrationStore(tmp_path, "family")
    stage = EvaluationStage(
        TaskDistribution(families, (), (), tasks), CONFIG, PROTOCOL, store, "family", train_seed=0, seed=0
    )
    strangers = {}
    for entry in entries_of(stage):
        [of] = [e.task.family for e in shown if entry.stranger and same_trajectory(e.trajectory, entry.stranger)]
        strangers.setdefault(entry.session.task.family, set()).add(of)
    assert strangers == {"one": {"two"}, "two": {"three"}, "three": {"one"}}


@dataclass(frozen=True)
class Noting:
    """A method that stands still and notes every batch of contexts that it reads."""

    batches: list[list[Context]]
    source: str = "noting"

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        self.batches.append(list(contexts))
        return FixedPolicy(lambda rows: np.zeros((len(rows), 2)))


def test_controls_show_exactly_what_they_say(root: Path, tmp_path: Path) -> None:
    """The contexts that a method is handed, of one unit: attempt 0, every control, attempts 1 and 2."""
    noted = Noting([])
    stage = stage_of(root, config=replace(CONFIG, unit_entries=100))
    [first, _] = stage.units(tmp_path, [])
    run(stage, tmp_path, [Contestant("noting", "", lambda spec: FromContext(noted), True)])
    zero, *controls, one, two = noted.batches[: 3 + len(NAMES)]
    assert [len(c.trials) for c in (zero[0], one[0], two[0])] == [0, 1, 2]
    shown = dict(zip(NAMES, controls, strict=True))
    for i, (entry, before, context) in enumerate(zip(first.entries, zero, one, strict=True)):
        [demonstration] = before.demonstrations
        assert same_trajectory(demonstration, entry.session.demonstrations[0].trajectory)
        assert context.demonstration is demonstration and entry.spare and entry.stranger
        assert shown["blind_retry"][i].trials == () and shown["blind_retry"][i].demonstration is demonstration
        assert entry.partner is not None
        shuffled = shown["shuffled_trial"][i]
        assert shuffled.trials == one[entry.partner].trials and shuffled.demonstration is demonstration
        [masked], [true] = shown["masked_reward"][i].trials, context.trials
        assert not masked.outcome_known and not masked.rewards.any() and not masked.success
        np.testing.assert_array_equal(masked.observations, true.observations)
        np.testing.assert_array_equal(masked.actions, true.actions)
        second = shown["second_demonstration"][i]
        assert same_trajectory(second.trials[0], entry.spare) and len(second.trials) == 1
        assert second.demonstration is demonstration
        none, wrong = shown["no_demonstration"][i], shown["wrong_family"][i]
        assert none.demonstrations == () and none.trials == context.trials
        assert wrong.demonstration and same_trajectory(wrong.demonstration, entry.stranger)
        assert wrong.trials == context.trials and len(wrong.demonstrations) == 1


def test_a_control_acts_at_the_attempt_that_is_asked_for(root: Path, tmp_path: Path) -> None:
    noted = Noting([])
    config = EvaluationConfig(controls=("masked_reward",), control_attempt=2, unit_entries=100)
    rows = run(
        stage_of(root, config=config), tmp_path, [Contestant("noting", "", lambda spec: FromContext(noted), True)]
    )
    assert {r.attempt for r in rows if r.control} == {2}
    assert [len(batch[0].trials) for batch in noted.batches[:4]] == [0, 1, 2, 2]
    assert [t.outcome_known for t in noted.batches[2][0].trials] == [False, False]


def test_the_attempts_of_an_evaluation_follow_the_protocol(root: Path, tmp_path: Path) -> None:
    stage = replace(stage_of(root), protocol=ProtocolConfig("repeated", horizon_steps=7, after_success_steps=None))
    assert {r.steps for r in run(stage, tmp_path, ALL)} == {7}


def test_an_unknown_control_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown control 'luck'; known are blind_retry, shuffled_trial"):
        find_control("luck")
    with pytest.raises(ValueError, match="there is no control at 'players:LUCK' .*expected package.module:CONTROL"):
        find_control("players:LUCK")
    with pytest.raises(ValueError, match="players:SPEC is no control: expected a Control, got FamilySpec"):
        find_control("players:SPEC")
    with pytest.raises(ValueError, match="unknown control 'luck'"):
        EvaluationConfig(controls=("luck",))
    with pytest.raises(ValueError, match=r"control_attempt must lie in 1 .. evaluation.attempts \(2\), got 3"):
        EvaluationConfig(control_attempt=3)


def test_a_control_from_outside_is_found_by_its_address(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brought.py").write_text(
        "from dataclasses import replace\nfrom wtl.stages.controls import Control\n"
        "NEWEST = Control('newest_trial', 'What do older trials add?', lambda c, e, o: c.newest(1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = EvaluationConfig(controls=("brought:NEWEST",), control_attempt=2)
    rows = run(stage_of(root, config=config), tmp_path / "evaluation")
    assert Counter(r.control for r in rows) == {"": 48, "newest_trial": 16}


def possible(entry: ControlEntry) -> list[str]:
    return [control.name for control in CONTROLS if control.applies(entry)]


def test_controls_without_meaning_are_left_out() -> None:
    t = make_trajectory(3)
    full = ControlEntry(Session(make_task("a"), Context((t,)), (), 0), spare=t, stranger=t, partner=1)
    assert possible(full) == list(NAMES)
    bare = replace(full, session=replace(full.session, context=Context()), spare=None, stranger=None)
    assert possible(bare) == ["blind_retry", "shuffled_trial", "masked_reward"]
    assert isinstance(find_control("blind_retry"), Control)


def test_in_regime_none_there_is_no_demonstration_to_take_away(root: Path, tmp_path: Path) -> None:
    rows = run(stage_of(root, regime="none"), tmp_path)
    assert {r.control for r in rows} == {"", "blind_retry", "shuffled_trial", "masked_reward"}
    assert {r.demonstration for r in rows} == {""}
