"""Training of the learned controller: imitation of experts, then rounds of its own roll-ins labelled by them.

python -m learned.train NAME [key=value ...]
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from learned.gather import Labelled, expert_data, labelled, training_entries
from learned.net import (
    Controller,
    ControllerActor,
    NetConfig,
    Reference,
    reference_of,
    settled_start,
    turn,
    turned,
    with_memory,
)
from learned.phase import track
from learned.programs import kind_of, programs_in
from learned.world import FOLD_A, FOLD_B, Entry, demos_of, play, table
from tasks.splits import ML45_TRAIN
from torch import nn
from wtl.seeding import stream

RUNS = Path("runs/learned_control")


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    held: str = "AB"
    """Folds of families held out of training."""
    tasks: int = 40
    seed: int = 1
    contexts: int = 32
    queries: int = 16
    learning_rate: float = 1.5e-3
    first_steps: int = 2500
    round_steps: int = 1500
    rounds: int = 4
    roll_in_tasks: int = 10
    roll_in_steps: int = 200
    own: float = 0.6
    """Share of queries from own roll-ins, once there are any."""
    mirror: bool = True
    sight: float = 0.005
    average: float = 0.998
    programs: float = 0.0
    """Share of contexts from procedural families, once they are mixed in."""
    programs_per_family: int = 12
    relabel: float = 0.0
    """Share of contexts in each of four ways of making a family hard to recognise: the object is reported with an
    offset, efforts and openings of the gripper are scaled, something irrelevant stands about."""
    keep_pools: bool = True
    """Take over the labelled roll-ins of that run as well."""
    first_round: int = 1
    """Number of the first round of roll-ins, so that a later run draws other tasks."""
    start_from: str = ""
    """Another run's checkpoint to begin with."""
    validation: int = 8
    net: NetConfig = NetConfig()


def starts_of(observations: np.ndarray) -> np.ndarray:
    """(T, 18) what counts as the start at each step."""
    starts = np.repeat(settled_start(observations)[None, :18], len(observations), 0).astype(np.float32)
    starts[:3] = observations[:3, :18]
    return starts


class Pairs:
    """Episodes beside references: states with memory, their labels and offsets, drawn by reference."""

    def __init__(
        self, references: list[dict[str, np.ndarray]], goals: np.ndarray, episodes: Sequence[Labelled],
        ends: Sequence[np.ndarray], each: int, g: np.random.Generator,
    ) -> None:  # fmt: skip
        """`each`: references an episode is put beside."""
        lengths = np.array([len(e.labels) for e in episodes])
        self.first, self.length = np.cumsum([0, *lengths[:-1]]), lengths
        self.now = np.concatenate([with_memory(e.observations) for e in episodes])
        starts = [starts_of(e.observations) for e in episodes]
        self.start = np.concatenate(starts)
        self.label = np.clip(np.concatenate([e.labels for e in episodes]), -1, 1).astype(np.float32)
        each = min(each, len(references))
        self.episode = np.repeat(np.arange(len(episodes)), each)
        self.reference = np.concatenate([g.permutation(len(references))[:each] for _ in episodes])
        self.offset = (np.stack(ends)[self.episode] - goals[self.reference]).astype(np.float32)
        phases = track(
            [references[i] for i in self.reference.tolist()], self.offset,
            [episodes[i].observations for i in self.episode.tolist()], [starts[i] for i in self.episode.tolist()],
        )  # fmt: skip
        self.phase_first = np.cumsum([0, *[len(p) for p in phases][:-1]])
        self.phases = np.concatenate(phases)
        self.by_reference = [np.flatnonzero(self.reference == i) for i in range(len(references))]

    def draw(self, reference: int, count: int, g: np.random.Generator) -> dict[str, np.ndarray]:
        """States beside this reference: a pair uniformly, a step of it uniformly."""
        pairs = self.by_reference[reference]
        chosen = pairs[g.integers(len(pairs), size=count)]
        e = self.episode[chosen]
        t = (g.random(count) * self.length[e]).astype(int)
        i = self.first[e] + t
        now = np.concatenate([self.now[i], self.phases[self.phase_first[chosen] + t]], -1)
        return {"now": now, "start": self.start[i], "label": self.label[i], "offset": self.offset[chosen]}


