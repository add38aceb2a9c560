"""What `import wtl` offers: evaluate a policy, load a trained one and act with it anywhere, read and write episodes.

Nothing here is a second way of doing things: evaluations go through the stages, episodes through the one environment
loop, and curves through `wtl.analysis`. Trap: an object of your own is evaluated as it is now, so its results are
never taken over from an earlier call: a folder that holds an evaluation is refused.
"""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium
import numpy as np

from wtl.core.bounds import Count, Text, check, shown
from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.files import scratch_folder
from wtl.core.task import FamilySpec, Split, Task
from wtl.data.formats.spec import check_numbers, make_trajectory
from wtl.data.store import EpisodeStore, write_store
from wtl.play.policy import Attempt, FromContext, Method, Player, Policy, Session, StepBatch
from wtl.play.rollout import RolloutSettings, roll_out

if TYPE_CHECKING:  # imported where they are needed: pandas and torch are slow to import
    from wtl.analysis.runs import RunResults
    from wtl.methods.wrapped import Acts
    from wtl.stages.evaluate import Contestant

Arrays = Trajectory | Mapping[str, Any] | Sequence[Any]
"""An episode: a `Trajectory`, or its observations (T + 1, O), actions (T, A), rewards (T,) and successes (T,), in this
order or by these names."""

NOTHING_KNOWN = Context()
_Name = Annotated[str, Text("text that can be seen, or empty", r"(?s:.*\S.*)?")]
USUAL = RolloutSettings(horizon_steps=500)
"""At most 500 steps, five steps more after the first success, rewards seen when the episode is over."""


def make_context(demonstrations: Iterable[Arrays] = (), trials: Iterable[Arrays] = ()) -> Context:
    """Return what a method reads about a task, made from arrays.

    Args:
        demonstrations: successful episodes of somebody else, of another task of the family.
        trials: the method's own episodes of this very task, the newest last.

    Raises:
        ValueError: arrays of another shape, numbers that are not finite, actions outside [-1, 1]; the message says
            which and what was expected.
    """
    return Context(_trajectories(demonstrations, "demonstration"), _trajectories(trials, "trial"))


def _trajectories(episodes: Iterable[Arrays], what: str) -> tuple[Trajectory, ...]:
    if isinstance(episodes, (str, Mapping)) or not isinstance(episodes, Iterable):
        raise ValueError(f"{what}s must be a list of episodes, got {type(episodes).__name__}")
    return tuple(_trajectory(arrays, f"{what} {number}") for number, arrays in enumerate(episodes))


