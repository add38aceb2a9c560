"""Everything that can be checked before the first stage begins.

A mistake that shows in the last stage would cost all stages before it, and the corrected command would be one with
other settings. So networks are built once without weights, trials are counted before they are played, and the splits
are compared with what is shown of them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import torch

from wtl.app.plan import MethodPlan, Plan
from wtl.core.records import SETTINGS, RecordError
from wtl.core.task import Split
from wtl.methods.spec import Phase
from wtl.stages.graded import episodes_per_task, graded_tasks
from wtl.stages.training import choose_device
from wtl.stages.trials import tasks_of_round

_LEARNED_FROM: tuple[Split, ...] = ("train", "validation")


def check_plan(plan: Plan) -> None:
    """Find mistakes that would show in a later stage; nothing is written.

    Raises:
        ValueError: a stage could not do its work; one sentence.
    """
    _check_place(plan)
    _check_splits(plan)
    _check_checkpoint(plan)
    for method, phase in _trainings(plan):
        choose_device(phase.train.device)
        _check_network(plan, method, phase.part)
        _check_trials(plan, method, phase)


def _trainings(plan: Plan) -> Iterator[tuple[MethodPlan, Phase]]:
    yield from ((method, phase) for method in plan.all_methods for phase in method.phases)


def _check_place(plan: Plan) -> None:
    for folder in (plan.root, *plan.root.absolute().parents):
        with contextlib.suppress(RecordError):  # there is none, or one of another program
            SETTINGS.read(folder / "settings.json")
            raise ValueError(
                f"directory={plan.root} lies inside {folder}, a stage of another run; choose another `directory=...`"
            )


def _check_splits(plan: Plan) -> None:
    c, played = plan.config, plan.config.evaluation.split
    needed = [*(_LEARNED_FROM if any(_trainings(plan)) else ()), played]
    imitated = _LEARNED_FROM if any(phase.demonstrations for _, phase in _trainings(plan)) else ()
    for split in dict.fromkeys(needed):
        tasks = plan.distribution.split(split)
        if not tasks:
            use = "is evaluated" if split == played else "is trained on"
            raise ValueError(f"tasks.benchmark={c.tasks.benchmark} has no {split} tasks, and that split {use}")
        if c.demonstrations.own or (c.regime == "none" and split not in imitated):
            continue
        if split not in c.demonstrations.splits:
            raise ValueError(
                f"demonstrations.splits must hold {split}, whose tasks are to be shown; got "
                f"{', '.join(c.demonstrations.splits) or 'none'}"
            )
        alone = [family for family, count in Counter(task.family for task in tasks).items() if count < 2]
        if alone and c.regime == "family":
            raise ValueError(
                f"{alone[0]} has a single {split} task, and a demonstration is of another task; give it more of them"
            )


def _check_checkpoint(plan: Plan) -> None:
    if plan.config.checkpoint:  # read in full: damaged weights would show in a worker, after the demonstrations
        plan.make_player(plan.main)(plan.distribution.spec)


def _check_network(plan: Plan, method: MethodPlan, part: str) -> None:
    make = method.spec.network
    assert make is not None
    try:
        with torch.device("meta"):  # sizes without numbers, however large
            make(method.config, plan.distribution.spec, part)
    except Exception:  # a network from outside may need numbers; then it is built in earnest
        try:
            with torch.random.fork_rng(devices=[]):
                make(method.config, plan.distribution.spec, part)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"methods.{method.spec.name}: its network {part} cannot be built: {reason}") from error


def _check_trials(plan: Plan, method: MethodPlan, phase: Phase) -> None:
    asked_about = int(phase.needs.queries != "any")  # a trial beside those of the context
    most, c = phase.needs.trials[1] + asked_about, plan.config.trials
    if not most:
        return
    played: Counter[str] = Counter()
    for _, lender in plan.collections(method, phase):
        assert lender.collection is not None
        each = c.per_task * (1 + (c.attempts if lender.collection.retries else 0))
        number, some = lender.collection.round_number, lender.collection.tasks
        for task in tasks_of_round(plan.distribution, c, plan.config.seed, number, some):
            played[task.name] += each
    if phase.graded:
        each = episodes_per_task(plan.config.graded, plan.graded_players())
        played.update(
            {task.name: each for task in graded_tasks(plan.distribution, plan.config.graded, plan.config.seed)}
        )
    for split in _LEARNED_FROM:
        there = max(played[task.name] for task in plan.distribution.split(split))
        if there < most:
            raise ValueError(
                f"{method.spec.name}/{phase.name} reads up to {most} trials of a task, and of no {split} task are more "
                f"than {there} played; raise trials.per_task or trials.attempts, or read fewer"
            )
