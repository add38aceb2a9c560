"""Meta-World as task families: the only file that imports metaworld (its fast stepping stands beside it).

Learners get the first 18 of Meta-World's 39 numbers: the hand, the gripper, two objects. The other
21 are the same numbers one step earlier and the goal, which is zeros in every ML benchmark and is
cut off here once more. Experts are handed `_target_pos`. Trap: Meta-World's `reset(seed=...)` is
ignored; a task that is set replays bit for bit. Source: metaworld 3.1.1, https://meta-world.github.io.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.types import Task as OfficialTask

from tasks import sketches as made_up
from tasks import splits
from tasks.metaworld_fast import accelerate
from wtl.core.rng import seed_for
from wtl.core.task import FamilySpec, ObservationLayout, Split, Task, TaskDistribution

LAYOUT = ObservationLayout(
    size=18, dimensions=3, points=(0, 4, 11), scalars=(3, 7, 8, 9, 10, 14, 15, 16, 17), hand_step=0.01
)
OFFICIAL_GOALS = 50
_VISIBLE = LAYOUT.size
_CAMERA = {"render_mode": "rgb_array", "camera_name": "corner2", "width": 240, "height": 240}
_STEERS_THE_HAND = frozenset({"reach-v3", "reach-wall-v3"})
"""Experts that steer the hand to the goal although the reward measures the fingers, 4.5 cm below: they stop
5 mm inside the success radius of 5 cm, where no imitator succeeds. They are told the goal of the hand."""


class _Rejected(Exception):
    """The family's own reset refused a rand_vec and asked for another one."""


