"""A pointer into the reference: how far along it the present episode is, by a fixed rule, from observations alone.

The pointer goes on to one of the next frames if the state looks more like it, or when it has waited too long; it jumps
when some other frame looks much more like the state (an object that was dropped). It is the controller's memory: the
network reads where it points, and is free not to believe it.
"""

from __future__ import annotations

import numpy as np

WINDOW = 4
PATIENCE = 25
JUMP_EVERY, JUMP_GAIN = 8, 0.05
_FIELDS = ("hand", "grip", "one", "progress")


class Tracker:
    """Pointers of many rows at once; a row is an episode beside a reference."""

    def __init__(self, references: list[dict[str, np.ndarray]], offsets: np.ndarray) -> None:
        self._r = {n: np.stack([r[n] for r in references]).astype(np.float32) for n in _FIELDS}
        self._start_one = np.stack([r["start_one"] for r in references])
        self._last = np.array([int(r["mask"].sum()) - 1 for r in references])
        self._mask = np.stack([r["mask"] for r in references])
        self._offset = np.asarray(offsets, np.float32)
        self.pointer = np.zeros(len(references), int)
        self.waited = np.zeros(len(references), int)
        self._steps = 0

    def _cost(self, rows: np.ndarray, frames_RJ: np.ndarray, now: np.ndarray, start: np.ndarray) -> np.ndarray:
        k = rows[:, None]
        r = {n: v[k, frames_RJ] for n, v in self._r.items()}
        p = r["progress"][..., None]
        s = (start[:, 4:7] - self._start_one[rows])[:, None]
        hand, one = now[:, None, :3], now[:, None, 4:7]
        moved = np.linalg.norm(now[:, 4:7] - start[:, 4:7], axis=-1)[:, None]
        moved_then = np.linalg.norm(r["one"] - self._start_one[rows][:, None], axis=-1)
        return (
            np.linalg.norm(r["hand"] + (1 - p) * s + p * self._offset[rows][:, None] - hand, axis=-1)
            + np.linalg.norm((one - hand) - (r["one"] - r["hand"]), axis=-1)
            + 0.05 * np.abs(now[:, None, 3] - r["grip"])
            + np.abs(moved - moved_then)
        )

    def step(self, rows: np.ndarray, now: np.ndarray, start: np.ndarray) -> None:
        """Look at the states (R, 18) of some rows, in order of time."""
        p = self.pointer[rows]
        frames = np.minimum(p[:, None] + np.arange(WINDOW), self._last[rows][:, None])
        cost = self._cost(rows, frames, now, start)
        best = (cost - 0.0005 * np.arange(WINDOW)).argmin(axis=1)
        new = frames[np.arange(len(rows)), best]
        forced = (new == p) & (self.waited[rows] >= PATIENCE)
        new = np.where(forced, np.minimum(p + 1, self._last[rows]), new)
        if self._steps % JUMP_EVERY == JUMP_EVERY - 1:
            every = np.broadcast_to(np.arange(self._mask.shape[1]), (len(rows), self._mask.shape[1]))
            everywhere = np.where(self._mask[rows], self._cost(rows, every, now, start), np.inf)
            jump = everywhere.min(axis=1) + JUMP_GAIN < everywhere[np.arange(len(rows)), new]
            new = np.where(jump, everywhere.argmin(axis=1), new)
        self.waited[rows] = np.where(new == p, self.waited[rows] + 1, 0)
        self.pointer[rows] = new
        self._steps += 1


def track(
    references: list[dict[str, np.ndarray]], offsets: np.ndarray, episodes: list[np.ndarray], starts: list[np.ndarray]
) -> list[np.ndarray]:
    """Pointer and waiting time (T, 2) of each episode (T, 18) beside its reference."""
    tracker = Tracker(references, offsets)
    lengths = np.array([len(e) for e in episodes])
    longest = int(lengths.max())
    now, start = (
        np.stack([np.concatenate([x[:, :18], np.zeros((longest - len(x), 18), np.float32)]) for x in values])
        for values in (episodes, starts)
    )
    found = np.zeros((len(episodes), longest, 2), np.float32)
    for t in range(longest):
        rows = np.flatnonzero(lengths > t)
        tracker.step(rows, now[rows, t], start[rows, t])
        found[rows, t, 0], found[rows, t, 1] = tracker.pointer[rows], tracker.waited[rows]
    return [f[:n] for f, n in zip(found, lengths.tolist())]