class Family:
    """References and labelled states of a family."""

    def __init__(self, name: str, config: TrainConfig) -> None:
        self.name, self._g = name, stream(config.seed, "pairs", name)
        demos = demos_of(name, config.tasks, config.seed)
        self.references = [reference_of(d.observations, d.actions, config.net) for d in demos]
        self.goals = np.stack([d.goal for d in demos]).astype(np.float32)
        self.pools: list[Pairs] = []
        self.add(expert_data(name, config.tasks, config.seed), 6)

    def add(self, episodes: Sequence[Labelled], each: int = 16) -> None:
        """One more pool of states."""
        self.pools.append(Pairs(self.references, self.goals, episodes, [e.goal for e in episodes], each, self._g))

    def draw(self, reference: int, count: int, own: float, g: np.random.Generator) -> dict[str, np.ndarray]:
        """States beside this reference, so many of them from own roll-ins."""
        mine = [p for p in self.pools[1:] if len(p.by_reference[reference])]
        counts = np.zeros(1 + len(mine), int)
        for _ in range(count):
            counts[int(g.integers(1, 1 + len(mine))) if mine and g.random() < own else 0] += 1
        parts = [p.draw(reference, n, g) for p, n in zip([self.pools[0], *mine], counts.tolist()) if n]
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