@functools.cache
def _compiled(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(path)


@functools.cache
def _quick_class(name: str) -> type:
    def initialize(self: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = copy.copy(_compiled(self.fullpath))
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    stock = ALL_V3_ENVIRONMENTS[name]
    return type(stock.__name__, (stock,), {"_initialize_simulation": initialize})


def _make_sawyer(name: str, **arguments: Any) -> Any:
    """A stock environment whose model was compiled once a process: 40 instead of 150 ms each."""
    sawyer = _quick_class(name)(**arguments)
    sawyer.__class__ = ALL_V3_ENVIRONMENTS[name]
    return sawyer


class MetaWorldEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """One Meta-World environment behind gymnasium's interface, goal cut off."""

    def __init__(self, name: str, reward_version: str, fast: bool, render: bool) -> None:
        extra = _CAMERA if render else {}
        self.name = name
        self.sawyer = _make_sawyer(name, reward_function_version=reward_version, **extra)
        if fast and not render:
            self.sawyer = accelerate(self.sawyer)
        self.policy: Any = ENV_POLICY_MAP[name]()  # type: ignore[abstract]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (_VISIBLE,), np.float64)
        self.action_space = self.sawyer.action_space
        self.full_observation = np.zeros(39)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """`options={"task": Task}` is required. Raises ValueError for a task of another family."""
        task = (options or {}).get("task")
        if not isinstance(task, Task) or task.family != self.name:
            raise ValueError(f"{self.name} is reset with options={{'task': a task of {self.name}}}, got {task!r}")
        data = {
            "rand_vec": np.array(task.parameters),
            "env_cls": ALL_V3_ENVIRONMENTS[self.name],
            "partially_observable": True,
        }
        self.sawyer.set_task(OfficialTask(self.name, pickle.dumps(data)))
        self.full_observation, _ = self.sawyer.reset()
        return self.full_observation[:_VISIBLE].copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """gymnasium's step; `info["success"]` is Meta-World's flag of this step."""
        self.full_observation, reward, _, truncated, info = self.sawyer.step(action)
        info["success"] = bool(info["success"])
        return self.full_observation[:_VISIBLE].copy(), float(reward), False, bool(truncated), info

    def render(self) -> Any:
        """An RGB picture. Camera corner2 of Meta-World hangs upside down, so it is turned here."""
        return np.ascontiguousarray(self.sawyer.render()[::-1, ::-1])

    def close(self) -> None:
        """Free the simulator."""
        self.sawyer.close()


@dataclass(frozen=True)
class MetaWorldFamily:
    """One of Meta-World's 50 environments as a task family."""

    name: str
    fast: bool = True
    """Accelerated stepping, bit-identical to stock; false for doubters."""
    reward_version: str = "v2"
    goals_per_start: int = 1
    """Tasks beyond the official ones that share one object start, so that the start does not tell the goal."""
    weight: int = 1
    """As how many families it counts in training."""

    def __post_init__(self) -> None:
        if self.name not in ALL_V3_ENVIRONMENTS:
            raise ValueError(
                f"unknown Meta-World family {self.name!r}; `wtl tasks` lists all {len(splits.ALL_FAMILIES)}"
            )

    @property
    def spec(self) -> FamilySpec:
        """See `TaskFamily.spec`."""
        return FamilySpec(
            name=self.name,
            layout=LAYOUT,
            action_size=4,
            horizon_steps=500,
            goal_size=3,
            hidden_goal=self.name in splits.HIDDEN_GOAL,
            reward_scale=10.0,
            weight=self.weight,
        )

    def make_environment(self, render: bool = False) -> MetaWorldEnvironment:
        """See `TaskFamily.make_environment`."""
        return MetaWorldEnvironment(self.name, self.reward_version, self.fast, render)

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """ML1's tasks: train with `seed`, test with `seed + 1`, the first 50 exactly Meta-World's own.

        Any beyond 50, and all of the validation split, are drawn freshly from the family's own space.
        """
        official = official_rand_vecs([self.name], seed + (split == "test"))[self.name] if split != "validation" else []
        return self.tasks_from(official, count, seed, split)

    def tasks_from(self, official: Sequence[np.ndarray], count: int, seed: int, split: Split) -> tuple[Task, ...]:
        """`count` tasks of which the first are the official ones and the rest fresh."""
        vectors = [*official[:count]]
        if count > len(vectors):
            vectors += self._fresh(count - len(vectors), seed_for(seed, "fresh", self.name, split))
        names = [f"{self.name}/{split}/{i}" for i in range(count)]
        return tuple(
            Task(self.name, split, name, _numbers(vector), name) for name, vector in zip(names, vectors, strict=True)
        )

    def _fresh(self, count: int, seed: int) -> list[np.ndarray]:
        drawer = _Drawer(self.name)
        draws = drawer.draw(seed)
        vectors: list[np.ndarray] = []
        while len(vectors) < count:
            vector = next(draws)
            if self.name in splits.HIDDEN_GOAL and len(vectors) % self.goals_per_start:
                vector = np.concatenate([vectors[-1][:3], vector[3:]])
                if not drawer.accepts(vector):
                    continue
            vectors.append(vector)
        return vectors

    def with_other_start(self, task: Task, seed: int) -> Task:
        """See `TaskFamily.with_other_start`. Raises ValueError where the family has one start only."""
        drawer = _Drawer(self.name)
        low, high = drawer.space.low, drawer.space.high
        if (low[:3] == high[:3]).all():
            raise ValueError(f"{self.name} has a single start, so regime `goal` does not exist for it; use `family`")
        hidden = self.name in splits.HIDDEN_GOAL
        for vector in drawer.draw(seed):
            candidate = np.concatenate([vector[:3], np.array(task.parameters)[3:]]) if hidden else vector
            if not np.array_equal(candidate, task.parameters) and drawer.accepts(candidate):
                name = f"{task.name}/other-start"
                return Task(self.name, task.split, name, _numbers(candidate), task.goal_name)
        raise AssertionError("draws are endless")

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """See `TaskFamily.goal`: Meta-World's `_target_pos`."""
        assert isinstance(environment, MetaWorldEnvironment)
        return np.array(environment.sawyer._target_pos, dtype=np.float64)

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """See `TaskFamily.expert_action`: Meta-World's scripted policy, told the goal, clipped."""
        assert isinstance(environment, MetaWorldEnvironment)
        observation = environment.full_observation.copy()
        observation[36:39] = environment.sawyer._target_pos
        if self.name in _STEERS_THE_HAND:
            observation[36:39] += observation[:3] - environment.sawyer.tcp_center
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Constant(s) may be too high": its output is clipped below
            action = environment.policy.get_action(observation)
        return np.clip(action, -1.0, 1.0)

    def simulation_state(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        """See `TaskFamily.simulation_state`: qpos, qvel, mocap position."""
        assert isinstance(environment, MetaWorldEnvironment)
        data = environment.sawyer.data
        return np.concatenate([data.qpos, data.qvel, data.mocap_pos[0]])


def _numbers(vector: np.ndarray) -> tuple[float, ...]:
    return tuple(float(number) for number in vector)


class _Drawer:
    """Draws rand_vecs with a family's own reset, without simulating the 250 steps of each reset.

    Only the draws and the rejections of `reset_model` matter here and neither looks at the simulation,
    so stepping is switched off; a test compares the outcome with Meta-World's own for all families.
    """

    def __init__(self, name: str) -> None:
        self._environment: Any = _make_sawyer(name)
        self._environment._set_task_called = True
        self._environment.do_simulation = lambda *_: None
        self._environment._get_curr_obs_combined_no_goal = lambda: np.zeros(18)
        self.space = self._environment._random_reset_space

    def official(self, count: int) -> list[np.ndarray]:
        """As `metaworld._make_tasks` does: from numpy's global generator, two draws a reset."""
        self._environment._freeze_rand_vec = False
        vectors = []
        for _ in range(count):
            self._environment.reset()
            vectors.append(np.array(self._environment._last_rand_vec))
        return vectors

    def accepts(self, vector: np.ndarray) -> bool:
        """Whether the family's reset takes this rand_vec; a frozen bad one would loop for ever."""
        offers = iter([vector])

        def offer() -> np.ndarray:
            try:
                return next(offers)
            except StopIteration:
                raise _Rejected from None

        self._environment._get_state_rand_vec = offer
        try:
            self._environment.reset_model()
        except _Rejected:
            return False
        finally:
            del self._environment._get_state_rand_vec
        return True

    def draw(self, seed: int) -> Iterator[np.ndarray]:
        """Endless accepted rand_vecs from a generator of their own."""
        generator = np.random.default_rng(seed)
        while True:
            vector = generator.uniform(self.space.low, self.space.high)
            if self.accepts(vector):
                yield vector


def official_rand_vecs(families: Sequence[str], seed: int) -> dict[str, list[np.ndarray]]:
    """What `metaworld._make_tasks(..., seed)` draws for these families, in this order."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        return {name: _Drawer(name).official(OFFICIAL_GOALS) for name in families}
    finally:
        np.random.set_state(state)


def benchmark(
    train: Sequence[str],
    test: Sequence[str],
    *,
    seed: int,
    goals_per_family: int,
    validation_goals_per_family: int,
    test_goals_per_family: int,
    goals_per_start: int = 1,
    sketches: int = 0,
    tasks_per_sketch: int = 4,
    fast: bool = True,
    reward_version: str = "v2",
) -> TaskDistribution:
    """The tasks that Meta-World's own ML1 (one family), ML10, ML25, ML45 or CustomML generate for a seed.

    Numbers of goals other than 50 depart from the benchmark and are recorded by the caller. Validation
    tasks are new goals of the training families. Sketches are training families too, and Meta-World's
    together weigh as much as they do.

    Raises:
        ValueError: unknown family, or more test goals than the official 50.
    """
    if test_goals_per_family > OFFICIAL_GOALS:
        raise ValueError(f"the benchmark has {OFFICIAL_GOALS} test goals a family, got {test_goals_per_family}")
    names = dict.fromkeys([*train, *test])
    weight = max(1, round(sketches / len(train)))
    families = {name: MetaWorldFamily(name, fast, reward_version, goals_per_start, weight) for name in names}
    drawn = made_up.families(sketches, LAYOUT)
    # ML1 draws its test goals with seed + 1, the other benchmarks with the same seed.
    single = list(train) == list(test)
    train_vectors = official_rand_vecs(train, seed)
    test_vectors = official_rand_vecs(test, seed + single)

    def tasks(
        names: Sequence[str], official: dict[str, list[np.ndarray]], count: int, split: Split
    ) -> tuple[Task, ...]:
        return tuple(
            task for name in names for task in families[name].tasks_from(official.get(name, []), count, seed, split)
        )

    sketched = [task for family in drawn.values() for task in family.sample_tasks(tasks_per_sketch, seed, "train")]
    return TaskDistribution(
        families={**families, **drawn},
        train=(*tasks(train, train_vectors, goals_per_family, "train"), *sketched),
        validation=tasks(train, {}, validation_goals_per_family, "validation"),
        test=tasks(test, test_vectors, test_goals_per_family, "test"),
    )


def version() -> str:
    """The installed Meta-World."""
    return importlib.metadata.version("metaworld")
