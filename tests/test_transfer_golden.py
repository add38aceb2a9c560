"""The shipped method gives the numbers that it gave when it was made (2026-11-28).

Scores of candidates and actions, on pseudo-random contexts and observations (`transfer_inputs`). Made anew by
`python tests/test_transfer_golden.py`, when a change is meant.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steps import step_of
from transfer_inputs import CANDIDATES, SEEDS, START, STEPS, carried, observations_of

from wtl.app.config import checkpoint_directory
from wtl.core.episode import Context, Trajectory
from wtl.data.segments import make_context_batch
from wtl.methods import transfer
from wtl.methods.checkpoint import load_player
from wtl.methods.transfer.method import TransferMethod
from wtl.play.policy import FromContext

SHOWN = [Trajectory(**carried(row)) for row in range(2)]
TRIED = [[Trajectory(**carried(10 + 10 * k + row, success=False)) for row in range(2)] for k in range(2)]
CONTEXTS = {
    "0": [Context((shown,)) for shown in SHOWN],
    "2": [Context((shown,), (TRIED[0][row], TRIED[1][row])) for row, shown in enumerate(SHOWN)],
    # Without the demonstration, which is what a success from another start is no better than since protocols are there.
    "solved": [Context((), (replace(TRIED[0][row], successes=np.arange(40) == 39),)) for row in range(2)],
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "golden" / "transfer.json").read_text())


@pytest.fixture(scope="module")
def method() -> TransferMethod:
    player = load_player(checkpoint_directory("ml45"), transfer.LEARNED)
    assert isinstance(player, FromContext) and isinstance(player.method, TransferMethod)
    return player.method


def scores_of(method: TransferMethod, trials: str) -> np.ndarray:
    batch = make_context_batch(CONTEXTS[trials], method.config.frames, method.spec.reward_scale)
    rules = torch.arange(CANDIDATES.shape[1]).expand(len(CANDIDATES), -1) % 2  # along with nothing, and with the object
    with torch.inference_mode():
        return method.scorer(batch, torch.from_numpy(START), torch.from_numpy(CANDIDATES), rules).numpy()


def actions_of(method: TransferMethod, trials: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the actions (STEPS, 2, 4) of an episode, and which try each row came to."""
    policy = method.adapt(CONTEXTS[trials], SEEDS)
    actions = np.stack([policy.act(step_of(observations_of(t), number=t)) for t in range(STEPS)])
    return actions, policy.policies[0]._tries


@pytest.mark.parametrize("trials", ["0", "2"])
def test_scores_are_those_of_before(trials: str, golden: dict[str, Any], method: TransferMethod) -> None:
    scores = scores_of(method, trials)
    assert np.ptp(scores, axis=1).min() > 1.0
    np.testing.assert_allclose(scores, golden["scores"][trials], atol=1e-3)


@pytest.mark.parametrize("trials", CONTEXTS)
def test_actions_are_those_of_before(trials: str, golden: dict[str, Any], method: TransferMethod) -> None:
    actions, _ = actions_of(method, trials)
    np.testing.assert_allclose(actions, golden["actions"][trials], atol=1e-3)


def test_the_golden_contexts_differ(golden: dict[str, Any]) -> None:
    actions = {name: np.array(values) for name, values in golden["actions"].items()}
    assert all(values.shape == (STEPS, 2, 4) for values in actions.values())
    assert np.abs(actions["0"] - actions["2"]).max() > 0.1 and np.abs(actions["0"] - actions["solved"]).max() > 0.1


def _make() -> None:
    player = load_player(checkpoint_directory("ml45"), transfer.LEARNED)
    assert isinstance(player, FromContext) and isinstance(player.method, TransferMethod)
    made = {
        "scores": {trials: scores_of(player.method, trials).round(5).tolist() for trials in ("0", "2")},
        "actions": {trials: actions_of(player.method, trials)[0].round(5).tolist() for trials in CONTEXTS},
    }
    (Path(__file__).parent / "golden" / "transfer.json").write_text(json.dumps(made))


if __name__ == "__main__":
    _make()
