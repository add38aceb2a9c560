"""Hindsight against no relabelling and relabelling with random goals: success against environment steps.

curves.py DIRECTORY OUT.csv [SEED...]: trains the preset for each family, arm and seed in one process, evaluates it
after half of the rounds and after all of them on 100 new goals (another benchmark seed), and writes one row an episode.
It goes on where it was stopped.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from wtl.analysis.results import read_results
from wtl.app.config import load_config
from wtl.app.pipeline import Pipeline
from wtl.core.relabelling import is_relabelled
from wtl.core.terminal import make_console
from wtl.data.store import EpisodeStore

FAMILIES = ("reach-v3", "push-v3", "drawer-open-v3", "pick-place-v3")
ARMS = ("reached", "none", "random")
EVALUATED = (1, 3)
"""The rounds after which the policy is evaluated."""
NEW_GOALS = (
    "tasks.seed=101",
    "tasks.goals_per_family=0",
    "tasks.validation_goals_per_family=100",
    "evaluation.split=validation",
)
COLUMNS = ("family", "arm", "seed", "steps", "task", "success")


def pipeline(*overrides: str) -> Pipeline:
    """Return the preset with these changes, in this process."""
    return Pipeline(load_config("hindsight", ["executor=serial", *overrides]), make_console(quiet=True))


def rows(root: Path, family: str, arm: str, seed: int) -> Iterator[tuple[str, str, int, int, str, int]]:
    """Yield the rows of one arm, after making what is not there yet."""
    run = root / f"{family}-{arm}-{seed}"
    settings = (f"tasks.family={family}", f"methods.hindsight.relabel={arm}")
    training = pipeline(*settings, f"directory={run}", f"seed={seed}")
    for step in training.steps()[:-1]:  # all but the evaluation
        training.run(only=step.name)
    steps = 0
    for number, phase in enumerate(training.plan.main.phases):
        store = EpisodeStore(run / "hindsight" / f"trials-{number}")
        steps += sum(record.steps for record in store.records if not is_relabelled(record.task))
        if number not in EVALUATED:
            continue
        first = arm == "reached" and number == EVALUATED[0]  # exploration is the same in all of them
        variants = f"evaluation.variants=[{'exploration' if first else ''}]"
        checkpoint, directory = run / "hindsight" / phase.name / "checkpoint", run / f"after-{number}"
        where = (f"checkpoint={checkpoint}", f"directory={directory}", f"tasks.family={family}", f"seed={seed}")
        pipeline(*where, *NEW_GOALS, variants).run()
        for row in read_results(directory / "evaluation" / "episodes.csv"):
            alone = row.method != "hindsight"
            yield family, "exploration" if alone else arm, seed, 0 if alone else steps, row.task, int(row.success)


def main() -> None:
    """See the module."""
    root, out, *seeds = sys.argv[1:]
    found: list[tuple[str, str, int, int, str, int]] = []
    for seed in map(int, seeds or ["0"]):
        for arm in ARMS:
            for family in FAMILIES:
                made = list(rows(Path(root), family, arm, seed))
                found += made
                for steps, name in dict.fromkeys((row[3], row[1]) for row in made):
                    own = [row[5] for row in made if row[3] == steps and row[1] == name]
                    print(family, name, seed, steps, f"{sum(own)} of {len(own)}", flush=True)
                with Path(out).open("w", newline="") as file:
                    table = csv.writer(file, lineterminator="\n")
                    table.writerows([COLUMNS, *found])


if __name__ == "__main__":
    main()
