"""Steps per CPU second of Meta-World's 50 families: stock, accelerated, and EnvPool where it is installed.

One process, CPU time of this process (``time.process_time``), resets and policies not counted. Stock and fast get the
same actions and take turns in short blocks; each counts with its fastest block, because whatever else runs on the
machine can only slow a block down. Half of the actions are an expert's (contacts), half are random.

EnvPool steps 16 environments in a batch on one thread, all with the same actions, so that its Python call costs little.

Trap: EnvPool runs on another MuJoCo (3.6) and cannot be given a goal, so its column is a speed, not a replacement. It
needs numpy and MuJoCo versions of its own: install it elsewhere and name that interpreter with ``--envpool-python``.

Run: ``python experiments/speed/bench_stepping.py [--families reach-v3 ...] [--blocks 4] [--steps 150]``
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
warnings.simplefilter("ignore")

ENVPOOL_WORKER = """
import json, statistics, sys, time
import numpy as np, envpool
for name, actions in json.load(open(sys.argv[1])).items():
    task = "".join(part.title() for part in name.removesuffix("-v3").split("-"))
    env = envpool.make_gymnasium(f"MetaWorld/{task}-v3", num_envs=16, num_threads=1)
    env.reset()
    rates = []
    for block in np.repeat(np.array(actions)[:, :, None], 16, axis=2):
        start = time.process_time()
        for action in block:
            env.step(action)
        rates.append(16 * len(block) / (time.process_time() - start))
        env.reset()
    best = statistics.harmonic_mean([max(rates[::2]), max(rates[1::2])])
    print(json.dumps([name, best]), flush=True)
"""


def record_actions(env: Any, policy: Any, steps: int, blocks: int) -> np.ndarray:
    """Actions of (blocks, steps, 4), float64 in [-1, 1]: even blocks an expert's, odd blocks random."""
    rng = np.random.default_rng(0)
    recorded = rng.uniform(-1, 1, (blocks, steps, 4))
    for block in recorded[::2]:
        observation, _ = env.reset()
        for t in range(steps):
            full = np.concatenate([observation[:36], env._target_pos])
            block[t] = np.clip(policy.get_action(full) + 0.1 * rng.normal(size=4), -1, 1)
            observation = env.step(block[t])[0]
    return recorded


def block_rates(env: Any, actions: np.ndarray) -> list[float]:
    """Steps per CPU second, one number per block of ``actions``, the resets between them not counted."""
    rates = []
    for block in actions:
        env.reset()
        start = time.process_time()
        for action in block:
            env.step(action)
        rates.append(len(block) / (time.process_time() - start))
    return rates


def measure(make: Callable[[], Any], accelerate: Callable[[Any], Any], task: Any, policy: Any, args: Any) -> Any:
    """Rates of stock and fast, and the actions they were measured with."""
    stock, fast = make(), accelerate(make())
    for env in (stock, fast):
        env.set_task(task)
    actions = record_actions(fast, policy, args.steps, args.blocks)
    block_rates(fast, actions[:1]), block_rates(stock, actions[:1, :20])  # warm up
    # Expert and random blocks have different costs: average over the kinds, maximum within a kind.
    rates: dict[str, list[list[float]]] = {"stock": [[], []], "fast": [[], []]}
    for i in range(args.blocks):
        for label, env in (("stock", stock), ("fast", fast)):
            rates[label][i % 2] += block_rates(env, actions[i : i + 1])
    return {label: statistics.harmonic_mean([max(kind) for kind in kinds]) for label, kinds in rates.items()}, actions


def envpool_rates(python: str, actions: dict[str, list]) -> dict[str, float]:
    """Rates of EnvPool, measured by another interpreter. Families it does not serve are missing."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(actions, file)
        file.flush()
        command = [python, "-W", "ignore", "-c", ENVPOOL_WORKER, file.name]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return dict(json.loads(line) for line in output.splitlines() if line.startswith("["))


def main() -> None:
    """Measure, print ratios, write ``stepping.csv`` beside this file."""
    from metaworld import ML1
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP

    from tasks.metaworld_fast import accelerate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=sorted(ALL_V3_ENVIRONMENTS))
    parser.add_argument("--blocks", type=int, default=6, help="blocks per environment, even")
    parser.add_argument("--steps", type=int, default=150, help="steps per block, at most 500")
    parser.add_argument("--envpool-python", help="an interpreter that can import envpool")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("stepping.csv"))
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    recorded: dict[str, list] = {}
    for name in args.families:
        task = ML1(name, seed=1).train_tasks[0]
        rates, actions = measure(ALL_V3_ENVIRONMENTS[name], accelerate, task, ENV_POLICY_MAP[name](), args)
        rows.append({"family": name, **{label: round(rate) for label, rate in rates.items()}, "envpool": ""})
        recorded[name] = actions.tolist()
        print(
            f"{name:32s} {rates['stock']:7.0f} {rates['fast']:7.0f}  {rates['fast'] / rates['stock']:.2f}x",
            flush=True,
        )
    if args.envpool_python:
        pool = envpool_rates(args.envpool_python, recorded)
        for row in rows:
            row["envpool"] = round(pool[row["family"]]) if row["family"] in pool else ""
    with args.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["family", "stock", "fast", "envpool"])
        writer.writeheader()
        writer.writerows(rows)
    ratios = sorted(row["fast"] / row["stock"] for row in rows)
    print(f"fast over stock: median {statistics.median(ratios):.2f}, least {ratios[0]:.2f}, most {ratios[-1]:.2f}")
    pooled = [row["fast"] / row["envpool"] for row in rows if row["envpool"]]
    if pooled:
        print(f"fast over EnvPool: median {statistics.median(pooled):.2f} of {len(pooled)} families")


if __name__ == "__main__":
    main()
