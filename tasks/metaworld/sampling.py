"""This module draws rand_vecs, the hidden numbers that make a Meta-World environment a task.

It draws with each family's own reset, which may reject a draw, and without the 250 simulation steps of a reset.
Trap: only the draws and the rejections of `reset_model` matter and neither looks at the simulation; a test compares
the outcome with Meta-World's own for all families. Source: metaworld 3.1.1, `__init__.py`, `_make_tasks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wtl.tasks.metaworld.environment import make_sawyer

OFFICIAL_GOALS = 50
"""How many tasks of each family and split a Meta-World benchmark has."""


class _Rejected(Exception):
    """The family's own reset refused a rand_vec and asked for another one."""


class RandVecSampler:
    """A sampler holds one environment whose simulation is switched off, and draws from its reset space."""

    def __init__(self, name: str) -> None:
        self._environment: Any = make_sawyer(name)
        self._environment._set_task_called = True
        self._environment.do_simulation = lambda *_: None
        self._environment._get_curr_obs_combined_no_goal = lambda: np.zeros(18)
        self.space = self._environment._random_reset_space

    def official(self, count: int) -> list[np.ndarray]:
        """Return the next `count` draws of `metaworld._make_tasks`, from numpy's global generator.

        Each reset draws twice, as there.
        """
        self._environment._freeze_rand_vec = False
        vectors = []
        for _ in range(count):
            self._environment.reset()
            vectors.append(np.array(self._environment._last_rand_vec))
        return vectors

    def accepts(self, vector: np.ndarray) -> bool:
        """Return whether the family's reset takes this rand_vec; a frozen bad one would loop for ever."""
        offers = iter([vector])

        def offer() -> np.ndarray:
            try:
                return next(offers)
            except StopIteration:
                raise _Rejected from None

        self._environment._get_state_rand_vec = offer
        try:
            self._environment.reset_model()
        except _Rejected:
            return False
        finally:
            del self._environment._get_state_rand_vec
        return True

    def draw(self, seed: int) -> Iterator[np.ndarray]:
        """This yields accepted rand_vecs without end, from a generator of their own."""
        generator = np.random.default_rng(seed)
        while True:
            vector = generator.uniform(self.space.low, self.space.high)
            if self.accepts(vector):
                yield vector


def official_rand_vecs(families: Sequence[str], seed: int) -> dict[str, list[np.ndarray]]:
    """Return the 50 rand_vecs that `metaworld._make_tasks(..., seed)` draws for each of these families.

    Their order matters, because all of them are drawn from one generator. numpy's global state is left as it was.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        return {name: RandVecSampler(name).official(OFFICIAL_GOALS) for name in families}
    finally:
        np.random.set_state(state)
