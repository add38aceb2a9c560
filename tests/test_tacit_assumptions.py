"""What we believe about other people's libraries; when one of these fails, it is they who changed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from wtl.methods.mil import SPEC as MIL
from wtl.methods.mil import _maml
from wtl.tasks.metaworld.family import MetaWorldFamily

# learn2learn: what meta-imitation learning takes from it.


learn2learn = pytest.mark.skipif(bool(MIL.missing), reason=f"needs {MIL.missing}")


def quadratic(first_order: bool) -> tuple[torch.nn.Linear, Any]:
    """A single weight of 2, and MAML around it with a rate of 0.25."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 2.0)
    return network, _maml(network, 0.25, first_order)


def squared(learner: Any) -> torch.Tensor:
    return learner(torch.ones(1, 1)).square().sum()


@learn2learn
def test_a_clone_adapts_by_gradient_descent_and_leaves_its_origin_alone() -> None:
    network, maml = quadratic(first_order=False)
    learner = maml.clone()
    learner.adapt(squared(learner))  # the slope of w ** 2 is 2 w
    (adapted,) = (weight for _, weight in learner.module.named_parameters())
    assert adapted.item() == 1.0 and network.weight.item() == 2.0
    assert [name for name, _ in learner.module.named_parameters()] == ["weight"]


@learn2learn
def test_gradients_go_through_the_adaptation_unless_first_order_is_asked_for() -> None:
    """After a step w becomes w (1 - 0.5), so the loss is w ** 2 / 4: its slope at 2 is 1; without second derivatives
    it is that at the adapted weight, 2."""
    for first_order, slope in ((False, 1.0), (True, 2.0)):
        network, maml = quadratic(first_order)
        learner = maml.clone()
        learner.adapt(squared(learner))
        squared(learner).backward()
        assert network.weight.grad is not None and network.weight.grad.item() == slope


@learn2learn
def test_importing_learn2learn_draws_no_random_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    before = np.random.get_state()[1].tolist(), torch.get_rng_state(), random.getstate()
    quadratic(first_order=False)
    assert np.random.get_state()[1].tolist() == before[0] and random.getstate() == before[2]
    assert capsys.readouterr() == ("", "")  # gym would print a page


# safetensors: the layout that `wtl.data.store` maps into memory.


def test_the_header_of_a_safetensors_file() -> None:
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array([True, False, True]),
        "c": np.array([2.5]),
    }
    content = save(arrays, metadata={"episodes": "[]"})
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert header.pop("__metadata__") == {"episodes": "[]"}
    assert {name: entry["dtype"] for name, entry in header.items()} == {"b": "F32", "a": "BOOL", "c": "F64"}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        place = 8 + size + start
        assert content[place : 8 + size + end] == arrays[name].tobytes() and tuple(entry["shape"]) == arrays[name].shape
        assert place % arrays[name].itemsize == 0  # aligned, so that it can be mapped
    assert save(dict(reversed(arrays.items())), metadata={"episodes": "[]"}) == content


# Meta-World.


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_meta_world_truncates_at_500_and_goes_no_further() -> None:
    family = MetaWorldFamily("reach-v3")
    environment = family.make_environment()
    environment.reset(options={"task": family.sample_tasks(1, 0, "validation")[0]})
    assert environment.sawyer.max_path_length == family.spec.horizon_steps == 500
    ended = [environment.step(np.zeros(4, np.float32))[2:4] for _ in range(500)]
    assert ended == [(False, False)] * 499 + [(False, True)]
    with pytest.raises(ValueError, match="reset"):
        environment.step(np.zeros(4, np.float32))


# torch and TensorBoard.


def test_scaled_dot_product_attention_averages_over_the_last_but_one_axis() -> None:
    q, k, v = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert out.shape == (2, 3, 4, 8)
    torch.testing.assert_close(out, (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v)


def test_purging_forgets_the_step_itself_and_all_later_ones(tmp_path: Path) -> None:
    for purge_step, steps in ((None, (1, 2, 3)), (3, (3, 4))):
        writer = SummaryWriter(str(tmp_path), purge_step=purge_step)
        for step in steps:
            writer.add_scalar("loss", 10.0 * len(steps) + step, step)
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(e.step, e.value) for e in events] == [(1, 31.0), (2, 32.0), (3, 23.0), (4, 24.0)]


def test_numpys_streams_are_promised_to_stay() -> None:
    assert np.random.default_rng(np.random.SeedSequence(7)).integers(1000, size=4).tolist() == GOLDEN


GOLDEN = [944, 625, 684, 897]
