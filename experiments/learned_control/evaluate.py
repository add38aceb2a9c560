"""Success by family, told the true goal offset, one walk: learned controllers, the hand-made follower, the expert.

    python -m learned.evaluate WHO FAMILIES COUNT [noise=0.1] [sight=0.005] [mirrors=4] [retreat=40] [horizon=500] [seed=101]

WHO: checkpoints (round*.pt) joined by commas (their actions are averaged), or `follower`, or `expert`.
FAMILIES: A, B, AB (folds held out), rest (ML45's training families outside both folds), test, or names joined by commas.
The demonstration is of another goal and another start of the same family; see `learned.world.entries_of`.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from learned.net import Controller, NetConfig
from learned.train import actor_of
from learned.world import FOLD_A, FOLD_B, follower, table
from tasks.splits import ML45_TEST, ML45_TRAIN
from wtl.evidence import wilson_interval
from wtl.rollout import Demonstrator


def load(path: str | Path) -> Controller:
    """The averaged weights of a checkpoint."""
    saved = torch.load(path, weights_only=False)
    config = saved["config"]
    net = Controller(NetConfig(**(config["net"] if isinstance(config, dict) else asdict(config.net))))
    net.load_state_dict(saved["average"])
    return net.eval()


def families_of(which: str) -> list[str]:
    """See the module."""
    known = {
        "A": FOLD_A, "B": FOLD_B, "AB": (*FOLD_A, *FOLD_B), "test": ML45_TEST,
        "rest": tuple(f for f in ML45_TRAIN if f not in (*FOLD_A, *FOLD_B)),
    }  # fmt: skip
    return list(known[which]) if which in known else [f"{name}-v3" for name in which.split(",")]


def main() -> None:
    """Print a table."""
    who, which, count, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    options = {k: float(v) for k, v in (s.split("=") for s in settings)}
    act = {k: int(options.pop(k)) for k in ("mirrors", "retreat") if k in options}
    world = {k: int(v) if k in ("seed", "horizon") else v for k, v in options.items()}
    names = families_of(which)
    if who == "follower":
        make: object = follower
    elif who == "expert":
        make = Demonstrator()
    else:
        nets = [load(path) for path in who.split(",")]
        make = lambda entries, seeds: actor_of(nets, entries, **act)  # noqa: E731
    if who == "expert":
        from wtl.rollout import Noise

        make = Demonstrator(Noise(world.pop("noise", 0.0)), varied=False)
        world.pop("sight", None)
    result = table(names, int(count), make, **world)  # type: ignore[arg-type]
    n = int(count) * len(names)
    good = round(sum(result.values()) * int(count))
    interval = wilson_interval(good, n)
    print(f"{who} {which} {settings}: {good / n:.3f} [{interval.low:.3f}, {interval.high:.3f}], n = {n}")
    if "soccer-v3" in names:
        rest = [v for k, v in result.items() if k != "soccer-v3"]
        print(f"   without soccer: {np.mean(rest):.3f}")


if __name__ == "__main__":
    main()