class ProgramPool:
    """A procedural family: clean episodes are its references."""

    def __init__(self, episodes: Sequence[Labelled], config: TrainConfig, slide: bool) -> None:
        clean = episodes[: len(episodes) // 2]
        ends = [settled_start(e.observations)[4:7] if slide else e.goal for e in episodes]
        self.references = [reference_of(e.observations, e.labels[:-1], config.net) for e in clean]
        goals = np.stack(ends[: len(clean)]).astype(np.float32)
        self._pairs = Pairs(self.references, goals, episodes, ends, len(clean), np.random.default_rng(0))

    def draw(self, reference: int, count: int, own: float, g: np.random.Generator) -> dict[str, np.ndarray]:
        """States beside this reference."""
        return self._pairs.draw(reference, count, g)


def program_pools(names: Sequence[str], config: TrainConfig) -> list[ProgramPool]:
    """All procedural families in the worlds of these families."""
    pools = []
    for name in names:
        number = 1000 * (ML45_TRAIN.index(name) + 1)
        for k, episodes in enumerate(programs_in(name, config.programs_per_family, number)):
            kind = kind_of(name, number + k)
            pools.append(ProgramPool(episodes, config, kind == "slide"))
    return pools


class Batches:
    """Draws training batches."""

    def __init__(
        self, families: Sequence[Family], config: TrainConfig, seed: int, programs: Sequence[ProgramPool] = ()
    ) -> None:
        self.families, self.config, self.programs = families, config, programs
        self.g = np.random.default_rng(seed)

    def draw(self) -> tuple[Reference, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reference, offset, now, start, label."""
        c, g = self.config, self.g
        chosen = g.integers(len(self.families), size=c.contexts)
        references, parts = [], []
        for f in chosen.tolist():
            made_up = self.programs and g.random() < c.programs
            family = self.programs[int(g.integers(len(self.programs)))] if made_up else self.families[f]
            i = int(g.integers(len(family.references)))
            while family is self.families[f] and not len(family.pools[0].by_reference[i]):
                i = int(g.integers(len(family.references)))
            references.append(family.references[i])
            parts.append(family.draw(i, c.queries, c.own, g))
        now, start, label, offset = (
            torch.from_numpy(np.stack([p[k] for p in parts])) for k in ("now", "start", "label", "offset")
        )
        r = Reference.stack(references)
        if c.sight:
            scale = c.sight * np.where(g.random(c.contexts) < 0.4, g.random(c.contexts), 0.0)
            noise = torch.from_numpy(
                (scale[:, None, None, None] * g.standard_normal((*now.shape[:2], 2, 6))).astype(np.float32)
            )
            present = (now[..., 11:14].abs().sum(-1, keepdim=True) > 0).float()
            now[..., 4:7] += noise[:, :, 0, :3]
            now[..., 11:14] += noise[:, :, 0, 3:] * present
            start[..., 4:7] += noise[:, :, 1, :3]
            start[..., 11:14] += noise[:, :, 1, 3:] * present
        if c.relabel:
            self._relabel(r, now, start, label)
        if c.mirror:
            matrices = torch.zeros(c.contexts, 2, 2)
            swap = torch.from_numpy(g.random(c.contexts) < 0.5)
            signs = torch.from_numpy(g.choice([-1.0, 1.0], (c.contexts, 2)).astype(np.float32))
            plain = torch.from_numpy(g.random(c.contexts) < 0.3)
            swap[plain], signs[plain] = False, 1.0
            rows = torch.arange(c.contexts)
            matrices[rows, 0, swap.long()], matrices[rows, 1, 1 - swap.long()] = signs[:, 0], signs[:, 1]
            r = turned(r, matrices)
            offset, label = turn(matrices, offset), turn(matrices, label)
            for x in (now, start):
                for a in (0, 4, 11):
                    x[..., a : a + 3] = turn(matrices, x[..., a : a + 3])
        return r, offset, now, start, label


def _relabelled(self: Batches, r: Reference, now: torch.Tensor, start: torch.Tensor, label: torch.Tensor) -> None:
    """Change the world alike in references, states and labels, so that a family has to be read, not recognised."""
    g, n, share = self.g, len(now), self.config.relabel

    def number(low: float, high: float, size: int, rest: float) -> torch.Tensor:
        x = g.uniform(low, high, (n, size))
        x[g.random(n) >= share] = rest
        return torch.from_numpy(x.astype(np.float32))

    away = number(-0.04, 0.04, 3, 0.0)
    for x in (now, start):
        x[..., 4:7] += away[:, None]
    r.one, r.start_one, r.end_one = r.one + away[:, None], r.start_one + away, r.end_one + away
    closing, opening = number(0.6, 1.3, 1, 1.0), number(0.5, 1.0, 1, 1.0)
    for x in (label, r.actions):
        effort = x[..., 3]
        x[..., 3] = torch.where(effort > 0, effort * closing, effort * opening).clamp(-1, 1)
    scale, shift = number(0.8, 1.2, 1, 1.0), number(-0.1, 0.1, 1, 0.0)
    for x in (now, start):
        x[..., 3] = x[..., 3] * scale + shift
    r.grip = r.grip * scale + shift
    alone = (r.two_there == 0) & torch.from_numpy(g.random(n) < 0.5 * share)
    place = torch.from_numpy(g.uniform([-0.3, 0.4, 0.0], [0.3, 0.9, 0.2], (n, 3)).astype(np.float32))
    other = place + torch.from_numpy((0.1 * g.standard_normal((n, 3))).astype(np.float32))
    a = alone[:, None, None]
    now[..., 11:14] = torch.where(a, other[:, None], now[..., 11:14])
    start[..., 11:14] = torch.where(a, other[:, None], start[..., 11:14])
    r.two = torch.where(a, place[:, None], r.two)
    r.start_two = torch.where(alone[:, None], place, r.start_two)
    r.two_there = torch.where(alone, torch.ones_like(r.two_there), r.two_there)


Batches._relabel = _relabelled  # type: ignore[attr-defined]


class Disturbed:
    """An actor whose actions are now and then random for a few steps, the gripper too: what was held is dropped."""

    def __init__(self, actor: object, seeds: Sequence[int], rate: Sequence[float]) -> None:
        self._actor, self._rate = actor, np.asarray(rate)
        self._g = [stream(s, "disturbed") for s in seeds]
        self._left, self._push = np.zeros(len(seeds), int), np.zeros((len(seeds), 4))

    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See `Actor.act`."""
        actions = self._actor.act(observations, rows)  # type: ignore[attr-defined]
        for i, row in enumerate(rows.tolist()):
            g = self._g[row]
            if self._left[row] == 0 and g.random() < self._rate[row]:
                self._left[row], self._push[row] = int(g.integers(3, 12)), g.uniform(-1, 1, 4)
                if g.random() < 0.5:
                    self._push[row, 3] = np.nan
            if self._left[row]:
                self._left[row] -= 1
                push = self._push[row]
                actions[i] = np.where(np.isnan(push), actions[i], push)
        return actions


def actor_of(net: Controller | list[Controller], entries: Sequence[Entry], **settings: int) -> ControllerActor:
    """The controller told the truth."""
    nets = net if isinstance(net, list) else [net]
    net = nets[0]
    references = [reference_of(e.shown.observations, e.shown.actions, net.config) for e in entries]
    return ControllerActor(nets, references, np.stack([e.offset for e in entries]), **settings)


def roll_in(net: Controller, family: Family, config: TrainConfig, number: int) -> tuple[list[Labelled], float]:
    """Own episodes on training tasks, labelled by the expert, some disturbed."""
    entries = training_entries(family.name, config.roll_in_tasks, config.seed, number, config.tasks)
    g = stream(config.seed, "rates", family.name, number)
    rates = g.choice([0.0, 0.0, 0.02], len(entries))
    noise = float(g.choice([0.0, 0.1, 0.4]))

    def make(entries: Sequence[Entry], seeds: Sequence[int]) -> Disturbed:
        return Disturbed(actor_of(net, entries), seeds, rates)

    episodes = play(family.name, entries, make, noise=noise, ask=True, horizon=config.roll_in_steps, after=5)
    return [labelled(e) for e in episodes], float(np.mean([e.trajectory.success for e in episodes]))


def main() -> None:
    """Train, measuring after each round."""
    name, *settings = sys.argv[1:]
    config = TrainConfig()
    for setting in settings:
        key, value = setting.split("=")
        if key.startswith("net."):
            config = replace(
                config, net=replace(config.net, **{key[4:]: type(getattr(config.net, key[4:]))(eval(value))})
            )
        else:
            kind = type(getattr(config, key))
            config = replace(config, **{key: value if kind is str else kind(eval(value))})
    held = [f for fold, fs in (("A", FOLD_A), ("B", FOLD_B)) if fold in config.held for f in fs]
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    families = [Family(f, config) for f in ML45_TRAIN if f not in held]
    net = Controller(config.net)
    print(name, asdict(config), "parameters", sum(p.numel() for p in net.parameters()), flush=True)
    average = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate)
    programs = program_pools([f.name for f in families], config) if config.programs else []
    batches = Batches(families, config, config.seed, programs)
    directory = RUNS / name
    directory.mkdir(parents=True, exist_ok=True)
    step, began, first_round = 0, time.time(), 0
    state = directory / "state.pt"
    if config.start_from and not state.exists():
        weights = torch.load(RUNS / config.start_from, weights_only=False)["average"]
        net.load_state_dict(weights), average.load_state_dict(weights)
        earlier = (RUNS / config.start_from).parent / "state.pt"
        if config.keep_pools and earlier.exists():
            kept = torch.load(earlier, weights_only=False)["pools"]
            for family in families:
                family.pools = kept.get(family.name, family.pools)
            del kept
    if state.exists():
        saved = torch.load(state, weights_only=False)
        net.load_state_dict(saved["net"]), average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, first_round = saved["step"], saved["round"] + 1
        for family in families:
            family.pools = saved["pools"][family.name]
    for number in range(first_round, config.rounds + 1):
        if number:
            t, solved = time.time(), []
            for family in families:
                episodes, success = roll_in(average, family, config, number + config.first_round - 1)
                family.add(episodes)
                solved.append(success)
            print(
                f"round {number}: roll-ins {np.mean(solved):.3f} of training families, {time.time() - t:.0f} s; "
                + " ".join(f"{f.name[:-3]}:{s:.1f}" for f, s in zip(families, solved) if s < 0.75),
                flush=True,
            )
        steps = config.round_steps if number else config.first_steps
        last = number == config.rounds
        losses = []
        for i in range(steps):
            warm = min(1.0, (step + 1) / 200)
            rate = config.learning_rate * warm * ((1 - i / steps) if last else 1.0)
            for group in optimizer.param_groups:
                group["lr"] = max(rate, 2e-5)
            r, offset, now, start, label = batches.draw()
            out = net(r, offset, now, start)
            loss = nn.functional.smooth_l1_loss(out, label, beta=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                keep = min(config.average, (step + 1) / (step + 10))
                for a, b in zip(average.parameters(), net.parameters()):
                    a.lerp_(b, 1 - keep)
            losses.append(loss.item())
            step += 1
            if step % 500 == 0:
                print(f"step {step} loss {np.mean(losses[-500:]):.4f} {time.time() - began:.0f} s", flush=True)
        torch.save({"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
                    "step": step, "round": number, "pools": {f.name: f.pools for f in families},
                    "config": asdict(config)}, state)  # fmt: skip
        torch.save({"average": average.state_dict(), "config": asdict(config)}, directory / f"round{number}.pt")
        if held and (number in (0, 2) or number >= config.rounds):
            t = time.time()
            result = table(held, config.validation, lambda e, s: actor_of(average, e), quiet=False, horizon=300)
            print(
                f"validation after round {number}: {np.mean(list(result.values())):.3f} ({time.time() - t:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
