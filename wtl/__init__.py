"""Watch-Try-Learn: a learned policy-improvement operator on Meta-World.

Glossary
    family         one environment: the same objects, the same kind of goal
    task           a family with its hidden parameters fixed
    demonstration  one successful episode of an expert
    trial          one episode of the learner's own, kept with its rewards
    context        one demonstration (or none) and zero or more trials of one task
    attempt k      the episode that follows k trials; attempt 0 comes after watching only
    improver       a method: a function from a context to an actor
    regime         what the demonstration shares with the task: `goal`, `family`, or there is `none`
    entry          what is evaluated: a task, a demonstration of another task, a seed

Shape letters: B contexts or rows, R rows still running, K trials, S segments, F frames, T steps,
L tokens, Q queries, O observation, D coordinates of a place, A action, G goal, M mixture, E embedding.
"""

from wtl.core.episode import Context, Episode, Trajectory
from wtl.core.task import FamilySpec, ObservationLayout, Task, TaskDistribution, TaskFamily
from wtl.data.store import EpisodeStore
from wtl.play.rollout import Actor, Demonstrator, Ending, Improver, Noise, roll_out

__all__ = [
    "Actor", "Context", "Demonstrator", "Ending", "Episode", "EpisodeStore", "FamilySpec", "Improver", "Noise",
    "ObservationLayout", "Task", "TaskDistribution", "TaskFamily", "Trajectory", "roll_out",
]  # fmt: skip
