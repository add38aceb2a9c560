"""This module times training steps and control steps of the context network, part by part, taking turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from results import Measurement
from system import acting_parts, training_parts

from wtl.app.config import RunConfig
from wtl.core.task import FamilySpec, TaskFamily


def measure_training(config: RunConfig, spec: FamilySpec, tasks: int, steps: int) -> list[Measurement]:
    """The result is the steps per second of the whole loop, and what one step is made of; each is done `steps` times.

    `tasks` says whose episodes are in memory.
    """
    with training_parts(config, spec, tasks, steps) as parts:
        fit = parts.pop("fit")
        s = _alternating(parts, steps)
        moments: list[float] = []
        fit(lambda *_: moments.append(time.perf_counter()))
    # The first tenth warms up, and the last step writes a checkpoint.
    loop = float(np.median(np.diff(moments[steps // 10 : -1])))
    split = {
        "making a batch (in a thread beside)": s["batch"],
        "forward": s["forward"],
        "backward": s["forward and backward"] - s["forward"],
        "clipping, optimiser and the rest": s["whole step without its batch"] - s["forward and backward"],
        "step without its batch": s["whole step without its batch"],
        "step in the loop": loop,
    }
    return [
        Measurement("training", "steps in the loop", 1 / loop, "steps/s"),
        *(Measurement("training", name, 1000 * value, "ms") for name, value in split.items()),
    ]


def measure_acting(config: RunConfig, family: TaskFamily, environments: Sequence[int], steps: int) -> list[Measurement]:
    """The result is the milliseconds of one control step of so many environments, and of the first of an episode."""
    found = []
    for count in environments:
        seconds = _alternating(acting_parts(config, family, count), steps)
        found += [Measurement("acting", f"{name}, {count} environments", 1000 * s, "ms") for name, s in seconds.items()]
    return found


def _alternating(functions: Mapping[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The result is the median seconds of each function, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(times + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn >= 2:  # warm
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}
