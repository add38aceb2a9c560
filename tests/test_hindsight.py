"""Hindsight: what is imitated of an episode, by hand on the toy; exploration; no expert; that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TRAINING
from rich.console import Console
from test_relabelling import upwards

from wtl.analysis.results import read_results
from wtl.analysis.statistics import permutation_test
from wtl.app.config import RunConfig, load_config
from wtl.app.pipeline import Pipeline
from wtl.app.plan import Plan
from wtl.core.episode import Context, Episode
from wtl.core.relabelling import is_relabelled
from wtl.core.task import TaskFamily
from wtl.data.store import EpisodeStore
from wtl.methods.hindsight import SPEC, GoalPlayer
from wtl.methods.hindsight.config import HindsightConfig, WanderConfig
from wtl.methods.hindsight.exploration import Exploring, Wander
from wtl.methods.hindsight.network import GoalNetwork
from wtl.methods.hindsight.paths import with_paths, worth_imitating
from wtl.play.policy import Attempt, Session, StepBatch
from wtl.play.rollout import RolloutSettings, play
from wtl.tasks.toy import ToyFamily

RED = ToyFamily("probe-red")
TOY = (
    "executor=serial", "method=hindsight", "regime=none", "demonstrations.splits=[]", "evaluation.methods=[]",
    "evaluation={attempts: 0, entries_per_task: 1, controls: [], variants: [exploration]}",
)  # fmt: skip
WANDER = "{near: 0.3, near_steps: 1, far_steps: 6, shortest_steps: 4, longest_steps: 12}"


# What is imitated.


def test_a_path_ends_soon_after_its_goal_is_met_and_begins_within_its_length() -> None:
    config = HindsightConfig(goals_per_episode=30, path_steps=3)
    played, *paths = with_paths(config, RED, [upwards(8)])
    assert len(played.trajectory) == 8 and not is_relabelled(played.task) and paths
    for path in paths:
        # Every goal is on the way up, (0, .12 n); what is within .15 of the first step is met at once and left out.
        number = round(path.goal[1] / 0.12)
        assert path.goal.tolist() == pytest.approx([0.0, 0.12 * number], abs=1e-6) and 3 <= number <= 8
        # It is met one step before (.12 < .15 away), two further steps are kept, as far as there are any.
        met = int(path.trajectory.successes.argmax())
        assert path.trajectory.observations[met + 1, 1] == pytest.approx(0.12 * (number - 1), abs=1e-6)
        assert len(path.trajectory) - met - 1 == min(2, 8 - (number - 1)) and met <= 2
        assert path.trajectory.rewards[met] == pytest.approx(np.exp(-0.12), rel=1e-5)
        assert is_relabelled(path.task)


def test_the_same_episode_has_the_same_paths() -> None:
    first, again = (with_paths(HindsightConfig(), RED, [upwards(8)]) for _ in range(2))
    assert [e.goal.tolist() for e in first] == [e.goal.tolist() for e in again] and len(first) > 1


def test_random_goals_are_those_of_other_episodes_and_mostly_not_met() -> None:
    up = [replace(upwards(8), seed=seed) for seed in range(4)]
    down = [mirrored(episode) for episode in up]
    paths = with_paths(HindsightConfig(relabel="random", path_steps=4), RED, [*up, *down])[8:]
    assert len(paths) == 8 * 4 and all(len(path.trajectory) <= 4 for path in paths)
    away = [path for path in paths if path.goal[1] * path.trajectory.observations[-1, 1] < 0]
    assert len(away) > 5 and not any(path.trajectory.successes[-1] for path in away)


def mirrored(episode: Episode) -> Episode:
    trajectory = episode.trajectory
    observations, actions = trajectory.observations.copy(), -trajectory.actions
    observations[:, 1] *= -1
    return replace(episode, trajectory=replace(trajectory, observations=observations, actions=actions))


def test_without_relabelling_only_what_succeeded_is_imitated_and_all_while_nothing_has() -> None:
    config = HindsightConfig(relabel="none", path_steps=3)
    failed = upwards(8)
    assert with_paths(config, RED, [failed]) == [failed]
    assert worth_imitating(config, [failed]) == [failed]
    successes = np.array([False] * 5 + [True] * 3)
    solved = replace(failed, trajectory=replace(failed.trajectory, successes=successes))
    [path] = worth_imitating(config, [failed, solved])
    assert path.trajectory.successes.tolist() == [False, False, True, True, True]
    assert path.trajectory.observations[0, 1] == pytest.approx(0.36)


# Exploration.


def test_the_hand_goes_to_its_waypoint_and_is_not_told_the_goal() -> None:
    task, other = (replace(upwards(1).task, parameters=(*upwards(1).task.parameters[:-1], n)) for n in (0.0, 1.0))

    def walked(task_of: object) -> np.ndarray:
        assert task_of is task or task_of is other
        session = Session(task if task_of is task else other, Context(), (), 5)
        attempt = Attempt(RED, [RED.make_environment()], [session], [Context()], [5])
        player = GoalPlayer(HindsightConfig(), None, True, "exploration")
        return play(attempt, player, RolloutSettings(24, None))[0].trajectory.observations

    np.testing.assert_array_equal(walked(task), walked(other))
    config = WanderConfig(near=1.0, near_steps=1e-6, shortest_steps=50, longest_steps=50, slowest=0.3, fastest=0.3)
    wander, position = Wander(config, RED.spec, np.random.default_rng(0)), np.zeros(2)
    candidates = np.array(upwards(1).task.parameters[2:-1])
    for _ in range(40):
        position = position + 0.12 * wander.act(np.concatenate([position, candidates]))
    assert np.linalg.norm(candidates.reshape(4, 2) - position, axis=1).min() < 1e-3


def test_a_gripper_is_held_open_or_shut() -> None:
    spec = replace(RED.spec, action_size=3, gripper_index=2)
    wander = Wander(WanderConfig(shortest_steps=3, longest_steps=3), spec, np.random.default_rng(1))
    efforts = [wander.act(np.arange(10.0))[2] for _ in range(60)]
    assert {*efforts} == {-1.0, 1.0}
    assert all(len({*efforts[i : i + 3]}) == 1 for i in range(0, 60, 3))


def test_the_policy_and_exploration_share_an_episode() -> None:
    class Still:
        def act(self, step: StepBatch) -> np.ndarray:
            return np.zeros((len(step.rows), 2))

    def idle(explore: float) -> float:
        exploring = Exploring(HindsightConfig(explore=explore), RED.spec, Still(), range(20))
        steps = [StepBatch(np.ones((20, 10)), np.arange(20), n, np.zeros(20), np.zeros(20)) for n in range(100)]
        return float(np.mean([(exploring.act(step) == 0).all(1).mean() for step in steps]))

    assert idle(0.0) == 1.0 and idle(1.0) == 0.0 and 0.6 < idle(0.3) < 0.8


@pytest.mark.parametrize("wrong", [{"shortest_steps": 9, "longest_steps": 8}, {"slowest": 0.5, "fastest": 0.4}])
def test_a_range_upside_down_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at most"):
        WanderConfig(**wrong)  # type: ignore[arg-type]


def test_goals_that_are_no_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="goals that are positions, of 2 numbers; those of probe-red have 3"):
        GoalNetwork(replace(RED.spec, goal_size=3), 8, 2)


# A run.


def run(directory: Path, *overrides: str) -> RunConfig:
    config = load_config("toy", [*TOY, f"directory={directory}", *overrides])
    Pipeline(config, Console(quiet=True)).run()
    return config


def test_a_run_asks_no_expert_and_stores_what_was_played_beside_what_was_relabelled(tmp_path: Path) -> None:
    sizes = "tasks={goals_per_family: 12, validation_goals_per_family: 3, test_goals_per_family: 4}"
    config = run(tmp_path / "run", sizes, f"methods.hindsight={{rounds: 2, width: 8, train: {TRAINING}}}")
    root = Path(config.directory)
    assert len(EpisodeStore(root / "demonstrations")) == 0
    for number in range(2):
        episodes = list(EpisodeStore(root / "hindsight" / f"trials-{number}"))
        played = [e for e in episodes if not is_relabelled(e.task)]
        assert len(played) == 2 * (12 + 3) < len(episodes)
        assert all(np.isnan(e.expert_actions).all() for e in episodes)  # nobody was asked
        own = {e.task.parameters for e in played if e.trajectory.actions.any()}
        assert len(own) == len(played)
    plan = Plan(config)
    assert [s.directory.name for s in plan.stores(plan.main, plan.main.phases[1])] == ["trials-0", "trials-1"]
    rows = read_results(root / "evaluation" / "episodes.csv")
    assert {row.method for row in rows} == {"hindsight", "hindsight.exploration"} and len(rows) == 2 * 2 * 4


def test_a_demonstrated_method_still_needs_demonstrations(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="demonstrations.splits must hold train, whose tasks are to be shown; got none"
    ):
        Pipeline(load_config("toy", ["demonstrations.splits=[]", f"directory={tmp_path / 'run'}"])).run()


def test_a_family_that_cannot_be_relabelled_is_refused() -> None:
    class Plain:
        spec = RED.spec

    family: TaskFamily = Plain()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="episodes of Plain cannot be relabelled"):
        with_paths(HindsightConfig(), family, [upwards(4)])


def test_the_method_says_what_it_is() -> None:
    assert SPEC.reads.demonstrations == "ignored" and not SPEC.reads.trials
    assert not any(phase.demonstrations for phase in SPEC.phases(HindsightConfig(), "none"))


@pytest.mark.slow
def test_it_learns_from_its_own_failures(tmp_path: Path) -> None:
    """On new tasks it succeeds more often than the same without relabelling, and than with random goals."""
    train = "{steps: 400, learning_rate: 3e-3, batch: {contexts: 64, queries: 4, translation: 0.0}}"

    def successes(arm: str) -> dict[str, bool]:
        small = "tasks={goals_per_family: 60, validation_goals_per_family: 10, test_goals_per_family: 40}"
        settings = f"{{relabel: {arm}, rounds: 2, path_steps: 12, width: 64, wander: {WANDER}, train: {train}}}"
        config = run(tmp_path / arm, small, f"methods.hindsight={settings}", "trials.later_round_tasks=120")
        rows = read_results(Path(config.directory) / "evaluation" / "episodes.csv")
        return {row.task: row.success for row in rows if row.method == "hindsight"}

    hindsight = successes("reached")
    for arm in ("none", "random"):
        other = successes(arm)
        assert hindsight.keys() == other.keys() and len(other) == 80
        won = [[int(arm[task]) for task in hindsight] for arm in (other, hindsight)]
        assert permutation_test(*won, alternative="greater") < 0.01
