"""What a success says about the end of an episode that begins elsewhere, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wtl.core.episode import Context, Trajectory
from wtl.core.task import ObservationLayout
from wtl.methods.transfer.method import choose_reference
from wtl.methods.transfer.reference import ReferenceConfig
from wtl.methods.transfer.rules import offsets_after_success

LAYOUT = ObservationLayout(size=6, dimensions=2, points=(0, 2, 4), hand_step=0.01)
"""A hand, an object that is moved, and another object."""
DOUBT = 0.02


def brought(
    start: tuple[float, float], end: tuple[float, float], other: tuple[float, float] = (9.0, 9.0)
) -> Trajectory:
    """The object is brought from one position to another in ten steps; the hand goes with it."""
    way = np.linspace(start, end, 11)
    observations = np.concatenate([way, way, np.tile(other, (11, 1))], axis=1)
    return Trajectory(observations, np.zeros((10, 2)), np.zeros(10), np.arange(10) == 9)


def start_of(start: tuple[float, float], other: tuple[float, float] = (9.0, 9.0)) -> np.ndarray:
    return np.array([0.5, 0.5, *start, *other])


def best(demonstration: Trajectory, successes: list[Trajectory], start: np.ndarray) -> np.ndarray:
    return offsets_after_success(demonstration, successes, start, LAYOUT, ReferenceConfig(), DOUBT)[0]


def test_a_door_ends_along_with_where_it_begins() -> None:
    """In demonstration and success the end is start + (1, 0), so it will be there for a third start too."""
    demonstration, success = brought((1, 1), (2, 1)), brought((1.2, 1.3), (2.2, 1.3))
    offset = best(demonstration, [success], start_of((1.5, 0.8)))
    np.testing.assert_allclose(np.array([2, 1]) + offset, [2.5, 0.8], atol=1e-6)


def test_a_hidden_goal_stays_where_it_was_found() -> None:
    """The success ends at (3, 3) although it began elsewhere than the demonstration: neither start explains that."""
    demonstration, success = brought((1, 1), (2, 1)), brought((1.2, 1.3), (3, 3))
    offset = best(demonstration, [success], start_of((1.5, 0.8)))
    np.testing.assert_allclose(np.array([2, 1]) + offset, [3, 3], atol=1e-6)


def test_an_end_may_go_along_with_another_object() -> None:
    demonstration = brought((1, 1), (2, 1), other=(2, 1.1))
    success = brought((1.2, 1.3), (2.5, 1.5), other=(2.5, 1.6))
    offset = best(demonstration, [success], start_of((1.1, 1.1), other=(2.2, 0.9)))
    np.testing.assert_allclose(np.array([2, 1]) + offset, [2.2, 0.8], atol=1e-6)


def test_two_successes_outweigh_a_coincidence() -> None:
    """The first success ends within the doubt of start + (1, 0) by chance; the second says that the end stays."""
    demonstration = brought((1, 1), (2, 1))
    first, second = brought((1.2, 1.3), (2.21, 1.3)), brought((0.6, 0.9), (2.21, 1.3))
    alone, both = (best(demonstration, wins, start_of((1.5, 0.8))) for wins in ([first], [first, second]))
    np.testing.assert_allclose(np.array([2, 1]) + alone, [2.5, 0.8], atol=1e-6)
    np.testing.assert_allclose(np.array([2, 1]) + both, [2.21, 1.3], atol=1e-6)


def test_absent_objects_explain_nothing() -> None:
    demonstration, success = brought((1, 1), (2, 1), (0, 0)), brought((1.2, 1.3), (2.2, 1.3), (0, 0))
    start = start_of((1.5, 0.8), (0, 0))
    assert len(offsets_after_success(demonstration, [success], start, LAYOUT, ReferenceConfig(), DOUBT)) == 2


def test_only_a_success_from_the_identical_start_is_repeated() -> None:
    demonstration, success = brought((1, 1), (2, 1)), brought((1.2, 1.3), (2.2, 1.3))
    lost = replace(success, successes=np.zeros(10, bool))
    same, other = success.observations[0], start_of((1.5, 0.8))
    shown = Context((demonstration,), (success,))
    assert choose_reference(shown, same) is success
    assert choose_reference(shown, other) is demonstration
    assert choose_reference(Context((demonstration,), (lost,)), same) is demonstration
    assert choose_reference(Context((), (success,)), other) is success
    assert choose_reference(Context((), (lost,)), other) is lost
