"""Files and folders when something goes wrong: errors of the system, links that were planted, locks, leftovers."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wtl.core import files
from wtl.core.files import explain, is_bad_luck, scratch_folder, sealed, sweep, unsealed, write_atomically
from wtl.core.lock import InUseError, locked
from wtl.core.records import MANIFEST, SETTINGS, RecordError, RecordFormat, check_files, is_inside, read_manifest

HERE = Path(__file__).parent
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# Writing.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_names_the_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_atomically(tmp_path / "file", b"old")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "file", b"new")
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"
    said = explain(caught.value)
    assert said.startswith(f"{tmp_path / 'file'}: {os.strerror(number)}; ") and "\n" not in said
    assert said.endswith("The same command goes on where this one stopped") and is_bad_luck(caught.value)


def test_what_is_asked_for_and_cannot_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    asked = {
        tmp_path / ("x" * 300): "give a shorter name",
        tmp_path / "file" / "below": "move that file away",
        tmp_path / "folder": "move that folder away",
    }
    for path, advice in asked.items():
        with pytest.raises(OSError) as caught:
            write_atomically(path, b"content")
        said = explain(caught.value)
        assert str(path) in said and advice in said and not is_bad_luck(caught.value)
    assert names(tmp_path) == ["file", "folder"] and not names(tmp_path / "folder")


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 255), b"content")
    assert names(tmp_path) == ["x" * 255]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "file").symlink_to(tmp_path / "secret")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "secret").read_bytes() == b"secret" and not (tmp_path / "file").is_symlink()


def test_a_partial_file_is_never_one_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even whoever guesses the name cannot have us write through a link."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0123456789abcdef")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / ".0123456789abcdef.partial").symlink_to(tmp_path / "secret")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", b"new")
    with pytest.raises(FileExistsError), scratch_folder(tmp_path):
        pass
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_scratch_folder_is_gone_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path / "deep") as scratch:
        (scratch / "file").write_bytes(b"content")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_folders_above_a_scratch_folder_go_with_it_unless_they_are_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError), scratch_folder(tmp_path / "a" / "b"):
        raise ValueError
    assert names(tmp_path) == []
    with scratch_folder(tmp_path / "a" / "b") as scratch:
        (scratch / "file").write_bytes(b"content")
        (scratch / "file").rename(tmp_path / "a" / "b" / "file")
    assert names(tmp_path / "a" / "b") == ["file"]


def test_sweeping_takes_what_is_unfinished_and_nothing_else(tmp_path: Path) -> None:
    kept = ["a.partial", ".config", ".a.partial", ".0123456789abcdef.partial.txt", "deep/run/.lock"]
    kept += ["deep/run/.0123456789abcdef.partial"]  # somebody may be at work there
    gone = [".0123456789abcdef.partial", "deep/.settings.json.123.partial", "deep/.00000000000000ff.partial/file"]
    for name in (*kept, *gone):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"content")
    (tmp_path / ".aaaaaaaaaaaaaaaa.partial").symlink_to(outside)
    sweep(tmp_path)
    assert (outside / "file").exists()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, "outside/file"}


@QUICK
@given(st.binary(max_size=200), st.data())
def test_a_seal_notices_every_flipped_byte_and_every_cut(content: bytes, data: st.DataObject) -> None:
    whole = sealed(content)
    assert unsealed(whole) == content
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="checksum"):
        unsealed(bytes(flipped))
    with pytest.raises(ValueError, match="checksum"):
        unsealed(whole[:place])


# JSON files.

FORMAT = RecordFormat(3, {"name": str, "parts": list, "sizes": dict, "share": float}, {"note": str})
CONTENT = {"name": "é", "parts": [1, "two", None], "sizes": {"a": 1.5, "2": {}, "10": 1}, "share": 1}


def test_a_record_comes_back(tmp_path: Path) -> None:
    FORMAT.write(tmp_path / "a.json", CONTENT)
    assert FORMAT.read(tmp_path / "a.json") == {"version": 3, **CONTENT}
    FORMAT.write(tmp_path / "b.json", {**CONTENT, "sizes": {2: 1, 10: (1, 2)}})  # as JSON says it
    assert FORMAT.read(tmp_path / "b.json")["sizes"] == {"2": 1, "10": [1, 2]}


@QUICK
@given(st.data())
def test_a_record_that_was_damaged_is_one_sentence_or_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("record") / "a.json"
    FORMAT.write(path, CONTENT)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path.write_bytes(content)
    try:
        assert FORMAT.read(path) == {"version": 3, **CONTENT}  # white space was changed
    except RecordError as error:
        assert str(path) in str(error) and "\n" not in str(error) and "copy it again" in str(error)


@QUICK
@given(st.binary(max_size=30) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_garbage_is_no_record(tmp_path_factory: pytest.TempPathFactory, garbage: bytes | str) -> None:
    path = tmp_path_factory.mktemp("record") / "settings.json"
    path.write_bytes(garbage.encode() if isinstance(garbage, str) else garbage)
    for kind in (FORMAT, SETTINGS, MANIFEST):
        with pytest.raises(RecordError):
            kind.read(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"version": 3, "version": 3}', "stands in it twice"),
        ('{"version": 4, "name": 1}', "is of version 4, and this program reads version 3"),
        ('{"version": true}', "version must be a whole number|has no 'name'"),
        ('{"name": "a", "parts": [], "sizes": {}, "share": 1}', "version must be a whole number, got NoneType"),
        ('{"version": 3, "name": "a", "parts": [], "sizes": {}}', "it has no 'share'"),
        ('{"version": 3, "name": "a", "parts": {}, "sizes": {}, "share": 1}', "parts must be a list, got dict"),
        ('{"version": 3, "name": "a", "parts": [], "sizes": {}, "share": true}', "share must be a number, got bool"),
        ('{"version": 3, "name": "a", "parts": [], "sizes": {}, "share": 1, "x": 1}', "'x' that nobody knows"),
        ('{"version": 3, "name": "a", "parts": [], "sizes": {}, "share": 1, "checksum": "x"}', "checksum is another"),
        ("3", "expected an object, got int"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RecordError, match=sentence):
        FORMAT.read(tmp_path / "a.json")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(RecordError, match="there is no such file"):
        FORMAT.read(tmp_path / "a.json")


def test_the_files_of_a_manifest_are_checked_and_stay_in_its_folder(tmp_path: Path) -> None:
    empty = {"identity": "a", "inputs": {}, "results": {}, "wall_s": 1}
    check_files(tmp_path)  # nothing to go by
    MANIFEST.write(tmp_path / "manifest.json", {**empty, "files": {"a.csv": files.sha256_of(HERE / "conftest.py")}})
    with pytest.raises(RecordError, match=r"a.csv is missing, damaged or changed"):
        check_files(tmp_path)
    (tmp_path / "a.csv").write_bytes((HERE / "conftest.py").read_bytes())
    check_files(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"other")
    (tmp_path / "settings.json").touch()
    with pytest.raises(RecordError, match=r"delete .*/manifest.json and run the command that made it again"):
        check_files(tmp_path)
    MANIFEST.write(tmp_path / "manifest.json", {**empty, "files": {"../a.csv": ""}})
    with pytest.raises(RecordError, match="names the file '../a.csv', which is not in its folder"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "", "..", "a\0b"])
def test_names_that_leave_the_folder(name: str) -> None:
    assert not is_inside(name)
    assert is_inside("a") and is_inside("a/b.c") and is_inside("..a")


# Locks.


def test_a_place_where_no_folder_can_be_made_is_an_error_and_no_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in /proc, or below a folder that was removed: what is missing can never be made there."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(FileNotFoundError), locked(tmp_path / "a" / "b"):
        pass


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    with locked(deep):
        assert names(deep) == [".lock"]
        with locked(deep / ".." / "b"):  # whoever holds it may ask again
            pass
        assert names(deep) == [".lock"]
    assert not list(tmp_path.iterdir())
    with locked(deep):
        (deep / "file").touch()
    assert names(deep) == ["file"]


def test_another_thread_is_kept_out(tmp_path: Path) -> None:
    said: list[str] = []

    def ask() -> None:
        try:
            with locked(tmp_path):
                said.append("in")
        except InUseError as error:
            said.append(str(error))

    with locked(tmp_path):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert len(said) == 1
    assert said[0].startswith(f"another command (process {os.getpid()} on ") and str(tmp_path) in said[0]
    ask()
    assert said[1] == "in"


HOLDER = """
import sys, time
from pathlib import Path
from wtl.core.lock import locked
with locked(Path(sys.argv[1])):
    Path(sys.argv[1], ".0123456789abcdef.partial").touch()
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_process_that_was_killed_does_not_block(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], cwd=HERE.parent, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(InUseError, match=rf"another command \(process {holder.pid} on .*\) is writing into"),
            locked(tmp_path),
        ):
            pass
        assert names(tmp_path) == [".0123456789abcdef.partial", ".lock"]
        holder.kill()
    with locked(tmp_path):
        assert names(tmp_path) == [".lock"]  # and what it left unfinished is swept
    assert names(tmp_path) == []


def test_many_at_once_one_at_a_time(tmp_path: Path) -> None:
    """Although each removes the file of the lock when it lets go."""
    inside, most, entered = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, entered
        for _ in range(40):
            try:
                with locked(tmp_path / "run"):
                    inside += 1
                    most, entered = max(most, inside), entered + 1
                    time.sleep(0.0005)
                    inside -= 1
            except InUseError:
                continue

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 1 and entered > 1 and not list(tmp_path.rglob(".*"))


def test_a_link_planted_as_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / ".lock").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError) as caught, locked(tmp_path):
        pass
    assert "a link stands there" in explain(caught.value)
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr("wtl.core.lock.fcntl.flock", no_locks)
    with locked(tmp_path):
        assert names(tmp_path) == [".lock"]


# Processes.

PARENT = """
import subprocess, sys, time
from wtl.compute.leftovers import start_watching
watcher = start_watching()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, watcher.pid, flush=True)
time.sleep(60)
"""


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux only")
def test_what_a_killed_process_has_started_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=HERE.parent, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child, watcher = map(int, parent.stdout.readline().split())
        time.sleep(2.5)  # the watcher looks every second
        assert alive(child) and alive(watcher)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (alive(child) or alive(watcher)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child) and not alive(watcher)
