"""One seed, many independent named streams: a new consumer of randomness never moves another's numbers."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on the run's seed and on every name, and on nothing else."""
    text = "\x1f".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The random generator that belongs to these names."""
    return np.random.default_rng(np.random.SeedSequence(seed_for(seed, *names)))
