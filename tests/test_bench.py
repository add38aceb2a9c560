"""Benchmarks: what is computed from numbers, where it goes, and that each section measures something real."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from strategies import PROBE

from tasks import make_distribution, metaworld_speed
from tasks.metaworld import MetaWorldFamily
from wtl import cli
from wtl.app.config import PhaseConfig, load_config
from wtl.bench.collection import CollectionSize, measure_collection, tasks_needed
from wtl.bench.figure import draw_speeds
from wtl.bench.memory import measure_memory
from wtl.bench.results import (
    Measurement,
    measurement_tables,
    ratios,
    read_measurements,
    stepping_table,
    write_measurements,
    write_speeds,
)
from wtl.bench.training import measure_acting, measure_training

SPEEDS = {
    "reach-v3": {"stock": 1000.0, "fast": 2000.0, "envpool": 4000.0},
    "push-v3": {"stock": 1000.0, "fast": 6000.0},
    "door-open-v3": {"stock": 500.0, "fast": 1500.4, "envpool": 1000.0},
}
FIRST = next(iter(PROBE.values()))
PHASE: PhaseConfig = load_config(
    "probe", ["trial.train.batch={contexts: 4, queries: 2, frames: 4}", "trial.policy.network={width: 8, heads: 2}"]
).trial  # fmt: skip


def test_ratios_of_made_up_numbers() -> None:
    found = ratios(SPEEDS, "fast", "stock")
    assert found is not None and found.families == 3
    assert (found.median, found.least, found.most) == (pytest.approx(3.0008), 2.0, 6.0)
    assert (found.least_family, found.most_family) == ("reach-v3", "push-v3")
    pooled = ratios(SPEEDS, "fast", "envpool")  # push was not measured there
    assert pooled is not None and pooled.families == 2 and pooled.least == 0.5
    assert ratios({"push-v3": SPEEDS["push-v3"]}, "fast", "envpool") is None


def test_the_columns_of_stepping_csv(tmp_path: Path) -> None:
    write_speeds(tmp_path / "stepping.csv", SPEEDS)
    rows = [line.split(",") for line in (tmp_path / "stepping.csv").read_text().splitlines()]
    assert rows[0] == ["family", "stock", "fast", "envpool"]
    assert rows[2:] == [["push-v3", "1000", "6000", ""], ["door-open-v3", "500", "1500", "1000"]]


def test_the_stepping_table_says_what_envpool_is() -> None:
    table = stepping_table(SPEEDS)
    assert "MuJoCo 3.6" in table.title and "goals cannot be set" in table.title
    assert [row[4] for row in table.sections[1]] == ["3.00", "2.00 (reach-v3)", "6.00 (push-v3)"]
    assert "not installed" in stepping_table({"push-v3": SPEEDS["push-v3"]}).title


def test_sections_that_were_not_measured_again_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "measurements.csv"
    old, new = Measurement("memory", "one", 20.5, "MB"), Measurement("acting", "step, 1", 0.75, "ms")
    write_measurements(path, [old, Measurement("acting", "step, 1", 9.0, "ms")])
    write_measurements(path, [new])
    assert read_measurements(path) == [old, new]
    assert [t.title for t in measurement_tables([old, new])] == ["memory", "acting"]
    path.write_text("family,stock\n")
    with pytest.raises(ValueError, match="is no file of measurements; choose another --out"):
        write_measurements(path, [new])


def test_the_figure_is_a_picture(tmp_path: Path) -> None:
    draw_speeds(SPEEDS, tmp_path / "stepping.png")
    assert (tmp_path / "stepping.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["flying"], "unknown section 'flying', known are stepping, collection, training, acting, memory"),
        (["memory", "--families", "reach-v9"], "unknown Meta-World family 'reach-v9', known are listed by `wtl tasks`"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["wtl", "bench", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    error = capsys.readouterr().err
    assert caught.value.code == 2 and sentence in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Tiny real runs.


def test_stepping_measures_every_way_of_stepping() -> None:
    rates = metaworld_speed.step_rates("reach-v3", steps=5, blocks=2)
    assert min(rates.stock, rates.fast, rates.without_rewards, rates.physics) > 0
    assert (rates.envpool is not None) == metaworld_speed.has_envpool()


def test_physics_alone_is_the_same_physics() -> None:
    """What is timed as the limit must be the simulation of the steps themselves."""
    family = MetaWorldFamily("push-v3")
    states = []
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 4))
    for run in (metaworld_speed._seconds_of_environment, metaworld_speed._seconds_of_physics):
        environment = family.make_environment()
        environment.reset(options={"task": family.sample_tasks(1, 1, "train")[0]})
        run(environment.sawyer, actions)
        states.append(environment.sawyer.data.qpos.tobytes())
    assert states[0] == states[1]


def test_training_and_acting_are_measured_in_parts() -> None:
    found = {m.name: m for m in measure_training(PHASE, FIRST.spec, tasks=4, steps=6)}
    assert found["steps in the loop"].value == pytest.approx(1000 / found["step in the loop"].value)
    assert found["making a batch (in a thread beside)"].value > 0 and found["forward"].value > 0
    acting = measure_acting(PHASE, FIRST.spec, (1, 3), steps=2)
    assert [m.name for m in acting][::2] == ["control step, 1 environments", "control step, 3 environments"]
    assert all(m.value > 0 and m.unit == "ms" for m in acting)


def test_memory_is_measured_in_a_fresh_process() -> None:
    [task] = FIRST.sample_tasks(1, 0, "train")
    nothing, one, many, each = (m.value for m in measure_memory(FIRST, task, environments=3))
    assert 5 < nothing <= one <= many and each == pytest.approx((many - one) / 2)


@pytest.mark.slow  # each worker imports torch
def test_collection_is_compared_with_bare_environments() -> None:
    size = CollectionSize(units=2, unit_episodes=3, horizon_steps=5, long_horizon_steps=6, rounds=1)
    probe = make_distribution(
        "probe", seed=1, goals_per_family=tasks_needed(size), validation_goals_per_family=2, test_goals_per_family=2
    )
    one = type(probe)({FIRST.name: FIRST}, tuple(t for t in probe.train if t.family == FIRST.name), (), ())
    found = {m.name: m.value for m in measure_collection(one, PHASE, size)}
    assert all(value >= 0 for value in found.values())
    whole = "collect_trials, new tasks, 5 steps"
    assert found[f"{whole}, over bare"] == pytest.approx(found[whole] / found["bare environments"])
