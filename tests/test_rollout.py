"""The one environment loop: the order of events, whose randomness is whose, and how an episode ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from strategies import PROBE, same_episode

from wtl.core.episode import Context, Trajectory
from wtl.core.task import FamilySpec, ObservationLayout, Task
from wtl.play.attempts import ExplorationConfig
from wtl.play.rollout import Demonstrator, Ending, EnvironmentPool, Noise, roll_out

SPEC = FamilySpec("line", ObservationLayout(2, 2, (0,)), 3, 10, 2, True, 1.0)
Tape = list[tuple[str, ...]]


class LineEnvironment(gymnasium.Env[Any, Any]):
    """Counts its steps and succeeds at the step that its task names; writes down what is done to it."""

    def __init__(self, tape: Tape) -> None:
        self.tape, self.task, self.step_number, self.actions = tape, "", 0, []

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        task = options["task"]
        self.task, self.solved_at, self.step_number, self.actions = task.name, task.parameters[0], 0, []
        self.tape.append(("reset", self.task))
        return np.zeros(2), {}

    def step(self, action: np.ndarray) -> Any:
        self.step_number += 1
        self.actions.append(action)
        self.tape.append(("step", self.task))
        info = {"success": self.step_number == self.solved_at}
        return np.array([self.step_number, 0.0]), float(self.step_number), False, False, info

    def close(self) -> None:
        self.tape.append(("close", self.task))


class LineFamily:
    """A family that knows no Meta-World."""

    def __init__(self, tape: Tape | None = None) -> None:
        self.spec, self.tape = SPEC, [] if tape is None else tape

    def make_environment(self, render: bool = False) -> LineEnvironment:
        return LineEnvironment(self.tape)

    def goal(self, environment: Any) -> np.ndarray:
        self.tape.append(("goal", environment.task))
        return np.ones(2)

    def expert_action(self, environment: Any) -> np.ndarray:
        self.tape.append(("expert", environment.task))
        return np.full(3, 0.25)


class Player:
    """A fixed action, and a note of every call."""

    def __init__(
        self, action: Callable[[np.ndarray], Any] = lambda rows: np.zeros((len(rows), 3)), tape: Any = None
    ) -> None:
        self.action, self.tape = action, [] if tape is None else tape

    def act(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        self.tape.append(("act", *map(str, rows)))
        return self.action(rows)


def lines(*solved_at: int) -> list[Task]:
    return [Task("line", "train", f"t{i}", (float(s),), f"t{i}") for i, s in enumerate(solved_at)]


def play(tasks: list[Task], actor: Any, family: Any = None, seeds: Any = None, **changes: Any) -> Any:
    family = family or LineFamily()
    environments = [family.make_environment() for _ in tasks]
    settings = {"ending": Ending(10), **changes}
    return roll_out(family, environments, tasks, seeds or range(len(tasks)), actor, **settings)


def test_the_order_of_events() -> None:
    tape: Tape = []
    observed: list[tuple[int, int]] = []
    play(
        lines(1, 0), Player(tape=tape), LineFamily(tape), ending=Ending(2, after_success_steps=0),
        observer=lambda row, environment: observed.append((row, environment.step_number)),  # type: ignore[attr-defined]
    )  # fmt: skip
    assert tape == [
        ("reset", "t0"), ("goal", "t0"),
        ("reset", "t1"), ("goal", "t1"),
        # All rows in step: labels of the states that the actor sees, one call of the policy, then the steps.
        ("expert", "t0"), ("expert", "t1"), ("act", "0", "1"),
        ("step", "t0"), ("step", "t1"),
        # Row 0 has ended, row 1 is not cut.
        ("expert", "t1"), ("act", "1"), ("step", "t1"),
    ]  # fmt: skip
    assert observed == [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2)]


def test_an_episode_holds_each_step_with_its_outcome() -> None:
    [episode] = play(lines(2), Player(lambda rows: np.full((len(rows), 3), 0.5)), role="trial", attempt=1, source="me")
    t = episode.trajectory
    np.testing.assert_array_equal(t.observations[:, 0], range(8))  # success at step 2, five more, the first included
    np.testing.assert_array_equal(t.rewards, range(1, 8))
    assert t.successes.tolist() == [False, True] + [False] * 5
    np.testing.assert_array_equal(t.actions, np.full((7, 3), 0.5))
    np.testing.assert_array_equal(episode.expert_actions, np.full((7, 3), 0.25))
    np.testing.assert_array_equal(episode.goal, [1, 1])
    assert (episode.role, episode.attempt, episode.source, episode.seed) == ("trial", 1, "me", 0)


@pytest.mark.parametrize(
    "after, horizon, steps",
    [(0, 10, 3), (1, 10, 4), (5, 10, 8), (50, 10, 10), (None, 10, 10), (0, 2, 2), (5, 99, 8), (None, 99, 10)],
)
def test_when_an_episode_ends(after: int | None, horizon: int, steps: int) -> None:
    [episode] = play(lines(3), Player(), ending=Ending(horizon, after))
    assert len(episode.trajectory) == steps  # never beyond the family's own horizon of 10


def test_short_episodes_are_not_favoured() -> None:
    """Every entry is played once, in its own row, however early the others end."""
    tasks = lines(9, 1, 5, 0, 1, 7)
    episodes = play(tasks, Player(), ending=Ending(10, after_success_steps=0))
    assert [e.task.name for e in episodes] == [t.name for t in tasks]
    assert [len(e.trajectory) for e in episodes] == [9, 1, 5, 10, 1, 7]
    assert np.mean([e.trajectory.success for e in episodes]) == 5 / 6


def test_an_action_that_is_not_finite_names_the_task() -> None:
    def broken(rows: np.ndarray) -> np.ndarray:
        actions = np.zeros((len(rows), 3))
        actions[-1, 1] = np.nan
        return actions

    with pytest.raises(ValueError, match="me gave an action that is not finite at step 0 of task t1"):
        play(lines(3, 3), Player(broken), source="me")


def test_actions_are_clipped() -> None:
    [episode] = play(lines(3), Player(lambda rows: np.full((len(rows), 3), 7.0)), noise=Noise(1.0))
    assert np.abs(episode.trajectory.actions).max() <= 1.0


def test_without_an_expert_labels_are_nan_and_without_states_there_are_none() -> None:
    tape: Tape = []
    [episode] = play(lines(3), Player(), LineFamily(tape), ask_expert=False, keep_states=False)
    assert np.isnan(episode.expert_actions).all() and episode.states.shape == (9, 0)
    assert {event for event, _ in tape} == {"reset", "goal", "step"}


def test_noise_spares_the_gripper() -> None:
    [noisy] = play(lines(0), Player(), noise=Noise(0.3))
    assert noisy.trajectory.actions[:, :2].all() and not noisy.trajectory.actions[:, 2].any()
    [all_of_it] = play(lines(0), Player(), noise=Noise(0.3, spare_last=False))
    assert all_of_it.trajectory.actions.all()


def test_each_row_may_have_its_own_noise() -> None:
    quiet, noisy = play(lines(0, 0), Player(), noise=[Noise(), Noise(0.3)])
    assert not quiet.trajectory.actions.any() and noisy.trajectory.actions[:, :2].all()
    [alone] = play(lines(0), Player(), noise=[Noise()])
    np.testing.assert_array_equal(alone.trajectory.actions, quiet.trajectory.actions)


LOST = Trajectory(np.zeros((4, 2)), np.zeros((3, 3)), np.zeros(3), np.zeros(3, bool))


def test_exploration_ends_with_the_first_success() -> None:
    exploration = ExplorationConfig(trial_noise=0.1, retrial_noise=0.2)
    lost, won = LOST, replace(LOST, successes=np.array([False, True, False]))
    assert exploration.noise(0, Context()).scale == 0.1
    assert exploration.noise(1, Context(won, (lost,))).scale == 0.2  # the demonstration's success is not one's own
    assert exploration.noise(2, Context(None, (won, lost))).scale == 0.0
    assert exploration.noise(2, Context(None, (won.with_outcome_masked(), lost))).scale == 0.2


def test_noise_has_its_scale_and_its_correlation() -> None:
    family = LineFamily()
    family.spec = FamilySpec("line", SPEC.layout, 3, 2000, 2, True, 1.0)
    [episode] = play(lines(0), Player(), family, noise=Noise(0.2, 0.9), ending=Ending(2000))
    walk = episode.trajectory.actions[:, 0]
    assert walk.std() == pytest.approx(0.2, rel=0.2)
    assert np.corrcoef(walk[1:], walk[:-1])[0, 1] == pytest.approx(0.9, abs=0.05)


def test_the_demonstrator_is_noisy_in_what_it_does_and_clean_in_its_label() -> None:
    expert = Demonstrator(Noise(0.3, spare_last=False))
    episodes = play(lines(0, 0, 0, 0), expert, noise=Noise(99.0))  # a demonstrator brings its own noise
    spread = [np.abs(e.trajectory.actions - e.expert_actions).mean() for e in episodes]
    assert all(0 < s < 0.6 for s in spread) and max(spread) > 2 * min(spread)  # each episode draws its own scale
    assert all((e.expert_actions == 0.25).all() for e in episodes)
    [clean] = play(lines(0), Demonstrator())
    np.testing.assert_array_equal(clean.trajectory.actions, clean.expert_actions)


def test_a_row_depends_on_its_own_seed_and_on_nothing_else() -> None:
    family = list(PROBE.values())[-1]
    tasks, seeds = list(family.sample_tasks(5, 0, "train")), [11, 12, 13, 14, 15]

    def of(rows: list[int]) -> Any:
        chosen = [tasks[i] for i in rows]
        return play(chosen, Demonstrator(Noise(0.4)), family, [seeds[i] for i in rows], ending=Ending(24))

    together, alone, turned = of([0, 1, 2, 3, 4]), of([2]), of([4, 2, 0])
    assert same_episode(together[2], alone[0]) and same_episode(together[2], turned[1])
    [other] = play([tasks[2]], Demonstrator(Noise(0.4)), family, [99], ending=Ending(24))
    assert not same_episode(other, alone[0])


def test_an_environment_that_was_used_before_replays_the_same() -> None:
    family = list(PROBE.values())[-1]
    task, other = family.sample_tasks(2, 0, "train")
    environment = [family.make_environment()]

    def of(which: Task) -> Any:
        return roll_out(family, environment, [which], [5], Demonstrator(Noise(0.4)), ending=Ending(24))[0]

    first = of(task)
    of(other)
    assert same_episode(first, of(task))


def test_the_pool_keeps_one_family_at_a_time() -> None:
    tape: Tape = []
    family, made = LineFamily(tape), []

    def make(_: Any) -> LineEnvironment:
        made.append(LineEnvironment(tape))
        return made[-1]

    pool = EnvironmentPool(make)
    two = pool.take(family, 2)
    assert pool.take(family, 3)[:2] == two and len(made) == 3 and len(pool.take(family, 1)) == 1
    other = LineFamily(tape)
    other.spec = FamilySpec("other", SPEC.layout, 3, 10, 2, True, 1.0)
    pool.take(other, 1)
    assert [event for event, _ in tape] == ["close"] * 3 and len(made) == 4
