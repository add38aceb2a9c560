"""The benchmarks of experiments/speed: what is computed from numbers, and that each section measures something real."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from strategies import PROBE

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments" / "speed"))

import bench
import collection
import learning
import memory
import results
import stepping

from wtl.app.config import RunConfig, load_config
from wtl.core.task import TaskDistribution
from wtl.tasks import make_distribution
from wtl.tasks.metaworld.family import MetaWorldFamily

SPEEDS = {
    "reach-v3": {"stock": 1000.0, "fast": 2000.0, "envpool": 4000.0},
    "push-v3": {"stock": 1000.0, "fast": 6000.0},
    "door-open-v3": {"stock": 500.0, "fast": 1500.4, "envpool": 1000.0},
}
FIRST = next(iter(PROBE.values()))
CONFIG: RunConfig = load_config(
    "toy", ["methods.imitation.retrial.train.batch={contexts: 4, queries: 2}", "methods.imitation.frames=4"]
)


def test_ratios_of_made_up_numbers() -> None:
    found = results.ratios(SPEEDS, "fast", "stock")
    assert found is not None and found.families == 3
    assert (found.median, found.least, found.most) == (pytest.approx(3.0008), 2.0, 6.0)
    assert (found.least_family, found.most_family) == ("reach-v3", "push-v3")
    pooled = results.ratios(SPEEDS, "fast", "envpool")  # push was not measured there
    assert pooled is not None and pooled.families == 2 and pooled.least == 0.5
    assert results.ratios({"push-v3": SPEEDS["push-v3"]}, "fast", "envpool") is None
    assert [row[4] for row in results.stepping_table(SPEEDS).sections[1]] == [
        "3.00", "2.00 (reach-v3)", "6.00 (push-v3)"
    ]  # fmt: skip


def test_sections_that_were_not_measured_again_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "measurements.csv"
    old, new = results.Measurement("memory", "one", 20.5, "MB"), results.Measurement("acting", "step, 1", 0.75, "ms")
    results.write_measurements(path, [old, results.Measurement("acting", "step, 1", 9.0, "ms")])
    results.write_measurements(path, [new])
    assert results.read_measurements(path) == [old, new]
    path.write_text("family,stock\n")
    with pytest.raises(ValueError, match="is no file of measurements; choose another --out"):
        results.write_measurements(path, [new])


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["flying"], "unknown section 'flying', known are stepping, collection, training, acting, memory"),
        (["memory", "--families", "reach-v9"], "unknown Meta-World family 'reach-v9', known are listed by `wtl tasks`"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(arguments)
    assert caught.value.code == 2 and sentence in capsys.readouterr().err


# Tiny real runs.


def test_stepping_measures_every_way_of_stepping(tmp_path: Path) -> None:
    effort = bench.Effort(step_blocks=2, block_steps=5)
    table, measured = bench.measure_stepping(["reach-v3"], effort, tmp_path)
    assert all(m.value > 0 for m in measured) and table.sections[0][0][0] == "reach-v3"
    assert (tmp_path / "stepping.csv").read_text().startswith("family,stock,fast,envpool\nreach-v3,")
    assert (tmp_path / "stepping.png").read_bytes().startswith(b"\x89PNG")


def test_physics_alone_is_the_same_physics() -> None:
    """What is timed as the limit must be the simulation of the steps themselves."""
    family = MetaWorldFamily("push-v3")
    states = []
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 4))
    for run in (stepping._seconds_of_environment, stepping._seconds_of_physics):
        environment = family.make_environment()
        environment.reset(options={"task": family.sample_tasks(1, 1, "train")[0]})
        run(environment.sawyer, actions)
        states.append(environment.sawyer.data.qpos.tobytes())
    assert states[0] == states[1]


def test_training_and_acting_are_measured_in_parts() -> None:
    found = {m.name: m for m in learning.measure_training(CONFIG, FIRST.spec, tasks=4, steps=6)}
    assert found["steps in the loop"].value == pytest.approx(1000 / found["step in the loop"].value)
    assert found["making a batch (in a thread beside)"].value > 0 and found["forward"].value > 0
    acting = learning.measure_acting(CONFIG, FIRST, (1, 3), steps=2)
    assert [m.name for m in acting][::2] == ["control step, 1 environments", "control step, 3 environments"]
    assert all(m.value > 0 and m.unit == "ms" for m in acting)


def test_memory_is_measured_in_a_fresh_process() -> None:
    [task] = FIRST.sample_tasks(1, 0, "train")
    nothing, one, many, each = (m.value for m in memory.measure_memory(FIRST, task, environments=3))
    assert 5 < nothing <= one <= many and each == pytest.approx((many - one) / 2)


@pytest.mark.slow  # each worker imports torch
def test_collection_is_compared_with_bare_environments() -> None:
    size = collection.CollectionSize(episodes=6, unit_episodes=3, horizons_steps=(5, 6), rounds=1)
    goals = {"validation_goals_per_family": 2, "test_goals_per_family": 2}
    toy = make_distribution("toy", seed=1, goals_per_family=collection.tasks_needed(size), **goals)
    one = TaskDistribution({FIRST.spec.name: FIRST}, tuple(t for t in toy.train if t.family == FIRST.spec.name), (), ())
    found = {m.name: m.value for m in collection.measure_collection(one, CONFIG, size)}
    assert all(value >= 0 for value in found.values())
    whole = "collect_trials by imitation, 5 steps"
    assert found[f"{whole}, over bare"] == pytest.approx(found[whole] / found["bare environments"])
