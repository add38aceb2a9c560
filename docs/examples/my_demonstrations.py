"""Demonstrations of one's own: arrays in, an episode store out. Here the arrays are made up from the toy's expert.

python docs/examples/my_demonstrations.py FOLDER
wtl run toy demonstrations.own=FOLDER directory=runs/mine
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from wtl import Episode, Task, TaskFamily, Trajectory, tasks
from wtl.data.store import close_store, write_shard


def recorded(family: TaskFamily, task: Task) -> Episode:
    """Return one demonstration; replace the loop by reading what was recorded."""
    environment = family.make_environment()
    observation, _ = environment.reset(options={"task": task})
    goal = family.goal(environment)
    observations, actions, rewards, successes = [observation], [], [], []
    while not any(successes):
        actions.append(family.expert_action(environment))
        observation, reward, _, _, info = environment.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
        successes.append(info["success"])
    trajectory = Trajectory(
        np.array(observations), np.array(actions), np.array(rewards), np.array(successes)
    )  # (T + 1, O), (T, A), (T,), (T,)
    # Where the expert was not asked, `expert_actions` are NaN; in a demonstration they are its own actions.
    return Episode(trajectory, task, "demonstration", 0, 0, "me", goal, np.array(actions))


def main(folder: Path) -> None:
    """Write demonstrations of every task of the preset `toy`; two tasks of each family and split are the least."""
    distribution = tasks.make_distribution(
        "toy", seed=1, goals_per_family=400, validation_goals_per_family=20, test_goals_per_family=30
    )
    every = (*distribution.train, *distribution.validation, *distribution.test)
    write_shard(folder, 0, [recorded(distribution.families[task.family], task) for task in every])
    close_store(folder, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
