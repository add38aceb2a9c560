"""Following a trajectory in another place: the same route, carried over to where things stand now.

A route is bent by shifts. Up to where the first object begins to move, it goes along with that object's place
at the start; where another one begins to move (what a stick is brought to), with that one's; and from there it
turns, as the first object is brought to its end, to a shift of that end. The hand is steered along the route
and waits where it is held up. With the shift of the end known, the scripted experts' tasks are solved from one
demonstration; a hidden goal *is* an unknown shift, and inferring it is left to `wtl.methods.transfer.method`. A route
that has come to its end without an end of the episode goes on with another guess: from shortly before its end
while the object is still in the hand, else from its beginning. Free of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wtl.core.episode import Context, Trajectory
from wtl.core.rng import stream
from wtl.core.task import ObservationLayout

_STILL = 1e-3  # hand steps; routes are float32, and correcting what rounding left would make a repetition another one


@dataclass(frozen=True)
class FollowerConfig:
    """How a route is walked. Lengths are in hand steps: the way of the hand in one step at full action."""

    gain: float = 0.1
    """Of the correction added to the recorded action: action for each hand step of distance from the route."""
    catch_up_gain: float = 0.25
    """The same where the hand is so far from the route that the route waits."""
    tolerance_steps: float = 3.0
    """The distance from which on the route waits."""
    patience_steps: int = 25
    """Control steps that it waits at most; a hand that is held up presses on along the route."""
    rest_steps: int = 10
    """Control steps at the end of the route before the next guess."""
    resume_steps: int = 15
    """How far before its end, at most, the route is resumed while the object is still in the hand."""
    hold_steps: float = 3.0
    """The object is still in the hand if its place from there is that of the route's end, up to this distance."""
    touch_spread_steps: float = 1.0
    """Deviation of the start's shift when the route begins again: a grasp that failed is not to fail alike."""
    moved_steps: float = 2.0
    """An object that stays within this distance has not been moved."""
    after_success_steps: int = 5
    """Control steps of a route after its first success."""

    def __post_init__(self) -> None:
        for name in ("gain", "catch_up_gain", "tolerance_steps", "hold_steps", "moved_steps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"follower.{name} must be positive, got {getattr(self, name)}")
        for name in ("patience_steps", "rest_steps", "resume_steps", "touch_spread_steps", "after_success_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"follower.{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class Station:
    """An object that the route goes by: there it is shifted as that object's place at the start is."""

    place: int
    start_D: np.ndarray
    progress: float
    """Of the route, where it is reached."""


@dataclass(frozen=True)
class Route:
    """What a trajectory says about the way."""

    hand_TD: np.ndarray
    """Where the hand was, one row for each action."""
    actions_TA: np.ndarray
    progress_T: np.ndarray
    """From 0 to 1: how far the first object had been brought, or the hand where nothing was moved."""
    stations: tuple[Station, ...]
    """At progress 0 what the route begins relative to, then, in this order, every other object that begins to move
    before the first has come to its end."""
    moved_from: int = 0
    """The first step at which all of them are on their way."""
    held_D: np.ndarray | None = None
    """Where the first object stood at the end, seen from the hand; None if nothing was moved."""


def route_of(trajectory: Trajectory, layout: ObservationLayout, config: FollowerConfig) -> Route:
    """The route of a trajectory up to shortly after its first success, or of all of it."""
    solved = int(trajectory.successes.argmax()) + 1 if trajectory.success else len(trajectory)
    steps = min(solved + config.after_success_steps, len(trajectory))
    places_TPD = layout.positions(trajectory.observations[: steps + 1].astype(np.float64))
    hand = places_TPD[:, 0]
    things = [p for p in range(1, places_TPD.shape[1]) if places_TPD[0, p].any()]
    moved = {p: np.linalg.norm(places_TPD[:, p] - places_TPD[0, p], axis=-1) for p in things}
    far = config.moved_steps * layout.hand_step
    touched = {p: int((way > far).argmax()) for p, way in moved.items() if way.max() > far}
    actions = trajectory.actions[:steps].astype(np.float64)
    if touched:
        first, *others = sorted(touched, key=touched.__getitem__)
        way = np.maximum.accumulate(moved[first])
        progress = way / way[-1]
        # What begins to move when the first has all but come to its end is no place on the way there.
        others = [p for p in others if way[-1] - way[touched[p]] > far]
        stations = [Station(first, places_TPD[0, first], 0.0)]
        stations += [Station(p, places_TPD[0, p], float(progress[touched[p]])) for p in others]
        moved_from = min(max(touched[station.place] for station in stations), steps - 1)
        held = places_TPD[-1, first] - hand[-1]
        return Route(hand[:-1], actions, progress[:-1], tuple(stations), moved_from, held)
    nearest = sorted(things, key=lambda p: float(np.linalg.norm(places_TPD[:, p] - hand, axis=-1).min()))[:1]
    way = np.append(0.0, np.linalg.norm(np.diff(hand, axis=0), axis=-1).cumsum())
    progress = way / max(way[-1], 1e-9)
    return Route(hand[:-1], actions, progress[:-1], tuple(Station(p, places_TPD[0, p], 0.0) for p in nearest))


class Follower:
    """`wtl.play.rollout.Actor`: one route a row, bent by a guess of where its end has gone."""

    def __init__(
        self,
        config: FollowerConfig,
        layout: ObservationLayout,
        guides: Sequence[Trajectory],
        guess: Callable[[np.ndarray, np.ndarray], np.ndarray],
        seeds: Sequence[int],
    ) -> None:
        """`guess` is asked once a row, with the rows (R,) and their first observations (R, O), for (R, H, D) shifts
        of the end, in the units of places, to be tried in this order.

        Raises:
            ValueError: actions here do not move the hand.
        """
        if layout.hand_step <= 0:
            raise ValueError(
                "following needs actions that begin with the motion of the hand; ObservationLayout.hand_step says "
                f"how far a full one moves it, got {layout.hand_step}"
            )
        self._config, self._layout, self._guess = config, layout, guess
        routes = [route_of(guide, layout, config) for guide in guides]
        self._last = np.array([len(route.actions_TA) - 1 for route in routes])
        longest = int(self._last.max()) + 1

        def padded(name: str) -> np.ndarray:
            return np.stack([_extended(getattr(route, name), longest) for route in routes])

        self._hand, self._actions, self._progress = padded("hand_TD"), padded("actions_TA"), padded("progress_T")
        self._stations = [route.stations for route in routes]
        # Knots of the bend: where on the way, and shifted by how much; those that a row does not need are its end.
        count, size = len(guides), layout.dimensions
        most = max(max(len(stations), 1) for stations in self._stations)
        self._knots, self._shifts = np.ones((count, most + 1)), np.zeros((count, most + 1, size))
        self._knots[:, 0] = 0.0
        for row, stations in enumerate(self._stations):
            self._knots[row, : len(stations)] = [station.progress for station in stations]
        self._resume = np.maximum(self._last - config.resume_steps, [route.moved_from for route in routes])
        self._held = [route.held_D for route in routes]
        self._generators = [stream(seed, "touch") for seed in seeds]
        self._phase = np.full(count, -1)
        self._waited, self._rested = np.zeros(count, int), np.zeros(count, int)
        self._guesses = [np.zeros((1, size))] * count
        self._tries = np.zeros(count, int)

    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Actor.act`."""
        config, step, size = self._config, self._layout.hand_step, self._layout.dimensions
        observations = np.asarray(observations, np.float64)
        new = self._phase[rows] < 0
        if new.any():
            for row, guesses in zip(rows[new].tolist(), self._guess(rows[new], observations[new]), strict=True):
                self._guesses[row] = guesses
        again = self._rested[rows] > config.rest_steps
        for i in np.flatnonzero(new | again):
            self._set_out(int(rows[i]), observations[i])

        phase = self._phase[rows]
        away = self._hand[rows, phase] + self._bend(rows, phase) - observations[:, self._layout.points[0] :][:, :size]
        far = np.linalg.norm(away, axis=-1)
        away[far < _STILL * step] = 0.0
        near = far < config.tolerance_steps * step
        ended = phase == self._last[rows]
        goes_on = near | (self._waited[rows] >= config.patience_steps)

        actions = self._actions[rows, phase]
        # While it waits, and once it has come to its end, the route has no motion of its own.
        moving = (goes_on & (self._rested[rows] == 0))[:, None]
        gain = np.where(moving, config.gain, config.catch_up_gain) / step
        actions[:, :size] = np.where(moving, actions[:, :size], 0.0) + gain * away
        self._waited[rows] = np.where(near, 0, self._waited[rows] + 1)
        self._rested[rows] += ended & goes_on
        self._phase[rows] = np.where(goes_on & ~ended, phase + 1, phase)
        return np.clip(actions, -1.0, 1.0)

    def _bend(self, rows: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """(R, D) how far the route is shifted here: piecewise linear in its progress."""
        progress = self._progress[rows, phase]
        leg = (self._knots[rows, 1:-1] <= progress[:, None]).sum(axis=1)
        begun, done = self._knots[rows, leg], self._knots[rows, leg + 1]
        part = ((progress - begun) / np.maximum(done - begun, 1e-9))[:, None]
        return (1.0 - part) * self._shifts[rows, leg] + part * self._shifts[rows, leg + 1]

    def _set_out(self, row: int, observation: np.ndarray) -> None:
        """Go for the next guess, with what is in the hand or from the beginning."""
        places_PD, tried = self._layout.positions(observation), int(self._tries[row])
        stations = self._stations[row]
        self._shifts[row, max(len(stations), 1) :] = self._guesses[row][tried % len(self._guesses[row])]
        self._tries[row] += 1
        self._waited[row] = self._rested[row] = 0
        if tried and self._still_held(row, places_PD):
            self._phase[row] = self._resume[row]
            return
        self._phase[row] = 0
        self._shifts[row, 0] = 0.0
        for number, station in enumerate(stations):
            place, last = places_PD[station.place], self._shifts[row, max(number - 1, 0)]
            self._shifts[row, number] = place - station.start_D if place.any() else last
        if tried:
            spread = self._config.touch_spread_steps * self._layout.hand_step
            self._shifts[row, 0] += spread * self._generators[row].standard_normal(places_PD.shape[1])

    def _still_held(self, row: int, places_PD: np.ndarray) -> bool:
        held = self._held[row]
        if held is None:
            return True  # nothing was to be moved, so nothing can have been lost
        away = places_PD[self._stations[row][0].place] - places_PD[0] - held
        return float(np.linalg.norm(away)) < self._config.hold_steps * self._layout.hand_step


@dataclass(frozen=True)
class Astray:
    """An `Improver` that follows demonstrations to where it is told: its trials miss as honest guesses do."""

    config: FollowerConfig
    layout: ObservationLayout
    shifts: tuple[np.ndarray, ...]
    """(H, D) a row."""
    source: str = "follower led astray"

    def actor(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Follower:
        """See `Improver.actor`. Raises ValueError for a context without a demonstration."""
        guides = [context.demonstration for context in contexts if context.demonstration is not None]
        if len(guides) < len(contexts):
            raise ValueError(f"following needs a demonstration, got {len(contexts) - len(guides)} contexts without")
        shifts = np.stack(self.shifts)
        return Follower(self.config, self.layout, guides, lambda rows, _: shifts[rows], seeds)


def _extended(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])