def _trajectory(arrays: Arrays, where: str) -> Trajectory:
    if isinstance(arrays, Trajectory):
        check_numbers(arrays, where)
        return arrays
    names = ("observations", "actions", "rewards", "successes")
    if isinstance(arrays, Mapping):
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"{where} needs {', '.join(names)}; missing: {', '.join(missing)}")
        arrays = [arrays[name] for name in names]
    if isinstance(arrays, str) or not isinstance(arrays, Sequence) or len(arrays) != len(names):
        got = f"{len(arrays)} arrays" if isinstance(arrays, (list, tuple)) else type(arrays).__name__
        raise ValueError(f"{where} must be {', '.join(names)}, in this order; got {got}")
    return make_trajectory(dict(zip(names, arrays, strict=True)), where)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained method, ready to adapt to what it is shown. It is a `Method` too."""

    name: str
    """The name of the method."""
    directory: Path
    """The folder of its checkpoint."""
    sizes: FamilySpec
    """The sizes that it was trained for: observations, actions, horizon, scale of the rewards."""
    method: Method
    reads_trials: bool
    """Whether trials change its behaviour."""

    @property
    def source(self) -> str:
        """Its name and the digest of its weights."""
        return self.method.source

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        """Return the policy of one context a row, see `Method.adapt`; `agent` is for one environment."""
        return self.method.adapt(contexts, seeds)

    def agent(self, context: Context = NOTHING_KNOWN, seed: int = 0) -> Agent:
        """Return who acts in one environment after reading this context.

        Raises:
            ValueError: the method cannot read it, for instance because it needs a demonstration.
        """
        if not isinstance(context, Context):
            raise ValueError(f"agent reads what `make_context` returns, got {type(context).__name__}")
        try:
            seed = operator.index(seed)
        except TypeError:
            raise ValueError(f"seed must be a whole number, got {shown(seed)}") from None
        size = self.sizes.layout.size
        for trajectory in (*context.demonstrations, *context.trials):
            if trajectory.observations.shape[1] != size:
                seen = trajectory.observations.shape[1]
                raise ValueError(f"{self.source} reads observations of {size} numbers, the context holds {seen}")
        return Agent(self.method.adapt([context], [seed]), self.sizes, self.source)


class Agent:
    """Who acts in one environment, for one episode. Make a new one for each episode."""

    def __init__(self, policy: Policy, sizes: FamilySpec, source: str) -> None:
        self._policy, self.sizes, self.source = policy, sizes, source
        self._number = 0

    def act(self, observation: np.ndarray, reward: float = np.nan, success: float = np.nan) -> np.ndarray:
        """Return the action (A,) within [-1, 1] for an observation (O,).

        Args:
            reward: what the step before earned, where feedback comes at each step; NaN where it comes at the end.
            success: 1 if the step before solved the task, 0 if not; NaN as `reward`.

        Raises:
            ValueError: an observation of another size or that is not finite, or such an action.
        """
        try:
            seen = np.asarray(observation, np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{self.source} reads observations of numbers, got {shown(observation)}") from None
        if seen.shape != (self.sizes.layout.size,):
            raise ValueError(f"{self.source} reads observations of shape ({self.sizes.layout.size},), got {seen.shape}")
        if not np.isfinite(seen).all():
            raise ValueError(f"{self.source} was given an observation that is not finite at step {self._number}")
        step = StepBatch(seen[None], np.array([0]), self._number, np.array([reward]), np.array([success]))
        self._number += 1
        [action] = self._policy.act(step)
        if not np.isfinite(action).all():
            raise ValueError(f"{self.source} gave an action that is not finite at step {step.number}")
        return np.clip(action, -1.0, 1.0).astype(np.float32)


def load(checkpoint: str | Path = "ml45") -> Trained:
    """Return a trained method: one that comes with the package by its name (`ml45`), or a checkpoint's folder.

    Raises:
        ValueError: there is none, it is damaged, or it acts on more than a context.
    """
    from wtl.app.config import checkpoint_directory
    from wtl.methods.checkpoint import load_player, method_name, read_checkpoint
    from wtl.methods.registry import find_method

    directory = checkpoint_directory(str(checkpoint))
    spec = find_method(method_name(directory))
    player = load_player(directory, spec)
    if not isinstance(player, FromContext):
        raise ValueError(f"{spec.name} sees the task itself, so it cannot act from a context alone")
    sizes = read_checkpoint(directory, spec).family
    return Trained(spec.name, directory, sizes, player.method, spec.reads.trials)


# Episodes.


@dataclass(frozen=True)
class _OneEnvironment:
    """The `TaskFamily` of an environment that is reset as it is, for the one environment loop."""

    spec: FamilySpec

    def make_environment(self, render: bool = False) -> gymnasium.Env[Any, Any]:
        raise ValueError("this family is one environment, which exists already")

    def sample_tasks(self, count: int, seed: int, split: Split) -> tuple[Task, ...]:
        return ()

    def with_other_start(self, task: Task, seed: int) -> Task:
        raise ValueError(f"{task.name} has no other start")

    def goal(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        return np.full(self.spec.goal_size, np.nan)

    def expert_action(self, environment: gymnasium.Env[Any, Any]) -> np.ndarray:
        return np.full(self.spec.action_size, np.nan)


class _ResetAsGiven(gymnasium.Wrapper):
    """An environment that is reset with the caller's seed and options, whatever the loop asks for."""

    def __init__(self, environment: gymnasium.Env[Any, Any], seed: int | None, options: dict[str, Any] | None) -> None:
        super().__init__(environment)
        self._seed, self._options = seed, options

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=self._seed, options=self._options)


