"""This module moves a hand and an object by the parameters of a procedurally generated family, without forces.

It is kinematics and not physics: what the hand touches follows it, and nothing falls. Trap: success is read from the
present state, so it can be lost again, as on Meta-World.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from wtl.core.task import ObservationLayout, Task
from wtl.tasks.procedural.parameters import parameters_of

HORIZON_STEPS = 250
_LOW, _HIGH = np.array([-0.35, 0.4, 0.03]), np.array([0.35, 0.92, 0.4])
"""The corners of the box in which the hand moves, in metres."""
_STEP = 0.01
"""Metres by which an action of 1 moves the hand's target, as in Meta-World."""
_PUSHER = 0.045
"""The distance, in metres, that a pushing hand keeps from the object's touching point."""


class ProceduralEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """An environment is one generated family in motion."""

    def __init__(self, name: str, layout: ObservationLayout) -> None:
        self.name, self.parameters = name, parameters_of(name)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (layout.size,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.hand = self.target = self.object = self.start = self.goal = self.second = np.zeros(3)
        self.opening, self.slid, self.held, self.steps = 1.0, 0.0, False, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Return the first observation, (18,) float64 in the order of Meta-World's, and an empty info.

        `options={"task": Task}` is required. Raises ValueError for a task of another family.
        """
        task = (options or {}).get("task")
        if not isinstance(task, Task) or task.family != self.name:
            raise ValueError(f"{self.name} is reset with options={{'task': a task of {self.name}}}, got {task!r}")
        numbers = np.array(task.parameters)
        self.hand = self.target = self.parameters.hand
        self.object = self.start = numbers[:3]
        self.goal = numbers[3:6]
        self.second = self.goal + self.parameters.touch if self.parameters.goal == "second" else np.zeros(3)
        self.opening, self.slid, self.held, self.steps = 1.0, 0.0, False, 0
        return self._observation(), {}

    def _observation(self) -> np.ndarray:
        turn = self.parameters.turn * (1.0 + self.slid)
        return np.concatenate([self.hand, [self.opening], self.object, turn, self.second, np.zeros(4)])

    @property
    def contact(self) -> np.ndarray:
        """Return (3,), where the hand has to be to move the object, in metres."""
        point = self.object + self.parameters.touch
        if self.parameters.kind == "push":
            way = self.goal - self.object
            point = point - _PUSHER * way / max(float(np.linalg.norm(way)), 1e-6)
        return point

    @property
    def solved(self) -> bool:
        """Return whether the object (or the hand, where there is nothing to move) is at the goal."""
        if self.parameters.kind == "slide":
            return self.slid >= 0.92 * self.parameters.travel
        moved = self.hand if self.parameters.kind == "reach" else self.object
        return float(np.linalg.norm(moved - self.goal)) < self.parameters.radius

    def on_rail(self, slid: float) -> np.ndarray:
        """Return (3,), the object's position after it slid so far, in metres."""
        return self.start + slid * self.parameters.rail + slid**2 * self.parameters.bend

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return gymnasium's, after the hand moved, and the object if the hand has hold of it.

        `action` (4,) in [-1, 1] is that of Meta-World; the reward is 10 when solved and less before.
        """
        p = self.parameters
        action = np.clip(action, -1.0, 1.0)
        self.target = np.clip(self.target + _STEP * action[:3], _LOW, _HIGH)
        before, self.hand = self.hand, self.hand + p.lag * (self.target - self.hand)
        near = float(np.linalg.norm(before - self.contact)) < 0.035
        smallest = p.width if (near or self.held) and p.kind == "carry" else 0.1
        self.opening = float(np.clip(self.opening - 0.08 * action[3], smallest, 1.0))
        self._move(self.hand - before, near)
        self.steps += 1
        reward = 10.0 if self.solved else self._progress()
        return self._observation(), reward, False, self.steps >= HORIZON_STEPS, {"success": self.solved}

    def _move(self, way: np.ndarray, near: bool) -> None:
        p = self.parameters
        if p.kind == "carry":
            self.held = (near or self.held) and self.opening < p.width + 0.1
            if self.held:
                self.object = self.object + way
        elif p.kind == "push":
            away = self.object + p.touch - self.hand
            distance = float(np.linalg.norm(away[:2]))
            if distance < _PUSHER and abs(away[2]) < 0.05:
                push = away[:2] / max(distance, 1e-6) * (_PUSHER - distance)
                self.object = self.object + np.append(push, 0.0)
        elif p.kind == "slide" and near:
            ahead = self.on_rail(self.slid + 0.01) - self.on_rail(self.slid)
            gained = float(way @ ahead) / 0.01 / max(float(np.linalg.norm(ahead)) / 0.01, 1e-6)
            self.slid = float(np.clip(self.slid + max(gained, 0.0), 0.0, p.travel))
            self.object = self.on_rail(self.slid)

    def _progress(self) -> float:
        """Return a reward below 10 for a hand near the touching point and an object near the goal."""
        p = self.parameters
        moved = self.hand if p.kind == "reach" else self.object
        reach = np.exp(-np.linalg.norm(self.hand - self.contact) / p.reach_scale)
        move = np.exp(-np.linalg.norm(moved - self.goal) / p.move_scale)
        return float(p.rewards[0] * (reach if p.kind != "reach" else 0.0) + p.rewards[1] * move)

    def render(self) -> Any:
        """Return a picture from above, (96, 96, 3) uint8: hand black, object orange, goal green."""
        picture = np.full((96, 96, 3), 255, np.uint8)
        for point, colour in ((self.goal, (0, 158, 115)), (self.object, (213, 94, 0)), (self.hand, (0, 0, 0))):
            column, row = int(48 + 110 * point[0]), int(150 - 150 * point[1] + 20)
            picture[max(row - 3, 0) : max(row + 4, 0), max(column - 3, 0) : max(column + 4, 0)] = colour
        return picture

    def expert_action(self) -> np.ndarray:
        """Return (4,): it approaches along a line, touches and acts; it depends on the present state alone."""
        p, hand = self.parameters, self.hand
        grip = p.grip[0]
        if p.kind == "reach":
            return self._towards(self.goal, grip)
        contact = self.contact
        line = p.approach / np.linalg.norm(p.approach)
        away = hand - contact
        along = float(away @ line)
        off = float(np.linalg.norm(away - along * line))
        near = float(np.linalg.norm(away)) < p.close
        if p.kind == "carry":
            if self.held:
                return self._towards(self._carry_to(), p.grip[1])
            if near:
                return self._towards(contact, p.grip[1])
        elif near or (p.kind == "slide" and self.slid > 0 and float(np.linalg.norm(away)) < 0.03):
            if p.kind == "push":
                return self._towards(self.goal + p.touch, p.grip[1])
            ahead = self.on_rail(self.slid + 0.05) - self.on_rail(self.slid)
            return self._towards(contact + 1.5 * ahead / max(float(np.linalg.norm(ahead)), 1e-6) * 0.06, p.grip[1])
        if off > p.narrow:
            return self._towards(contact + p.approach, grip)
        return self._towards(contact, grip)

    def _carry_to(self) -> np.ndarray:
        aim = self.goal + (self.hand - self.object)
        if self.parameters.lift and float(np.linalg.norm((self.goal - self.object)[:2])) > 0.04:
            aim = np.array([aim[0], aim[1], max(aim[2], self.parameters.lift + 0.02)])
            if self.object[2] < self.parameters.lift - 0.04:
                aim[:2] = self.hand[:2]
        return aim

    def _towards(self, point: np.ndarray, grip: float) -> np.ndarray:
        return np.append(np.clip(self.parameters.gain * (point - self.hand), -1.0, 1.0), grip)
