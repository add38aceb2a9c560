"""Methods: functions from a context to behaviour. They never import one another."""

from __future__ import annotations

from pathlib import Path

from wtl.learner import read_policy
from wtl.methods.cloning import Cloning
from wtl.methods.following import FollowingPolicy
from wtl.methods.mil import Mil
from wtl.methods.retrial import RetrialPolicy
from wtl.methods.shared import SharedPolicy
from wtl.methods.trial import TrialPolicy
from wtl.rollout import Improver

_SAVED = {policy.method: policy for policy in (TrialPolicy, RetrialPolicy, SharedPolicy, FollowingPolicy, Cloning, Mil)}


def load_policy(directory: Path, expected: str | None = None) -> Improver:
    """A trained policy from its folder.

    Raises:
        ValueError: nothing is there, or it is another method than `expected`.
    """
    content = read_policy(directory)
    if content["method"] not in _SAVED or expected not in (None, content["method"]):
        raise ValueError(f"{directory} holds a {content['method']} policy, expected {expected or sorted(_SAVED)}")
    return _SAVED[content["method"]].from_description(directory, content)