class _Alone:
    """An agent as a `Policy` of one row."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def act(self, step: StepBatch) -> np.ndarray:
        return self._agent.act(step.observations[0], step.previous_rewards[0], step.previous_successes[0])[None]


def play_episode(
    environment: gymnasium.Env[Any, Any],
    agent: Agent,
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    settings: RolloutSettings = USUAL,
) -> Trajectory:
    """Return what happened in one episode of a gymnasium environment; it can be the next context's trial.

    The environment gives flat observations, takes actions within [-1, 1], and says in `info["success"]` of each step
    whether the task is solved now.

    Args:
        seed: handed to `environment.reset`, like `options`.
        settings: how long an episode may be, when it ends after a success, and when the agent sees rewards.

    Raises:
        ValueError: the environment gives something that is not finite, or does not say whether the task is solved.
    """
    name = str(environment)
    task = Task(name, "test", name, (), name)
    session = Session(task, Context(), (), seed or 0)
    family = _OneEnvironment(replace(agent.sizes, name=name))
    attempt = Attempt(family, [_ResetAsGiven(environment, seed, options)], [session], [Context()], [seed or 0])
    [episode] = roll_out(attempt, _Alone(agent), settings, agent.source)
    return episode.trajectory


def read_episodes(directory: str | Path) -> EpisodeStore:
    """Return the episodes of a folder, such as a run's `demonstrations`: a sequence that is read as it is used.

    Raises:
        ValueError: the store is missing, unfinished, damaged or of another version.
    """
    return EpisodeStore(Path(directory))


def write_episodes(directory: str | Path, episodes: Iterable[Episode], per_file: int = 200) -> EpisodeStore:
    """Write episodes into a new folder and return them as they are read back, bit for bit.

    Raises:
        ValueError: there are no episodes, or something else stands among them, or the folder holds some already.
    """
    folder, everything = Path(directory), list(episodes)
    check(Count, per_file, "per_file")
    if any(folder.glob("shard-*")) or (folder / "store.json").exists():
        raise ValueError(f"{folder} holds episodes already; choose another folder or delete it")
    if not everything:
        raise ValueError(f"there are no episodes to write into {folder}")
    for number, episode in enumerate(everything):
        if not isinstance(episode, Episode):
            raise ValueError(f"entry {number} is no episode (`wtl.Episode`) but {type(episode).__name__}")
    with scratch_folder(folder.absolute().parent) as room:  # so that an error leaves nothing behind
        write_store(room, everything, per_file)
        folder.mkdir(exist_ok=True)
        for path in sorted(room.iterdir()):  # `store.json`, which says that all are there, is the last one
            path.replace(folder / path.name)
    return EpisodeStore(folder)


# Evaluations.


@dataclass(frozen=True, eq=False)
class _MakeTrained:
    """Makes the player of a checkpoint in each worker, with as many walks as the protocol allows."""

    directory: Path
    one_walk: bool

    def __call__(self, family: FamilySpec) -> Player:
        from wtl.methods.checkpoint import load_player, method_name
        from wtl.methods.registry import find_method

        return load_player(self.directory, find_method(method_name(self.directory)), self.one_walk, family)


@dataclass(frozen=True, eq=False)
class _Named:
    """A `Method` around an object that has `adapt` and does not say what it is."""

    method: Any
    source: str

    def adapt(self, contexts: Sequence[Context], seeds: Sequence[int]) -> Policy:
        policy: Policy = self.method.adapt(contexts, seeds)
        return policy


@dataclass(frozen=True, eq=False)
class _MakeFromObject:
    """Hands an object to each worker as it is."""

    method: Method

    def __call__(self, family: FamilySpec) -> Player:
        return FromContext(self.method)


def evaluate(
    policy: Trained | Method | Acts,
    config: str = "pretrained",
    overrides: Sequence[str] = (),
    *,
    name: str = "",
    directory: str | Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> RunResults:
    """Return the evaluation of a policy, with its controls and with the methods beside it that need no training.

    Args:
        policy: what `load` returns; or an object with `adapt(contexts, seeds)`, which reads demonstrations and trials
            (`Method`) and is played at all attempts and under all controls; or one with `act(observations)`, (R, O) to
            (R, A), which ignores both and is played at attempt 0.
        config: a preset, a YAML file or a run directory: tasks, protocol, and what is evaluated.
        overrides: `key=value`, for instance `evaluation.controls=[blind_retry]`. With `workers=2` or more, worker
            processes play, and the object must be picklable and the main program behind `if __name__ == "__main__"`.
        name: what the results call it; by default the name of the method or of the object's class.
        directory: where demonstrations and results are written; without one nothing is kept.
        progress: told what is being done.

    Raises:
        ValueError: the configuration or the object cannot be used, or the directory holds an evaluation already.
    """
    if directory is not None:
        return _evaluate(policy, config, overrides, name, Path(directory), progress)
    with tempfile.TemporaryDirectory() as folder:
        return _evaluate(policy, config, overrides, name, Path(folder), progress)


def _evaluate(
    policy: Any, preset: str, overrides: Sequence[str], name: str, directory: Path, progress: Callable[[str], None]
) -> RunResults:
    from wtl.analysis.results import digest_of_entries
    from wtl.analysis.runs import load_run
    from wtl.app.config import load_config, to_plain
    from wtl.app.pipeline import EVALUATION, Pipeline
    from wtl.app.stage import Stage
    from wtl.core.terminal import make_console

    check(_Name, name, "name")
    if isinstance(overrides, str):
        raise ValueError(f"overrides must be a list of key=value, got the text {overrides!r}; write [{overrides!r}]")
    if (directory / "evaluation").exists():
        raise ValueError(f"{directory} holds an evaluation already; choose another directory or delete it")
    serial = [] if any(one.startswith(("workers=", "executor=")) for one in overrides) else ["executor=serial"]
    config = load_config(preset, [*serial, *overrides, f"directory={directory}"])
    shown = replace(config.demonstrations, splits=(config.evaluation.split,))  # nothing is trained
    config = replace(config, demonstrations=shown)
    mine = _contestant(policy, name, config.protocol.walks == "one")
    pipeline = Pipeline(config, make_console(quiet=True))
    try:
        plan = pipeline.plan
        # Named after no method of the package, so that nothing is taken for the run's own.
        methods = zip(plan.contestants(), plan.all_methods, strict=False)  # variants come last and are left out
        beside = [c for c, m in methods if m.spec.network is None]
        contestants = (mine, *(replace(c, main=False, label=c.name) for c in beside if c.name != mine.name))
        if isinstance(policy, Trained):  # one of other sizes would show after the demonstrations
            mine.make_player(plan.distribution.spec)
        progress("demonstrations")
        pipeline.run(only="demonstrations", checked=False)  # what is evaluated is not in the plan
        settings: dict[str, Any] = {"protocol": to_plain(config.protocol), "evaluation": to_plain(config.evaluation)}
        settings |= {"methods": [c.name for c in contestants], "seed": config.evaluation_seed, "regime": config.regime}
        stage = Stage(directory / "evaluation", settings, [plan.demonstrations])
        stage.begin()
        progress("evaluation")
        evaluation = replace(plan.evaluation_stage(), configuration="")
        rows = evaluation.evaluate(contestants, stage.directory, pipeline.executor, lambda *_: None)
        results = load_run(directory)
        entries = digest_of_entries(results.rows["entry_digest"])
        stage.finish({"episodes": rows, "entries": entries}, EVALUATION)
    finally:
        pipeline.close()
    return results


def _contestant(policy: Any, name: str, one_walk: bool) -> Contestant:
    from wtl.methods.wrapped import ContextFree
    from wtl.stages.evaluate import Contestant

    if isinstance(policy, Trained):
        make = _MakeTrained(policy.directory, one_walk)
        return Contestant(name or policy.name, "", make, policy.reads_trials, main=True)
    if isinstance(policy, type):
        raise ValueError(f"a policy is an object, and {policy.__name__} is a class; give {policy.__name__}(...)")
    name = name or type(policy).__name__
    if callable(getattr(policy, "adapt", None)):
        named = policy if isinstance(getattr(policy, "source", None), str) else _Named(policy, name)
        return Contestant(name, "", _MakeFromObject(named), True, main=True)
    if callable(getattr(policy, "act", None)):
        return Contestant(name, "", _MakeFromObject(ContextFree(policy, name)), False, main=True)
    raise ValueError(f"a policy has adapt(contexts, seeds) or act(observations); {name} has neither")


def read_results(path: str | Path) -> RunResults:
    """Return the evaluation of a run directory or of a results file; its `rows` are a pandas table.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    from wtl.analysis.runs import load_run

    return load_run(Path(path))


