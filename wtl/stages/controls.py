"""Controls: what would also raise the curve, if a method were not learning from its trial?

A control acts at one attempt on contexts made from the method's own trials, so it differs from the method in nothing
but what it takes away. It only ever changes a context by name, so it keeps fields that it has never heard of. A
control from outside needs no fork: name it in the entry point group `wtl.controls`, or give its address
(`package.module:CONTROL`) in `evaluation.controls`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from wtl.core.episode import Context, Trajectory
from wtl.play.policy import Session

GROUP = "wtl.controls"


@dataclass(frozen=True)
class ControlEntry:
    """One entry of an evaluation with what controls show in place of the truth; fixed before anything is played."""

    session: Session
    spare: Trajectory | None
    """Another demonstration that may be shown."""
    stranger: Trajectory | None
    """A demonstration of another family, where there is one."""
    partner: int | None = None
    """The index, in the same unit of work, of an entry of another task, whose trials can be shown."""


@dataclass(frozen=True)
class Control:
    """One question, and how it changes a context."""

    name: str
    question: str
    change: Callable[[Context, ControlEntry, Context], Context]
    """(the true context with its trials, the entry, the context of its partner) -> what is shown."""
    applies: Callable[[ControlEntry], bool] = lambda entry: True
    """Whether it means anything for an entry; it is played where it does for every entry of a unit."""


def _has_demonstration(entry: ControlEntry) -> bool:
    return bool(entry.session.context.demonstrations)


CONTROLS = (
    Control(
        "blind_retry",
        "Is a second chance alone worth it? Attempt 0 again, with new sampling.",
        lambda context, entry, other: replace(context, trials=()),
    ),
    Control(
        "shuffled_trial",
        "Does it read this trial? It is shown those of another task.",
        lambda context, entry, other: replace(context, trials=other.trials),
        lambda entry: entry.partner is not None,
    ),
    Control(
        "masked_reward",
        "Does it read the outcome? Rewards and successes of the trials are withheld.",
        lambda context, entry, other: context.with_trials(Trajectory.with_outcome_masked),
    ),
    Control(
        "second_demonstration",
        "What would another look be worth? A second demonstration stands in the place of the trials.",
        lambda context, entry, other: replace(context, trials=(entry.spare,) if entry.spare else ()),
        lambda entry: entry.spare is not None,
    ),
    Control(
        "no_demonstration",
        "What does the demonstration add? The trials stand alone.",
        lambda context, entry, other: replace(context, demonstrations=()),
        _has_demonstration,
    ),
    Control(
        "wrong_family",
        "Does it read the demonstration? It is shown one of another family.",
        lambda context, entry, other: replace(context, demonstrations=(entry.stranger,) if entry.stranger else ()),
        lambda entry: _has_demonstration(entry) and entry.stranger is not None,
    ),
)
"""The controls of this package."""


@functools.cache
def known_controls() -> dict[str, Control]:
    """Return all controls that have a name here, by name."""
    found = {control.name: control for control in CONTROLS}
    for entry in importlib.metadata.entry_points(group=GROUP):
        control = _checked(entry.load(), entry.value)
        found[control.name] = control
    return found


def find_control(name: str) -> Control:
    """Return the control of this name, or at this address (`package.module:CONTROL`).

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return _checked(getattr(importlib.import_module(module), attribute), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"there is no control at {name!r} ({error}); expected package.module:CONTROL") from error
    controls = known_controls()
    if name not in controls:
        raise ValueError(f"unknown control {name!r}; known are {', '.join(controls)}, or give package.module:CONTROL")
    return controls[name]


def _checked(control: Any, where: str) -> Control:
    if not isinstance(control, Control):
        raise ValueError(f"{where} is no control: expected a Control, got {type(control).__name__}")
    return control
