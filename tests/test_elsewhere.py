"""A checkout that was copied, a user's own modules, logs and pipes: what is around the program."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from wtl.analysis.tables import Table, print_tables
from wtl.app import progress
from wtl.core.terminal import make_console

ROOT = Path(__file__).parent.parent
WIDE = Table(
    "a title",
    ("method, control", "n", *(f"attempt {k}" for k in range(5))),
    ((("trajectory_transfer [red]", "250", *(f"{k}0 [{k}0, {k}5]" for k in range(5))),),),
)


@pytest.mark.parametrize("stamp, stays", [("", True), ("/elsewhere", False), ("here", True)])
def test_the_environment_of_a_copied_checkout_is_made_anew(tmp_path: Path, stamp: str, stays: bool) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".complete").write_text(str(tmp_path) if stamp == "here" else stamp)
    subprocess.run(["make", "-n", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / ".venv").exists() == stays


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    own = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=own, capture_output=True, timeout=120)


def test_a_module_of_the_user_with_the_name_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("MINE = 3\n")
    done = call(tmp_path, "-m", "wtl", "tasks", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"toy: probe-red" in done.stdout, done.stderr
    done = call(tmp_path, "-c", "import tasks, wtl.tasks; assert tasks.MINE == 3 and wtl.tasks.make_distribution")
    assert done.returncode == 0, done.stderr


def test_a_table_in_a_file_is_whole_and_in_a_narrow_terminal_wrapped() -> None:
    file = io.StringIO()
    console = make_console()
    console.file = file
    print_tables([WIDE], console=console)
    [row] = [line for line in file.getvalue().splitlines() if "trajectory_transfer [red]" in line]
    assert "40 [40, 45]" in row and "…" not in file.getvalue()
    narrow = Console(file=(file := io.StringIO()), width=80, force_terminal=True, color_system=None, markup=False)
    print_tables([WIDE], console=narrow)
    shown = file.getvalue()
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
    assert all(f"[{k}0, {k}5]" in shown for k in range(5))  # below its number, and in one piece


def test_an_ascii_pipe_gets_a_replacement() -> None:
    code = "from wtl.core.terminal import *; accept_every_encoding(); make_console().print('\u21b3 blind \u00e9')"
    done = call(ROOT, "-c", code, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout == b"> blind ?\n", done.stderr


def test_a_log_file_is_told_at_once_and_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 31.0, 40.0, 41.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    file = io.StringIO()
    with progress.progress_of("imitation/trial", Console(file=file, width=200, markup=False)) as advance:
        assert file.getvalue() == "imitation/trial: begins\n"
        for step in (1, 2, 3, 4):
            advance(step, 4, "loss [0.5]")
    assert file.getvalue().splitlines()[1:] == [
        "imitation/trial: 2 of 4, loss [0.5]", "imitation/trial: 4 of 4, loss [0.5]"
    ]  # fmt: skip
