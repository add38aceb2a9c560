"""This script measures how fast this machine steps, collects, trains and acts, as numbers of one run and their ratios.

Absolute numbers are worth what the machine was doing meanwhile, so what is compared takes turns within a run and counts
with its best turn. Hidden-goal reach is the family of everything but stepping, unless another one is named first.

Run: `python experiments/speed/bench.py [stepping collection training acting memory] [--quick] [--out FOLDER]`
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from collection import CollectionSize, measure_collection, tasks_needed
from figure import draw_speeds
from learning import measure_acting, measure_training
from memory import measure_memory
from results import Measurement, measurement_tables, ratios, stepping_table, write_measurements, write_speeds
from system import distribution_of, quick_config

from wtl.analysis.tables import Table, print_tables
from wtl.tasks.metaworld import splits

SECTIONS = ("stepping", "collection", "training", "acting", "memory")
_QUICK_FAMILIES = ("reach-v3", "push-v3", "drawer-close-v3", "peg-insert-side-v3")


@dataclass(frozen=True)
class Effort:
    """The effort says how long each section measures."""

    step_blocks: int = 8
    block_steps: int = 100
    collection: CollectionSize = CollectionSize()
    tasks: int = 1000
    """The tasks whose episodes are in memory when training steps are measured."""
    training_steps: int = 100
    acting_steps: int = 200
    environments: tuple[int, ...] = (1, 16, 64)
    memory_environments: int = 25


QUICK = Effort(
    step_blocks=2, block_steps=60, collection=CollectionSize(40, 10, (40, 80), 2), tasks=200, training_steps=20,
    acting_steps=50, memory_environments=8,
)  # fmt: skip


def chosen(names: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """The result holds the names, or all known ones if none is given. Raises ValueError for one that is not known."""
    for name in names:
        if name not in known:
            listed = ", ".join(known) if len(known) < 10 else "listed by `wtl tasks`"
            raise ValueError(f"unknown {what} {name!r}, known are {listed}")
    return tuple(dict.fromkeys(names)) or tuple(known)


def measure(section: str, family: str, effort: Effort) -> list[Measurement]:
    """The result is what one section, other than stepping, measures."""
    config = quick_config(family)
    if section == "collection":
        distribution = distribution_of(config, tasks_needed(effort.collection))
        return measure_collection(distribution, config, effort.collection)
    distribution = distribution_of(config, 2)
    if section == "training":
        return measure_training(config, distribution.spec, effort.tasks, effort.training_steps)
    if section == "acting":
        return measure_acting(config, distribution.families[family], effort.environments, effort.acting_steps)
    return measure_memory(distribution.families[family], distribution.train[0], effort.memory_environments)


def measure_stepping(families: Sequence[str], effort: Effort, out: Path) -> tuple[Table, list[Measurement]]:
    """The result is a table of all families and their ratios; stepping.csv and stepping.png are written."""
    # Here and not above: metaworld takes a second to import.
    from stepping import step_rates

    speeds, measured = {}, []
    for family in families:
        rates = step_rates(family, effort.block_steps, effort.step_blocks)
        named = {"stock": rates.stock, "fast": rates.fast, "envpool": rates.envpool}
        speeds[family] = {name: rate for name, rate in named.items() if rate is not None}
        measured.append(Measurement("stepping", f"{family}, physics alone", rates.physics, "steps/CPU s"))
        print(f"  {family:<28} {rates.fast / rates.stock:.2f} x stock", file=sys.stderr)
    write_speeds(out / "stepping.csv", speeds)
    draw_speeds(speeds, out / "stepping.png")
    for over, under in (("fast", "stock"), ("fast", "envpool")):
        if found := ratios(speeds, over, under):
            for name in ("median", "least", "most"):
                measured.append(Measurement("stepping", f"{over} over {under}, {name}", getattr(found, name), "ratio"))
    return stepping_table(speeds), measured


def main(arguments: Sequence[str] | None = None) -> None:
    """This measures, prints tables, and writes stepping.csv, stepping.png and measurements.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=", ".join(SECTIONS) + "; default all")
    parser.add_argument("--families", default="", help="families to step, with commas; the first is used elsewhere")
    parser.add_argument("--quick", action="store_true", help="about a minute, and numbers to match")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--markdown", action="store_true", help="tables that can be pasted")
    options = parser.parse_args(arguments)
    named = [name for name in options.families.split(",") if name]
    try:
        sections = chosen(options.sections, SECTIONS, "section")
        stepped = chosen(named or (_QUICK_FAMILIES if options.quick else ()), splits.ALL_FAMILIES, "Meta-World family")
    except ValueError as error:
        parser.error(str(error))
    effort, family = QUICK if options.quick else Effort(), named[0] if named else "reach-v3"
    torch.set_num_threads(1)  # as the workers have it, and as training has it on two cores
    tables: list[Table] = []
    for section in sections:
        load = Measurement(section, "load average before", os.getloadavg()[0], "processes")
        print(f"measuring {section} (load average {load.value:.1f})", file=sys.stderr)
        if section == "stepping":
            table, measured = measure_stepping(stepped, effort, options.out)
            tables.append(table)
        else:
            measured = measure(section, family, effort)
            tables += measurement_tables([*measured, load])
        write_measurements(options.out / "measurements.csv", [*measured, load])
    print_tables(tables, markdown=options.markdown)
    print(f"wrote {options.out}/", file=sys.stderr)


if __name__ == "__main__":
    main()
