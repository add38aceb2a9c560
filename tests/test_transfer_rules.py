"""What a success says about the end of an episode that begins elsewhere, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wtl.core.episode import Trajectory
from wtl.core.task import ObservationLayout
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


def test_who_only_passed_by_its_goal_was_there_when_it_was_last_solved() -> None:
    """The flag was up for three steps on the way, and the object went on."""
    demonstration, passing = brought((1, 1), (2, 1)), brought((1, 1), (6, 1))
    passing = replace(passing, successes=np.isin(np.arange(10), [2, 3, 4]))
    offset = best(demonstration, [passing], start_of((1, 1)))
    np.testing.assert_allclose(np.array([2, 1]) + offset, [3.5, 1], atol=1e-6)  # after its fifth step


def test_where_nothing_was_moved_the_hand_is_what_comes_to_an_end() -> None:
    """An object stands about and says nothing of where the hand has to go."""

    def reached(end: tuple[float, float], thing: tuple[float, float]) -> Trajectory:
        way = np.linspace((0, 0), end, 11)
        observations = np.concatenate([way, np.tile([*thing, 9.0, 9.0], (11, 1))], axis=1)
        return Trajectory(observations, np.zeros((10, 2)), np.zeros(10), np.arange(10) == 9)

    offset = best(reached((1, 1), (0.5, 0.5)), [reached((2, 3), (0.7, 0.2))], start_of((0.1, 0.9)))
    np.testing.assert_allclose(offset, [1, 2], atol=1e-6)
