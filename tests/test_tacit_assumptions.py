"""What we believe about other people's libraries; when one of these fails, it is they who changed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import omegaconf
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.numpy import save
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from wtl.methods.quiet import learn2learn

from tasks.metaworld.family import MetaWorldFamily

# learn2learn: tasks are drawn from Python's global generator, so seeding it makes a draw repeatable.


class Pairs(torch.utils.data.Dataset):
    """Twelve samples of three classes, four of each."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, index % 3


def taskset(ways: int, shots: int) -> Any:
    dataset = learn2learn.data.MetaDataset(Pairs())
    transforms = [
        learn2learn.data.transforms.NWays(dataset, ways),
        learn2learn.data.transforms.KShots(dataset, shots, replacement=True),
        learn2learn.data.transforms.LoadData(dataset),
    ]
    return learn2learn.data.Taskset(dataset, transforms, num_tasks=-1, task_collate=list)


def drawn(tasks: Any, seed: int) -> list[tuple[int, int]]:
    random.seed(seed)
    return tasks.sample()


def test_a_way_is_a_class_and_a_shot_is_a_sample_of_it() -> None:
    for seed in range(5):
        samples = drawn(taskset(2, 3), seed)
        classes = [label for _, label in samples]
        assert len(samples) == 6 and sorted(map(classes.count, set(classes))) == [3, 3]  # ways without replacement


def test_shots_are_drawn_with_replacement() -> None:
    samples = drawn(taskset(3, 10), 0)
    assert len(samples) == 30 and len(set(samples)) <= 12


def test_only_pythons_generator_is_drawn_from() -> None:
    tasks = taskset(2, 3)
    assert drawn(tasks, 1) == drawn(tasks, 1) == drawn(taskset(2, 3), 1)
    assert len({tuple(drawn(tasks, seed)) for seed in range(8)}) > 1
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()
    drawn(tasks, 3)
    assert np.random.get_state()[1].tolist() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_every_call_draws_a_new_task() -> None:
    tasks = taskset(2, 3)
    random.seed(0)
    assert len({tuple(tasks.sample()) for _ in range(8)}) > 4  # nothing is remembered where num_tasks is -1


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


# OmegaConf.


@dataclass(frozen=True)
class Inner:
    """A number."""

    steps: int = 3


@dataclass(frozen=True)
class Outer:
    """A choice and a tuple."""

    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if len(self.sizes) > 3:
            raise ValueError("too many")


@pytest.mark.parametrize("change", [{"stps": 3}, {"inner": {"stps": 3}}, {"kind": "c"}, {"inner": {"steps": "many"}}])
def test_omegaconf_refuses_unknown_keys_other_types_and_other_choices(change: dict[str, Any]) -> None:
    with pytest.raises(omegaconf.errors.OmegaConfBaseException):
        OmegaConf.merge(OmegaConf.structured(Outer), OmegaConf.create(change))


def test_omegaconf_gives_back_the_dataclasses_and_they_check_themselves() -> None:
    merged = OmegaConf.merge(OmegaConf.structured(Outer), OmegaConf.from_dotlist(["sizes=[4]", "inner.steps=7"]))
    assert OmegaConf.to_object(merged) == Outer(sizes=(4,), inner=Inner(7))
    with pytest.raises(ValueError, match="too many"):
        OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Outer), {"sizes": [1, 2, 3, 4]}))


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
