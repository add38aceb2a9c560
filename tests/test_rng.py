"""Named streams: the same name, the same numbers; another name, other numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wtl.core.rng import seed_for, stream

_names = st.lists(st.text("ab/0", max_size=3) | st.integers(-2, 20), max_size=3)


@given(st.integers(-1, 3), _names, st.integers(-1, 3), _names)
def test_seeds_differ_where_names_differ(one: int, names: list, other: int, others: list) -> None:
    a, b = seed_for(one, *names), seed_for(other, *others)
    same = (one, [str(n) for n in names]) == (other, [str(n) for n in others])
    assert (a == b) == same
    assert 0 <= a < 2**63


def test_names_do_not_run_together() -> None:
    assert len({seed_for(0, "ab", "c"), seed_for(0, "a", "bc"), seed_for(0, "abc"), seed_for(0, "abc", "")}) == 4


def test_streams_repeat_and_do_not_disturb_one_another() -> None:
    first = stream(7, "noise").random(3)
    other = stream(7, "tasks")
    other.random(100)
    np.testing.assert_array_equal(first, stream(7, "noise").random(3))
    assert not np.array_equal(first, stream(7, "tasks").random(3))
    assert not np.array_equal(first, stream(8, "noise").random(3))


def test_numpy_integers_are_numbers_too() -> None:
    assert seed_for(np.int64(3), "a") == seed_for(3, "a")  # type: ignore[arg-type]


def test_seeds_are_the_same_in_every_process_and_for_ever() -> None:
    """Python's own hash changes with every process; stored runs are continued by these numbers."""
    code = "from wtl.core.rng import seed_for; print(seed_for(0, 'trial', 'reach-v3/train/3', 1))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == seed_for(0, "trial", "reach-v3/train/3", 1) == GOLDEN


GOLDEN = 5871590709785065455
