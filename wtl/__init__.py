"""Watch-Try-Learn: a learned policy-improvement operator on Meta-World.

Glossary
    family         one environment: the same objects, the same kind of goal
    task           a family with its hidden parameters fixed
    demonstration  one successful episode of an expert
    trial          one episode of the learner's own, kept with its rewards
    context        demonstrations (or none) and zero or more trials of one task
    attempt k      the episode that follows k trials; attempt 0 comes after watching only
    method         a function from a context to a policy
    regime         what the demonstration shares with the task: `goal`, `family`, or there is `none`
    entry          what is evaluated: a task, a demonstration of another task, a seed

Shape letters: B contexts or rows, R rows still running, K trials, S segments, F frames, T steps, W steps of a window,
L tokens, Q queries, O observation, P points, D coordinates of a position, A action, G goal, C candidates, M mixture
components, E embedding.

The names below are imported when they are used, so `import wtl` is quick and needs no torch; `wtl.api` explains them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wtl.analysis.runs import RunResults
    from wtl.api import (
        Agent,
        Trained,
        draw_curves,
        evaluate,
        load,
        make_context,
        play_episode,
        read_episodes,
        read_results,
        report,
        write_episodes,
    )
    from wtl.core.episode import Context, Episode, Trajectory
    from wtl.core.task import FamilySpec, ObservationLayout, Task, TaskDistribution, TaskFamily
    from wtl.data.store import EpisodeStore
    from wtl.play.policy import Attempt, FromContext, Method, Player, Policy, Session, StepBatch
    from wtl.play.rollout import RolloutSettings

__all__ = [
    "Agent", "Attempt", "Context", "Episode", "EpisodeStore", "FamilySpec", "FromContext", "Method",
    "ObservationLayout", "Player", "Policy", "RolloutSettings", "RunResults", "Session", "StepBatch", "Task",
    "TaskDistribution", "TaskFamily", "Trained", "Trajectory", "draw_curves", "evaluate", "load", "make_context",
    "play_episode", "read_episodes", "read_results", "report", "write_episodes",
]  # fmt: skip

_HOMES = {
    "wtl.api": (
        "Agent", "Trained", "draw_curves", "evaluate", "load", "make_context", "play_episode", "read_episodes",
        "read_results", "report", "write_episodes",
    ),
    "wtl.analysis.runs": ("RunResults",),
    "wtl.core.episode": ("Context", "Episode", "Trajectory"),
    "wtl.core.task": ("FamilySpec", "ObservationLayout", "Task", "TaskDistribution", "TaskFamily"),
    "wtl.data.store": ("EpisodeStore",),
    "wtl.play.policy": ("Attempt", "FromContext", "Method", "Player", "Policy", "Session", "StepBatch"),
    "wtl.play.rollout": ("RolloutSettings",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wtl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
