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
"""

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import FamilySpec, ObservationLayout, Task, TaskDistribution, TaskFamily
from wtl.data.store import EpisodeStore
from wtl.play.policy import Attempt, FromContext, Method, Player, Policy, Session, StepBatch
from wtl.play.rollout import RolloutSettings, play

__all__ = [
    "Attempt", "Context", "Episode", "EpisodeStore", "FamilySpec", "FromContext", "Method", "ObservationLayout",
    "Player", "Policy", "RolloutSettings", "Session", "StepBatch", "Task", "TaskDistribution", "TaskFamily",
    "Trajectory", "play",
]  # fmt: skip