def draw_curves(runs: Mapping[str, RunResults | str | Path], path: str | Path, *, title: str = "") -> None:
    """Write a PNG with the improvement curve of one evaluation, its controls and the other methods, or of several.

    Raises:
        ValueError: there are no episodes, or results cannot be read.
    """
    from wtl.analysis.figures import draw_curves as draw

    draw({label: run.rows for label, run in _loaded(runs).items()}, Path(path), title=title)


def report(runs: Mapping[str, RunResults | str | Path]) -> str:
    """Return success by attempt with intervals, paired differences and verdicts, as Markdown.

    Runs that differ in their seed alone are pooled, otherwise the first minus each other is given.
    """
    from wtl.analysis.report import report_tables
    from wtl.analysis.tables import to_markdown

    return "\n".join(to_markdown(table) for table in report_tables(_loaded(runs)))


def _loaded(runs: Mapping[str, RunResults | str | Path]) -> dict[str, RunResults]:
    from wtl.analysis.runs import RunResults

    if not isinstance(runs, Mapping) or not runs:
        got = "nothing" if isinstance(runs, Mapping) else type(runs).__name__
        raise ValueError(f"expected evaluations by the names to show, such as {{'mine': results}}, got {got}")
    loaded = {label: read_results(run) if isinstance(run, (str, Path)) else run for label, run in runs.items()}
    for label, run in loaded.items():
        if not isinstance(run, RunResults):
            raise ValueError(f"{label!r} must be results of an evaluation or their path, got {type(run).__name__}")
    return loaded
