"""Made-up evaluations, shared by the tests of `wtl.analysis`."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from wtl.analysis.episodes import to_table
from wtl.analysis.results import EpisodeResult

ROW = EpisodeResult(
    method="learner", control="", regime="family", split="test", family="reach-v3", task="reach-v3/test/17",
    demonstration="reach-v3/train/3", train_seed=1, seed=40, attempt=0, success=True, total_reward=1 / 3,
    steps=500,
)  # fmt: skip

HIDDEN = frozenset({"reach-v3"})
SHARES = {
    ("learner", ""): {0: 0.2, 1: 0.7, 2: 0.9},
    ("learner", "blind_retry"): {0: 0.2, 1: 0.25},
    ("learner", "no_demonstration"): {1: 0.3},
    ("cloning", ""): {0: 0.1},
    ("expert", ""): {0: 1.0},
}


def make_rows(
    families: tuple[str, ...] = ("reach-v3", "push-v3"),
    entries: int = 20,
    shares: Mapping[tuple[str, str], Mapping[int, float]] = SHARES,
    split: str = "test",
) -> list[EpisodeResult]:
    """Returns `entries` entries per family, of which the first `share` succeed; the return is 100 or 0."""
    return [
        EpisodeResult(
            method=method, control=control, regime="family", split=split, family=family,  # type: ignore[arg-type]
            task=f"{family}/{split}/{i}", demonstration=f"{family}/train/{i}", train_seed=0, seed=i, attempt=attempt,
            success=i < share * entries, total_reward=100.0 * (i < share * entries), steps=500,
        )
        for family in families
        for (method, control), by_attempt in shares.items()
        for attempt, share in by_attempt.items()
        for i in range(entries)
    ]  # fmt: skip


def make_table(
    families: tuple[str, ...] = ("reach-v3", "push-v3"),
    entries: int = 20,
    shares: Mapping[tuple[str, str], Mapping[int, float]] = SHARES,
    split: str = "test",
) -> pd.DataFrame:
    """Returns `make_rows` as a table."""
    return to_table(make_rows(families, entries, shares, split))
