"""The built wheel in a fresh environment and another working directory: presets and checkpoint come with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = "tasks={goals_per_family: 12, validation_goals_per_family: 3, test_goals_per_family: 4}"
SHORT = [
    f"methods.{part}.train.steps=5"
    for part in ("imitation.trial", "imitation.retrial", "cloning")
] + ["methods.imitation.retrial.later_train.steps=5", "video=sketch"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheel_works_elsewhere(tmp_path: Path) -> None:
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def call(*command: str | Path) -> str:
        done = subprocess.run([*map(str, command)], cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call(uv, "build", "--wheel", "--quiet", "--out-dir", tmp_path / "dist", ROOT)
    [wheel] = (tmp_path / "dist").glob("wtl-*.whl")
    call(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "fresh")
    python, wtl = tmp_path / "fresh" / "bin" / "python", tmp_path / "fresh" / "bin" / "wtl"
    call(uv, "pip", "install", "--quiet", "--python", python, wheel)
    assert str(tmp_path / "fresh") in call(python, "-c", "import wtl; print(wtl.__file__)")
    said = call(wtl, "run", "toy", SMALL, *SHORT, "directory=mine")
    assert "mil is left out: it needs learn2learn, which is not installed" in said
    assert (tmp_path / "mine" / "improvement.png").is_file()
    few = ["tasks.test_goals_per_family=2", "evaluation.attempts=1", "evaluation.control_attempt=1", "video=sketch"]
    call(wtl, "evaluate", "pretrained", *few, "directory=shipped")
    assert (tmp_path / "shipped" / "evaluation" / "episodes.csv").is_file()
