"""The training step of this tree against that of another git revision: same machine, same model, taking turns.

Each tree runs in a process of its own and reads the same stored episodes; the two are asked in turns, so that other
work on the machine meets both. Each time is the median of its turns. Whether both made the same batches and ended at
the same loss, bit for bit, is said too. One thread for torch, as in training on two cores.

Run: ``python experiments/speed/bench_training.py [--revision 189b658] [--turns 20] [--tasks 1000]``
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("batch", "step without its batch", "batch and step")

WORKER = """
import hashlib, json, sys, tempfile, time
from dataclasses import replace
from pathlib import Path
import torch
from wtl.data.meta_batches import MetaBatches
from wtl.app.config import load_config
from wtl.methods.imitation.retrial import RetrialPolicy
from wtl.data.store import EpisodeStore
from wtl.stages.train import Training
from tasks.metaworld import MetaWorldFamily

torch.set_num_threads(1)
phase, spec = load_config("quick", []).retrial, MetaWorldFamily("reach-v3").spec
episodes = list(EpisodeStore(Path(sys.argv[1])))
batches = MetaBatches(
    phase.train.batch, [e for e in episodes if e.role == "demonstration"], [e for e in episodes if e.role == "trial"],
    layout=spec.layout, reward_scale=spec.reward_scale, regime="family", seed=0, trials_in_context=(1, 1),
)
torch.manual_seed(0)
learner = RetrialPolicy(phase.policy, spec, phase.train.batch.frames)
learner.fit_features(batches.some_observations())
folder = Path(tempfile.mkdtemp())
training = Training(learner, phase.train, folder, folder, 0)
sums = hashlib.sha256()
for step, line in enumerate(sys.stdin):
    start = time.perf_counter()
    batch = batches(step)
    made = time.perf_counter()
    losses = training.train_step(batch)
    done = time.perf_counter()
    tensors = {**vars(batch), **vars(batch.segments)}
    for name in sorted(tensors):
        if torch.is_tensor(tensors[name]):
            sums.update(tensors[name].numpy().tobytes())
    answer = {"seconds": [made - start, done - made, done - start], "batches": sums.hexdigest(),
              "loss": losses.total.item()}
    print(json.dumps(answer), flush=True)
"""


def unpack(revision: str, folder: Path) -> None:
    """The tree of a revision, as it was committed."""
    done = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True)
    if done.returncode:
        raise SystemExit(f"there is no revision {revision} here: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def start(tree: Path, store: Path) -> subprocess.Popen[str]:
    """A worker that does one training step for each line it is sent."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(store)]
    return subprocess.Popen(
        command, cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="189b658", help="what this tree is compared with")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10, help="training steps a turn")
    parser.add_argument("--tasks", type=int, default=1000, help="whose episodes are in memory")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tasks.metaworld import MetaWorldFamily
    from wtl.bench.training import random_episodes
    from wtl.data.store import close_store, write_shard

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(arguments.revision, folder / "before")
        write_shard(folder / "store", 0, random_episodes(MetaWorldFamily("reach-v3").spec, arguments.tasks))
        close_store(folder / "store", 1)
        workers = {"before": start(folder / "before", folder / "store"), "now": start(ROOT, folder / "store")}
        seconds: dict[str, list[list[float]]] = {tree: [] for tree in workers}
        last: dict[str, dict] = {}
        for turn in range(arguments.turns + 1):
            for tree, worker in workers.items():
                assert worker.stdin and worker.stdout
                for _ in range(arguments.steps):
                    print(file=worker.stdin, flush=True)
                    last[tree] = json.loads(worker.stdout.readline() or "null")
                    if last[tree] is None:
                        raise SystemExit(f"the worker of the tree `{tree}` ended; its message stands above")
                    if turn:  # the first one warms up
                        seconds[tree].append(last[tree]["seconds"])
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    medians = {tree: [statistics.median(part) for part in zip(*rows, strict=True)] for tree, rows in seconds.items()}
    print(f"{'':24} {arguments.revision:>10} {'now':>10} {'ratio':>7}")
    for part, before, now in zip(PARTS, medians["before"], medians["now"], strict=True):
        print(f"{part:24} {1000 * before:7.2f} ms {1000 * now:7.2f} ms {before / now:6.2f}x")
    for what in ("batches", "loss"):
        print(f"{what}: {'the same' if last['before'][what] == last['now'][what] else 'different'}")


if __name__ == "__main__":
    main()
