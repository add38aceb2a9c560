"""Methods: functions from a context to behaviour. They never import one another."""

from __future__ import annotations

from pathlib import Path

from wtl.methods.cloning import Cloning
from wtl.methods.imitation.retrial import RetrialPolicy
from wtl.methods.imitation.shared import SharedPolicy
from wtl.methods.imitation.trial import TrialPolicy
from wtl.methods.learner import read_policy
from wtl.methods.mil import Mil
from wtl.methods.transfer.method import FollowingPolicy
from wtl.play.rollout import Improver

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
