"""Episodes in and out of other people's formats: bit for bit, or one sentence and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import episodes, make_episode, make_task, make_trajectory, same_episode
from toy_episodes import toy_episodes

from wtl.core.episode import Episode
from wtl.core.task import Task
from wtl.data.exchange import export_episodes, import_episodes
from wtl.data.formats import FORMATS, find_format
from wtl.data.formats.spec import FormatError, ImportSettings
from wtl.data.store import EpisodeStore, write_store

h5py = pytest.importorskip("h5py")
pytest.importorskip("minari")
pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

NAMES = {"hdf5": "out.hdf5", "minari": "out-v0", "parquet": "out.parquet"}
"""A file or folder that each format is written to."""


def stored(directory: Path, made: list[Episode]) -> Path:
    write_store(directory, made)
    return directory


def there_and_back(directory: Path, made: list[Episode], name: str) -> list[Episode]:
    """Return episodes after a way through a store, a format, and another store."""
    store = stored(directory / "store", made)
    export_episodes(store, directory / NAMES[name], name)
    import_episodes(directory / NAMES[name], directory / "back")
    return list(EpisodeStore(directory / "back"))


# Round trips.


def test_every_format_is_tested() -> None:
    assert NAMES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_toy_episodes_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    made = [*toy_episodes("demonstration"), *toy_episodes("trial", attempt=1)]
    back = there_and_back(tmp_path, made, name)
    assert len(back) == 24 and all(same_episode(a, b) for a, b in zip(made, back, strict=True))
    assert all(np.isfinite(e.expert_actions).all() and np.isfinite(e.goal).all() for e in back)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(episodes(), min_size=1, max_size=4))
def test_odd_episodes_come_back_bit_for_bit(tmp_path_factory: Any, name: str, made: list[Episode]) -> None:
    """NaN labels, no parameters, the largest seeds, names of every kind; further arrays are left out."""
    made = [replace(e, trajectory=replace(e.trajectory, extras={}), source=e.source.replace("\0", "")) for e in made]
    back = there_and_back(tmp_path_factory.mktemp(name), made, name)
    assert all(same_episode(a, b) for a, b in zip(made, back, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_episodes_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    made = [make_episode(make_task(f"alpha/{i}"), steps=1 + i % 200, seed=i) for i in range(1000)]
    back = there_and_back(tmp_path, made, name)
    assert len(back) == 1000 and all(same_episode(a, b) for a, b in zip(made, back, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_cannot_hold_is_said(tmp_path: Path, name: str) -> None:
    episode = make_episode(make_task("a/train/0"))
    seen = replace(episode, trajectory=replace(episode.trajectory, extras={"frames": np.zeros((2, 2), np.uint8)}))
    stored(tmp_path / "store", [seen])
    done = export_episodes(tmp_path / "store", tmp_path / NAMES[name], name)
    assert done.notes == (f"{name} holds no further arrays, so frames were left out",) and done.count == 1
    import_episodes(tmp_path / NAMES[name], tmp_path / "back")
    assert same_episode(EpisodeStore(tmp_path / "back").episode(0), episode)


# What other people's programs see.


def test_parquet_loads_in_pandas_and_polars(tmp_path: Path) -> None:
    import pandas

    made = list(toy_episodes("demonstration"))
    stored(tmp_path / "store", made)
    export_episodes(tmp_path / "store", tmp_path / "out.parquet")
    table = pandas.read_parquet(tmp_path / "out.parquet")
    assert table.task.tolist() == [e.task.name for e in made] and table.success.all()
    np.testing.assert_array_equal(np.stack(table.actions[3]), made[3].trajectory.actions)
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(tmp_path / "out.parquet")
    assert frame["task"].to_list() == table.task.tolist()
    np.testing.assert_array_equal(np.array(frame["rewards"][3].to_list(), np.float32), made[3].trajectory.rewards)


def test_hdf5_is_what_robomimic_reads(tmp_path: Path) -> None:
    made = list(toy_episodes("demonstration"))[:3]
    stored(tmp_path / "store", made)
    export_episodes(tmp_path / "store", tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert file["data"].attrs["total"] == sum(len(e.trajectory) for e in made)
        assert json.loads(file["data"].attrs["env_args"])["env_type"] == 2
        assert [name.decode() for name in file["mask/train"][()]] == ["demo_0", "demo_1", "demo_2"]
        demo, t = file["data/demo_1"], made[1].trajectory
        assert demo.attrs["num_samples"] == len(t) and demo["dones"][()].tolist() == [0] * (len(t) - 1) + [1]
        np.testing.assert_array_equal(demo["obs/state"], t.observations[:-1])
        np.testing.assert_array_equal(demo["next_obs/state"], t.observations[1:])


def test_minari_itself_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    made = list(toy_episodes("demonstration"))[:3]
    stored(tmp_path / "store", made)
    export_episodes(tmp_path / "store", tmp_path / "mine-v3", "minari")
    monkeypatch.chdir(tmp_path)  # where a relative path leads to the same
    export_episodes("store", "relative-v0", "minari")
    assert (tmp_path / "relative-v0/data/metadata.json").is_file() and len(list(tmp_path.iterdir())) == 3
    dataset = minari.load_dataset("mine-v3")
    assert (dataset.id, dataset.total_episodes) == ("mine-v3", 3)
    np.testing.assert_array_equal(dataset[1].actions, made[1].trajectory.actions)
    np.testing.assert_array_equal(dataset[1].infos["success"][1:], made[1].trajectory.successes)
    import_episodes("mine-v3", tmp_path / "back")  # by its name in Minari's own storage
    assert same_episode(EpisodeStore(tmp_path / "back").episode(2), made[2])


# Data that say less than ours.


def arrays(steps: int = 4, seed: int = 0, **others: Any) -> dict[str, Any]:
    """The fields that are needed and nothing else."""
    t = make_trajectory(steps, seed)
    names = ("observations", "actions", "rewards", "successes")
    return {name: getattr(t, name) for name in names} | others


def as_parquet(path: Path, every: list[dict[str, Any]]) -> Path:
    rows = [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in one.items()}
        for one in every
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_observations_actions_rewards_successes_and_a_task_id_are_enough(tmp_path: Path) -> None:
    made = [arrays(4, i, task=f"alpha/train/{i}") for i in range(3)]
    done = import_episodes(as_parquet(tmp_path / "own.parquet", made), tmp_path / "store")
    for episode, own in zip(EpisodeStore(tmp_path / "store"), made, strict=True):
        assert episode.task == Task("alpha", "train", own["task"], (), own["task"])
        np.testing.assert_array_equal(episode.trajectory.observations, own["observations"])
        np.testing.assert_array_equal(episode.expert_actions, own["actions"])
        assert (episode.role, episode.source, episode.goal.size) == ("demonstration", "own.parquet", 0)
    assert [note.split(":")[0] for note in done.notes] == [
        "3 of 3 episodes had no expert labels", "3 of 3 episodes had no goal", "3 of 3 episodes had no parameters",
    ]  # fmt: skip


def test_family_split_and_successes_may_be_given_by_hand(tmp_path: Path) -> None:
    made = [{k: v for k, v in arrays(4, i).items() if k != "successes"} for i in range(10)]
    for one in made:
        one["rewards"] = np.array([0.0, 0.5, 1.0, 1.0])
    given_by_hand = ImportSettings("alpha", "dealt", solved_reward=1.0)
    import_episodes(as_parquet(tmp_path / "own.parquet", made), tmp_path / "store", given_by_hand)
    store = EpisodeStore(tmp_path / "store")
    assert [r.task.split for r in store.records] == ["train", "train", "train", "validation", "test"] * 2
    assert len({r.task.name for r in store.records}) == 10 and {r.task.family for r in store.records} == {"alpha"}
    assert all(e.trajectory.successes.tolist() == [False, False, True, True] for e in store)


def test_observations_of_several_parts_are_joined_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "own.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        for part, value in (("object", 1.0), ("eef", 2.0)):
            demo[f"obs/{part}"], demo[f"next_obs/{part}"] = np.full((3, 2), value), np.full((3, 2), value)
        demo["actions"], demo["rewards"] = np.zeros((3, 1)), np.array([0.0, 0.0, 1.0])
    asked = ImportSettings("alpha", "train", ("eef", "object"), 1.0)
    import_episodes(tmp_path / "own.hdf5", tmp_path / "store", asked)
    seen = EpisodeStore(tmp_path / "store").episode(0).trajectory.observations
    np.testing.assert_array_equal(seen, np.tile([2.0, 2.0, 1.0, 1.0], (4, 1)))
    for observations, sentence in (
        ((), "have the parts eef, object; choose with --observation"),
        (("x",), "no part 'x'"),
    ):
        with pytest.raises(FormatError, match=sentence):
            import_episodes(tmp_path / "own.hdf5", tmp_path / "other", replace(asked, observations=observations))


def test_actions_of_a_minari_data_set_are_stretched_from_their_bounds(tmp_path: Path) -> None:
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    box = gymnasium.spaces.Box(np.array([0.0, -2.0]), np.array([4.0, 2.0]), dtype=np.float64)
    space = gymnasium.spaces.Dict(
        {"hand": gymnasium.spaces.Box(-9, 9, (2,)), "goal": gymnasium.spaces.Box(-9, 9, (1,))}
    )
    (tmp_path / "theirs").mkdir()
    storage = MinariStorage.new(tmp_path / "theirs/data", space, box)
    storage.update_metadata({"dataset_id": "theirs-v0", "minari_version": minari.__version__})
    buffer = EpisodeBuffer(
        observations={"hand": np.ones((3, 2), np.float32), "goal": np.zeros((3, 1), np.float32)},
        actions=np.array([[0.0, -2.0], [3.0, 2.0]]), rewards=np.array([0.0, 1.0]),
        terminations=np.array([False, True]), truncations=np.array([False, False]),
    )  # fmt: skip
    storage.update_episodes([buffer])
    asked = ImportSettings("alpha", "train", ("hand",), solved_reward=1.0)
    import_episodes(tmp_path / "theirs", tmp_path / "store", asked)
    trajectory = EpisodeStore(tmp_path / "store").episode(0).trajectory
    np.testing.assert_array_equal(trajectory.actions, [[-1.0, -1.0], [0.5, 1.0]])
    assert trajectory.observations.shape == (3, 2) and trajectory.success


# Mistakes.


def broken(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: arrays(4, task="alpha/train/7") | changes


def nan_at(step: int, name: str) -> dict[str, Any]:
    array = np.array(arrays()[name], np.float64)
    array[step] = np.nan
    return {name: array}


@pytest.mark.parametrize(
    "fields, sentence",
    [
        (broken(**nan_at(2, "observations")), "observations hold a number that is not finite at step 2"),
        (broken(**nan_at(1, "actions")), "actions hold a number that is not finite at step 1"),
        (broken(**nan_at(3, "rewards")), "rewards hold a number that is not finite at step 3"),
        (broken(actions=np.full((4, 2), 1.5)), "actions must lie in [-1, 1], got 1.5 at step 0; rescale them"),
        (broken(observations=np.zeros((4, 7))),
         "has 4 actions and 4 observations, expected 5, the last one after the last action"),
        (broken(rewards=np.zeros(5)), "has 4 actions and 5 rewards, expected 4"),
        (broken(successes=np.full(4, 0.5)), "successes must be true or false"),
        (broken(rewards=None), "has no rewards"),
        (broken(successes=None), "has no successes; give --solved-reward R"),
        (broken(observations=np.zeros(5)), "observations must hold one row of numbers a step, got the shape (5,)"),
        (broken(role="hero"), "role must be one of demonstration, trial, got 'hero'"),
        (broken(parameters=np.array([np.nan])), "parameters must be finite, got [nan]"),
        (broken(actions=np.zeros((0, 2))), "has no step"),
    ],
)  # fmt: skip
def test_an_episode_that_is_wrong_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, fields: Callable[[], dict[str, Any]], sentence: str
) -> None:
    path = as_parquet(tmp_path / "own.parquet", [fields()])
    with pytest.raises(FormatError) as caught:
        import_episodes(path, tmp_path / "store")
    assert str(caught.value).startswith(f"episode 0 of {path} (task alpha/train/7)") and sentence in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["own.parquet"]


@pytest.mark.parametrize(
    "task, given_settings, sentence",
    [
        (None, ImportSettings(), "episode 0 of .* has no task id, which does not say its family: an id reads FAMILY/"),
        ("door-1", ImportSettings("door"), "has the task id 'door-1', which does not say its split: an id reads"),
        ("door/best/1", ImportSettings(), "has the task id 'door/best/1', which does not say its family"),
    ],
)
def test_a_task_must_have_a_family_and_a_split(
    tmp_path: Path, task: str | None, given_settings: ImportSettings, sentence: str
) -> None:
    path = as_parquet(tmp_path / "own.parquet", [arrays(4, task=task)])
    with pytest.raises(FormatError, match=sentence):
        import_episodes(path, tmp_path / "store", given_settings)


@pytest.mark.parametrize("kind", [{"split": "exam"}, {"solved_reward": float("nan")}])
def test_settings_out_of_range_are_refused(kind: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="must be"):
        ImportSettings(**kind)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x89HDF\r\n\x1a\n rest", b"{}", bytes(range(256)) * 20])
@pytest.mark.parametrize("name", ["own.parquet", "own.hdf5"])
def test_a_file_that_is_no_such_file_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"{name} cannot be read as"):
        import_episodes(tmp_path / name, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    stored(tmp_path / "store", list(toy_episodes("demonstration")))
    export_episodes(tmp_path / "store", tmp_path / NAMES[name], name)
    files = [p for p in [tmp_path / NAMES[name], *(tmp_path / NAMES[name]).rglob("*")] if p.is_file()]
    for file in files:
        content = file.read_bytes()
        for keep in (0, 10, len(content) // 2, len(content) - 9):
            file.write_bytes(content[:keep])
            with pytest.raises(FormatError):
                import_episodes(tmp_path / NAMES[name], tmp_path / "back")
            assert not (tmp_path / "back").exists()
        file.write_bytes(content)


def test_a_minari_data_set_that_names_an_environment_is_not_made_to_run_it(tmp_path: Path) -> None:
    (tmp_path / "evil/data").mkdir(parents=True)
    spec = json.dumps({"id": "Evil-v0", "entry_point": "os:abort"})
    content = {"total_episodes": 0, "total_steps": 0, "data_format": "hdf5", "env_spec": spec}
    (tmp_path / "evil/data/metadata.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match="does not say its spaces, so it cannot be read safely"):
        import_episodes(tmp_path / "evil", tmp_path / "store")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    store = stored(tmp_path / "store", list(toy_episodes("demonstration")))
    (tmp_path / "out.parquet").write_text("precious")
    with pytest.raises(FormatError, match="out.parquet exists already; choose another name or delete it"):
        export_episodes(store, tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "precious"
    export_episodes(store, tmp_path / "other.parquet")
    with pytest.raises(FormatError, match="store exists already"):
        import_episodes(tmp_path / "other.parquet", store)


def test_a_format_is_told_by_the_looks_or_asked_for(tmp_path: Path) -> None:
    store = stored(tmp_path / "store", list(toy_episodes("demonstration")))
    with pytest.raises(FormatError, match="cannot tell the format from out.csv: give --format, one of hdf5, minari, "):
        export_episodes(store, tmp_path / "out.csv")
    with pytest.raises(FormatError, match="nothing is of no known format, or does not exist"):
        import_episodes("nothing", tmp_path / "back")
    with pytest.raises(FormatError, match="there is no file .*nothing.h5"):
        import_episodes(tmp_path / "nothing.h5", tmp_path / "back")
    with pytest.raises(FormatError, match="unknown format 'csv'; known are hdf5, minari, parquet"):
        find_format("csv")


def test_a_library_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "wtl.data.formats.hdf5", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(FormatError, match=r"format hdf5 needs a library that is missing .*: pip install 'wtl\[hdf5\]'"):
        find_format("hdf5")


def test_sizes_that_differ_do_not_fit_into_one_minari_data_set(tmp_path: Path) -> None:
    other = make_trajectory(3, action_size=3)
    episode = make_episode(make_task("alpha/train/0"))
    wide = replace(episode, trajectory=other, expert_actions=other.actions)
    store = stored(tmp_path / "store", [episode, wide])
    with pytest.raises(FormatError, match=r"one size of observations and actions, here \(7, 2\)"):
        export_episodes(store, tmp_path / "out-v0", "minari")
    assert not (tmp_path / "out-v0").exists()
    export_episodes(store, tmp_path / "out.parquet")
    import_episodes(tmp_path / "out.parquet", tmp_path / "back")
    assert same_episode(EpisodeStore(tmp_path / "back").episode(1), wide)


def test_the_command_line_says_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from wtl import cli

    def wtl(*arguments: object) -> str:
        cli.app([str(argument) for argument in arguments], standalone_mode=False)
        return capsys.readouterr().err

    made = stored(tmp_path / "store", list(toy_episodes("demonstration")))
    assert "out.parquet: 12 episodes" in wtl("export", made, tmp_path / "out.parquet")
    assert "back: 12 episodes" in wtl("import", tmp_path / "out.parquet", tmp_path / "back")
    own = [{k: v for k, v in arrays(4, i).items() if k != "successes"} for i in range(5)]
    path = as_parquet(tmp_path / "own.parquet", own)
    hand = ("--family", "alpha", "--split", "dealt", "--solved-reward", "0.1")
    assert "5 of 5 episodes had no goal: it is asked of" in wtl("import", path, tmp_path / "own", *hand)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("")
    with pytest.raises(FormatError, match="run kept no episodes of its evaluation; evaluate with"):
        wtl("export", tmp_path / "run", tmp_path / "histories.parquet")
