"""Procedural families in real physics: random scripted behaviours played in the training families' worlds.

A program approaches a point beside an object along a line, touches or grips it, and carries, pushes or drags it on,
or only goes to a place. It is a function of the present observation and of a goal that is drawn for each task, as
Meta-World's experts are; nothing says whether Meta-World would count it as success, and nothing needs to. An episode of
it is a reference for another one with another start and goal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from learned.gather import Labelled
from learned.world import DATA, POOL, cached, demos_of, tasks_of
from wtl.rollout import Demonstrator, Ending, Noise, roll_out
from wtl.seeding import seed_for, stream

from tasks.metaworld import MetaWorldFamily

FREE = frozenset(f"{n}-v3" for n in (
    "assembly", "basketball", "coffee-pull", "coffee-push", "disassemble", "hammer", "pick-place-wall",
    "pick-out-of-hole", "push-back", "pick-place", "peg-insert-side", "peg-unplug-side", "soccer", "stick-push",
    "stick-pull", "push-wall", "push", "shelf-place", "sweep-into", "sweep",
))  # fmt: skip
"""Families whose first object can be carried; elsewhere a program seldom tries to."""


@dataclass(frozen=True)
class Program:
    """One behaviour, drawn once."""

    kind: str
    place: int
    """Index of the object's position in an observation: 4 or 11."""
    touch: np.ndarray
    approach: np.ndarray
    height: float
    narrow: float
    close: float
    gain: float
    grip: tuple[float, float]
    early: float
    """Distance above the touching point from which the second effort is given."""
    lift: float
    way: np.ndarray
    goal_middle: np.ndarray
    goal_spread: np.ndarray
    relative: bool
    """The goal is drawn relative to the object's start."""

    def goal(self, name: str, start: np.ndarray) -> np.ndarray:
        """Where it is to end, for the task of this name."""
        g = stream(0, "program goal", name)
        there = self.goal_middle + self.goal_spread * g.uniform(-1, 1, 3)
        base = start[self.place : self.place + 3] if self.relative else np.zeros(3)
        return base + there

    def action(self, o: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """What it does now."""
        hand, thing = o[:3], o[self.place : self.place + 3]
        if self.kind == "reach":
            return self._to(hand, goal, self.grip[0])
        contact = thing + self.touch
        if self.kind == "push":
            way = goal - thing
            way[2] = 0.0
            way = way / max(float(np.linalg.norm(way)), 1e-6)
            behind = float(np.clip(-(hand - thing - self.touch) @ way, 0.02, 0.05))
            contact = contact - behind * way
        away = hand - contact
        along = float(away @ self.approach)
        off = float(np.linalg.norm(away - along * self.approach))
        grip = self.grip[1] if off < self.narrow and abs(along) < self.early else self.grip[0]
        if off > self.narrow:
            return self._to(hand, contact + self.height * self.approach, grip)
        if abs(along) > self.close:
            return self._to(hand, contact, grip)
        if self.kind == "slide":
            return self._to(hand, hand + 0.08 * self.way, grip)
        aim = goal + (hand - thing if self.kind == "carry" else self.touch)
        if self.lift and float(np.linalg.norm((goal - thing)[:2])) > 0.04:
            aim[2] = max(aim[2], self.lift)
            if hand[2] < self.lift - 0.04:
                aim[:2] = hand[:2]
        return self._to(hand, aim, grip)

    def _to(self, hand: np.ndarray, place: np.ndarray, grip: float) -> np.ndarray:
        return np.clip(np.append(self.gain * (place - hand), grip), -1, 1)


def hint_of(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """How the family's own expert touches its object, seen from it, and which way the object goes; None if it stays."""
    demo = demos_of(name, 40, 1)[0]
    o = demo.observations
    moved = np.linalg.norm(o[:, 4:7] - o[2, 4:7], axis=-1)
    if moved[3:].max() < 0.03:
        return None
    at = 3 + int((moved[3:] > 0.012).argmax())
    way = o[min(at + 12, len(o) - 1), 4:7] - o[max(at - 1, 2), 4:7]
    return (o[at, :3] - o[at, 4:7]).astype(float), (way / max(float(np.linalg.norm(way)), 1e-6)).astype(float)


def program_of(number: int, two: bool, hint: tuple[np.ndarray, np.ndarray] | None = None, free: bool = True) -> Program:
    """The program of this number; `two`: there is a second object; `hint`: see `hint_of`."""
    g = stream(number, "program")
    kind = str(
        g.choice(["carry", "push", "slide", "reach"], p=[0.6, 0.08, 0.26, 0.06] if free else [0.1, 0.05, 0.79, 0.06])
    )
    above = np.array([0.0, 0.0, 1.0])
    side = g.normal(size=3) * [1, 1, 0.4]
    side[2] = abs(side[2])
    approach = above if g.random() < (0.9 if kind == "carry" else 0.5) else side / np.linalg.norm(side)
    reach = np.array([0.02, 0.02, 0.02]) if kind == "carry" else np.array([0.07, 0.07, 0.06])
    touch = g.uniform(-reach, reach) * (g.random(3) < 0.7) + [0, 0, 0.01]
    way = g.normal(size=3) * (g.random(3) < 0.6)
    way = way / np.linalg.norm(way) if way.any() else np.array([0.0, -1.0, 0.0])
    if hint is not None and kind == "slide" and g.random() < 0.7:
        touch = hint[0] + 0.008 * g.normal(size=3)
        way = hint[1] + 0.2 * g.normal(size=3)
        way = way / np.linalg.norm(way)
    relative = bool(g.random() < 0.4)
    middle = (
        g.uniform([-0.15, -0.15, 0.0], [0.15, 0.15, 0.2])
        if relative
        else g.uniform([-0.2, 0.5, 0.03], [0.2, 0.82, 0.25])
    )
    flat = kind == "push" or g.random() < 0.3
    if flat:
        middle[2] = 0.0 if relative else 0.03
    spread = g.uniform(0.0, 0.12) * np.array([1.0, 0.7, 0.0 if flat else 0.5])
    before = (
        float(g.choice([-1.0, 0.0, 1.0], p=[0.4, 0.3, 0.3]))
        if kind in ("slide", "push")
        else float(g.choice([-1.0, 0.0]))
    )
    after = float(g.choice([0.6, 0.8, 1.0])) if kind == "carry" or (kind == "slide" and g.random() < 0.3) else before
    return Program(
        kind, 11 if two and g.random() < 0.3 else 4, touch, approach, float(g.uniform(0.06, 0.18)),
        float(g.uniform(0.012, 0.04)), float(g.uniform(0.01, 0.03)), float(g.choice([5.0, 10.0, 10.0, 25.0, 25.0])),
        (before, after), float(g.uniform(0.02, 0.12)), float(g.uniform(0.1, 0.25)) if g.random() < 0.5 and not flat else 0.0,
        way, middle, spread, relative,
    )  # fmt: skip


TWO = ("hammer-v3", "stick-push-v3", "stick-pull-v3")


def kind_of(name: str, number: int) -> str:
    """The kind of a program in a family's world."""
    return program_of(number, name in TWO, hint_of(name), name in FREE).kind


@dataclass(frozen=True)
class ProgramFamily:
    """`MetaWorldFamily` with another expert."""

    base: MetaWorldFamily
    program: Program
    goals: dict

    @property
    def spec(self):
        """Of the base."""
        return self.base.spec

    def goal(self, environment):
        """Drawn for the start that stands there now."""
        goal = self.program.goal(repr(environment.full_observation[4:7].tolist()), environment.full_observation)
        self.goals[id(environment)] = goal
        return goal

    def expert_action(self, environment):
        """The program's."""
        return self.program.action(environment.full_observation, self.goals[id(environment)])

    def simulation_state(self, environment):
        """Not kept."""
        return np.zeros(0)


def play_program(name: str, number: int, tasks: list, seed: int) -> list[Labelled]:
    """Episodes of a program in a family's world: the first half clean, the others under noise."""
    base = MetaWorldFamily(name)
    environments = POOL.take(base, len(tasks))
    family = ProgramFamily(base, program_of(number, name in TWO, hint_of(name), name in FREE), {})
    seeds = [seed_for(seed, "program", number, t.name) for t in tasks]
    g = stream(seed, "program noise", number)
    clean = len(tasks) // 2
    made = []
    for part, scale in ((slice(0, clean), 0.0), (slice(clean, None), float(g.choice([0.3, 0.8])))):
        episodes = roll_out(
            family, environments[part], tasks[part], seeds[part], Demonstrator(Noise(scale), varied=False),  # type: ignore[arg-type]
            ending=Ending(110, None), keep_states=False,
        )  # fmt: skip
        for e in episodes:
            o = e.trajectory.observations
            thing = (
                o[:, :3] if family.program.kind == "reach" else o[:, family.program.place : family.program.place + 3]
            )
            at_goal = np.linalg.norm(thing - e.goal, axis=-1) < 0.03
            moved = np.linalg.norm(thing - thing[2], axis=-1) > 0.08
            done = moved if family.program.kind == "slide" else at_goal
            stop = min(int(done.argmax()) + 8, 110) if done[3:].any() and done.argmax() > 2 else 100
            made.append(Labelled(f"{name}/{number}", o[:stop], np.asarray(e.expert_actions)[:stop],
                                 np.asarray(e.goal, np.float64), f"{e.task.name}/{number}"))  # fmt: skip
    return made


def programs_in(name: str, count: int, first: int, tasks: int = 8, seed: int = 1) -> list[list[Labelled]]:
    """Cached: `count` programs in a family's world."""

    def make() -> list[list[Labelled]]:
        drawn = tasks_of(name, 40, seed)
        made = []
        for k in range(count):
            number = first + k
            g = stream(number, "tasks")
            chosen = [drawn[i] for i in g.permutation(len(drawn))[:tasks].tolist()]
            made.append(play_program(name, number, chosen, seed))
        return made

    return cached(DATA / f"programs-{name}-{count}-{first}.pkl", make)  # type: ignore[return-value]


if __name__ == "__main__":
    import sys
    import time

    from tasks.splits import ML45_TRAIN

    began = time.time()
    for i, name in enumerate(ML45_TRAIN):
        made = programs_in(name, int(sys.argv[1]), 1000 * (i + 1))
        moved = [np.linalg.norm(e.observations[-1, 4:7] - e.observations[2, 4:7]) > 0.02 for p in made for e in p]
        print(
            name,
            len(made),
            sum(len(e.labels) for p in made for e in p),
            f"moved {np.mean(moved):.2f}, {time.time() - began:.0f} s",
            flush=True,
        )
