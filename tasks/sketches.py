"""Sketches: endlessly many families that look like Meta-World's to a learner and cost almost nothing.

A hand, an object and sometimes a second place move without forces: an object is carried when it is gripped,
pushed when it is touched, or slides along its own rail; or there is nothing but a place to go to. How a family
wants its object to be approached, touched and moved, where its goal comes from and how it rewards is drawn at
random, so no family can be recognised and each has to be read from its demonstration. Training material only:
nothing is evaluated on sketches. The idea: randomise until reality is one more draw, arXiv 1703.06907.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from wtl.core.rng import seed_for, stream
from wtl.core.task import FamilySpec, ObservationLayout, Split, Task

_LOW, _HIGH = np.array([-0.35, 0.4, 0.03]), np.array([0.35, 0.92, 0.4])
_HORIZON_STEPS = 250
_STEP = 0.01
"""Metres by which an action of 1 moves the hand's target, as in Meta-World."""


@dataclass(frozen=True)
class Plot:
    """What makes a family: drawn once from its name."""

    kind: Literal["carry", "push", "slide", "reach"]
    goal: Literal["hidden", "fixed", "beside", "second"]
    start_low: np.ndarray
    start_high: np.ndarray
    goal_low: np.ndarray
    goal_high: np.ndarray
    hand: np.ndarray
    touch: np.ndarray
    """From the object's reported place to where the hand has to be."""
    approach: np.ndarray
    """From the touching point to where the hand comes from."""
    narrow: float
    """How far off the line of approach the expert goes on."""
    close: float
    """Distance to the touching point from which the expert acts."""
    gain: float
    lag: float
    grip: tuple[float, float]
    """Effort before and after the touch."""
    width: float
    """Opening of the gripper when it holds the object."""
    lift: float
    """Height at which a carried object travels; 0: straight to the goal."""
    rail: np.ndarray
    bend: np.ndarray
    travel: float
    radius: float
    """Of success."""
    rewards: tuple[float, float]
    reach_scale: float
    place_scale: float
    turn: np.ndarray
    """What stands where Meta-World has a quaternion."""


@functools.cache
def plot_of(name: str) -> Plot:
    """The plot of a family; the name is its seed."""
    g = stream(seed_for(0, "sketch", name), "plot")
    between = g.uniform
    kind = str(g.choice(["carry", "push", "slide", "reach"], p=[0.4, 0.2, 0.33, 0.07]))
    goal = str(g.choice(["hidden", "fixed", "beside", "second"], p=[0.45, 0.2, 0.2, 0.15]))
    height = 0.02 if kind in ("carry", "push") and g.random() < 0.8 else float(between(0.05, 0.3))
    middle = between([-0.2, 0.5, height], [0.2, 0.8, height])
    spread = between(0.02, 0.12) * np.array([1.0, 1.0, 0.0])
    sideways = between([-1, -1, 0.0], [1, 1, 0.6])
    above = np.array([0.0, 0.0, 1.0])
    approach = above if g.random() < (0.85 if kind == "carry" else 0.5) else sideways / np.linalg.norm(sideways)
    reach = 0.03 if kind == "carry" else 0.06
    touch = g.uniform(-reach, reach, 3) * (g.random(3) < 0.7)
    rail = between([-1, -1, -0.6], [1, 1, 0.6]) * (g.random(3) < 0.6)
    rail = rail / np.linalg.norm(rail) if rail.any() else np.array([0.0, -1.0, 0.0])
    flat = kind == "push" or (kind == "carry" and g.random() < 0.3)
    goal_middle = between([-0.2, 0.45, 0.02], [0.2, 0.88, 0.02 if flat else 0.3])
    goal_spread = between(0.03, 0.2) * np.array([1.0, 0.6, 0.0 if flat or g.random() < 0.6 else 0.6])
    before = float(g.choice([-1.0, 0.0, 1.0] if kind in ("slide", "push") else [-1.0, 0.0]))
    return Plot(
        kind=kind,  # type: ignore[arg-type]
        goal=goal,  # type: ignore[arg-type]
        start_low=middle - spread,
        start_high=middle + spread,
        goal_low=goal_middle - goal_spread,
        goal_high=goal_middle + goal_spread,
        hand=np.array([0.0, 0.6, 0.2]) + g.uniform(-0.06, 0.06, 3) * (g.random() < 0.3),
        touch=touch,
        approach=approach * between(0.06, 0.18),
        narrow=float(between(0.015, 0.05)),
        close=float(between(0.012, 0.03)),
        gain=float(g.choice([5.0, 10.0, 10.0, 10.0, 25.0])),
        lag=float(between(0.15, 0.4)),
        grip=(before, float(g.choice([0.6, 0.8, 1.0])) if kind == "carry" else before),
        width=float(between(0.25, 0.7)),
        lift=float(between(0.08, 0.25)) if g.random() < 0.5 and not flat else 0.0,
        rail=rail,
        bend=np.cross(rail, g.uniform(-1, 1, 3)) * between(0, 4) * (g.random() < 0.5),
        travel=float(between(0.05, 0.22)),
        radius=float(between(0.02, 0.07)),
        rewards=(float(between(0.5, 3.0)), float(between(2.0, 7.0))),
        reach_scale=float(between(0.03, 0.2)),
        place_scale=float(between(0.05, 0.3)),
        turn=g.uniform(-1, 1, 4) * (g.random(4) < 0.5),
    )


class SketchEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """One sketch in motion."""

    def __init__(self, name: str, layout: ObservationLayout) -> None:
        self.name, self.plot = name, plot_of(name)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (layout.size,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.hand = self.target = self.object = self.start = self.goal = self.second = np.zeros(3)
        self.opening, self.slid, self.held, self.steps = 1.0, 0.0, False, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """`options={"task": Task}` is required. Raises ValueError for a task of another family."""
        task = (options or {}).get("task")
        if not isinstance(task, Task) or task.family != self.name:
            raise ValueError(f"{self.name} is reset with options={{'task': a task of {self.name}}}, got {task!r}")
        numbers = np.array(task.parameters)
        self.hand = self.target = self.plot.hand
        self.object = self.start = numbers[:3]
        self.goal = numbers[3:6]
        self.second = self.goal + self.plot.touch if self.plot.goal == "second" else np.zeros(3)
        self.opening, self.slid, self.held, self.steps = 1.0, 0.0, False, 0
        return self._observation(), {}

    def _observation(self) -> np.ndarray:
        turn = self.plot.turn * (1.0 + self.slid)
        return np.concatenate([self.hand, [self.opening], self.object, turn, self.second, np.zeros(4)])

    @property
    def contact(self) -> np.ndarray:
        """(3,) where the hand has to be to move the object."""
        place = self.object + self.plot.touch
        if self.plot.kind == "push":
            way = self.goal - self.object
            place = place - 0.045 * way / max(float(np.linalg.norm(way)), 1e-6)
        return place

    @property
    def solved(self) -> bool:
        """Whether the object (or the hand, where there is nothing to move) is at the goal."""
        if self.plot.kind == "slide":
            return self.slid >= 0.92 * self.plot.travel
        moved = self.hand if self.plot.kind == "reach" else self.object
        return float(np.linalg.norm(moved - self.goal)) < self.plot.radius

    def on_rail(self, slid: float) -> np.ndarray:
        """(3,) the object's place after it slid so far."""
        return self.start + slid * self.plot.rail + slid**2 * self.plot.bend

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the hand, and the object if the hand has hold of it."""
        plot = self.plot
        action = np.clip(action, -1.0, 1.0)
        self.target = np.clip(self.target + _STEP * action[:3], _LOW, _HIGH)
        before, self.hand = self.hand, self.hand + plot.lag * (self.target - self.hand)
        near = float(np.linalg.norm(before - self.contact)) < 0.035
        smallest = plot.width if (near or self.held) and plot.kind == "carry" else 0.1
        self.opening = float(np.clip(self.opening - 0.08 * action[3], smallest, 1.0))
        self._move(self.hand - before, near)
        self.steps += 1
        reward = 10.0 if self.solved else self._progress()
        return self._observation(), reward, False, self.steps >= _HORIZON_STEPS, {"success": self.solved}

    def _move(self, way: np.ndarray, near: bool) -> None:
        plot = self.plot
        if plot.kind == "carry":
            self.held = (near or self.held) and self.opening < plot.width + 0.1
            if self.held:
                self.object = self.object + way
        elif plot.kind == "push":
            away = self.object + plot.touch - self.hand
            distance = float(np.linalg.norm(away[:2]))
            if distance < 0.045 and abs(away[2]) < 0.05:
                push = away[:2] / max(distance, 1e-6) * (0.045 - distance)
                self.object = self.object + np.append(push, 0.0)
        elif plot.kind == "slide" and near:
            ahead = self.on_rail(self.slid + 0.01) - self.on_rail(self.slid)
            gained = float(way @ ahead) / 0.01 / max(float(np.linalg.norm(ahead)) / 0.01, 1e-6)
            self.slid = float(np.clip(self.slid + max(gained, 0.0), 0.0, plot.travel))
            self.object = self.on_rail(self.slid)

    def _progress(self) -> float:
        """Below 10: nearness to the touching point and of the object to the goal, as Meta-World's rewards."""
        plot = self.plot
        moved = self.hand if plot.kind == "reach" else self.object
        reach = np.exp(-np.linalg.norm(self.hand - self.contact) / plot.reach_scale)
        place = np.exp(-np.linalg.norm(moved - self.goal) / plot.place_scale)
        return float(plot.rewards[0] * (reach if plot.kind != "reach" else 0.0) + plot.rewards[1] * place)

    def render(self) -> Any:
        """A small RGB picture from above: hand black, object orange, goal green."""
        picture = np.full((96, 96, 3), 255, np.uint8)
        for place, colour in ((self.goal, (0, 158, 115)), (self.object, (213, 94, 0)), (self.hand, (0, 0, 0))):
            column, row = int(48 + 110 * place[0]), int(150 - 150 * place[1] + 20)
            picture[max(row - 3, 0) : max(row + 4, 0), max(column - 3, 0) : max(column + 4, 0)] = colour
        return picture

    def expert_action(self) -> np.ndarray:
        """(4,) approach along a line, touch, act; a function of the present state, like Meta-World's experts."""
        plot, hand = self.plot, self.hand
        grip = plot.grip[0]
        if plot.kind == "reach":
            return self._towards(self.goal, grip)
        contact = self.contact
        line = plot.approach / np.linalg.norm(plot.approach)
        away = hand - contact
        along = float(away @ line)
        off = float(np.linalg.norm(away - along * line))
        near = float(np.linalg.norm(away)) < plot.close
        if plot.kind == "carry":
            if self.held:
                return self._towards(self._carry_to(), plot.grip[1])
            if near:
                return self._towards(contact, plot.grip[1])
        elif near or (plot.kind == "slide" and self.slid > 0 and float(np.linalg.norm(away)) < 0.03):
            if plot.kind == "push":
                return self._towards(self.goal + plot.touch, plot.grip[1])
            ahead = self.on_rail(self.slid + 0.05) - self.on_rail(self.slid)
            return self._towards(contact + 1.5 * ahead / max(float(np.linalg.norm(ahead)), 1e-6) * 0.06, plot.grip[1])
        if off > plot.narrow:
            return self._towards(contact + plot.approach, grip)
        return self._towards(contact, grip)

    def _carry_to(self) -> np.ndarray:
        aim = self.goal + (self.hand - self.object)
        if self.plot.lift and float(np.linalg.norm((self.goal - self.object)[:2])) > 0.04:
            aim = np.array([aim[0], aim[1], max(aim[2], self.plot.lift + 0.02)])
            if self.object[2] < self.plot.lift - 0.04:
                aim[:2] = self.hand[:2]
        return aim

    def _towards(self, place: np.ndarray, grip: float) -> np.ndarray:
        return np.append(np.clip(self.plot.gain * (place - self.hand), -1.0, 1.0), grip)


@dataclass(frozen=True)
class SketchFamily:
    """One plot with its tasks."""

    name: str
    layout: ObservationLayout

    @property
    def spec(self) -> FamilySpec:
        """See `TaskFamily.spec`."""
        hidden = plot_of(self.name).goal == "hidden" and plot_of(self.name).kind != "slide"
        return FamilySpec(self.name, self.layout, 4, _HORIZON_STEPS, 3, hidden, 10.0)

    def make_environment(self, render: bool = False) -> SketchEnvironment:
        """See `TaskFamily.make_environment`."""
        return SketchEnvironment(self.name, self.layout)

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """See `TaskFamily.sample_tasks`."""
        generator = stream(seed, "sketch tasks", self.name, split)
        names = [f"{self.name}/{split}/{i}" for i in range(count)]
        return tuple(Task(self.name, split, name, self._draw(generator), name) for name in names)

    def _draw(self, generator: np.random.Generator) -> tuple[float, ...]:
        plot = plot_of(self.name)
        start = generator.uniform(plot.start_low, plot.start_high)
        if plot.kind == "slide":
            goal = start + plot.travel * plot.rail + plot.travel**2 * plot.bend
        elif plot.goal in ("hidden", "second"):
            goal = generator.uniform(plot.goal_low, plot.goal_high)
        else:
            goal = (plot.goal_low + plot.goal_high) / 2
            if plot.goal == "beside":
                goal = goal + (start - (plot.start_low + plot.start_high) / 2)
        return tuple(float(x) for x in (*start, *goal))

    def with_other_start(self, task: Task, seed: int) -> Task:
        """See `TaskFamily.with_other_start`."""
        plot = plot_of(self.name)
        start = stream(seed, "start").uniform(plot.start_low, plot.start_high)
        parameters = (*(float(x) for x in start), *task.parameters[3:])
        return Task(self.name, task.split, f"{task.name}/other-start", parameters, task.goal_name)

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """See `TaskFamily.goal`."""
        assert isinstance(environment, SketchEnvironment)
        return environment.goal.copy()

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """See `TaskFamily.expert_action`."""
        assert isinstance(environment, SketchEnvironment)
        return environment.expert_action()

    def simulation_state(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """See `TaskFamily.simulation_state`."""
        assert isinstance(environment, SketchEnvironment)
        e = environment
        return np.concatenate([e.hand, e.target, e.object, [e.opening, e.slid, float(e.held)]])


def families(count: int, layout: ObservationLayout) -> dict[str, SketchFamily]:
    """`count` families whose experts solve them; a plot that its own expert fails is skipped."""
    found: dict[str, SketchFamily] = {}
    number = 0
    while len(found) < count:
        family = SketchFamily(f"sketch-{number:04d}", layout)
        if _solvable(family):
            found[family.name] = family
        number += 1
    return found


def _solvable(family: SketchFamily) -> bool:
    environment = family.make_environment()
    for task in family.sample_tasks(8, 0, "train"):
        environment.reset(options={"task": task})
        if environment.solved:
            return False
        for _ in range(160):
            environment.step(environment.expert_action())
            if environment.solved:
                break
        if not environment.solved or environment.steps < 15:
            return False
    return True
