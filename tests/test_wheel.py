"""The built wheel elsewhere: in fresh environments, by pip, by uv, and as a dependency of another project.

`make test-slow` tries the Python that it runs under; `make release-check` sets WTL_PYTHONS and runs the whole
preset toy in each of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
PYTHONS = os.environ.get("WTL_PYTHONS", "").split()
SMALL = "tasks={goals_per_family: 12, validation_goals_per_family: 3, test_goals_per_family: 4}"
SHORT = [SMALL, *(
    f"methods.{part}.train.steps=5"
    for part in ("imitation.trial", "imitation.retrial", "cloning")
), "methods.imitation.retrial.later_train.steps=5"]  # fmt: skip

Call = Callable[..., str]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Runs a command in another directory, with nothing of this environment; returns what it said."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}

    def run(*command: str | Path) -> str:
        done = subprocess.run([*map(str, command)], cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run


@pytest.fixture
def wheel(call: Call, tmp_path: Path) -> Path:
    call(UV, "build", "--wheel", "--quiet", "--out-dir", tmp_path / "dist", ROOT)
    [built] = (tmp_path / "dist").glob("wtl-*.whl")
    return built


@pytest.mark.parametrize("python", PYTHONS or [sys.executable])
def test_the_wheel_works_elsewhere(call: Call, wheel: Path, tmp_path: Path, python: str) -> None:
    call(UV, "venv", "--quiet", "--python", python, tmp_path / "fresh")
    python, wtl = str(tmp_path / "fresh" / "bin" / "python"), tmp_path / "fresh" / "bin" / "wtl"
    call(UV, "pip", "install", "--quiet", "--python", python, wheel)
    assert str(tmp_path / "fresh") in call(python, "-c", "import wtl; print(wtl.__file__)")
    said = call(wtl, "run", "toy", *([] if PYTHONS else SHORT), "video=sketch", "directory=mine")
    assert "mil is left out: it needs learn2learn, which is not installed" in said
    assert (tmp_path / "mine" / "improvement.png").is_file()
    manifest = json.loads((tmp_path / "mine" / "evaluation" / "manifest.json").read_text())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert manifest["wtl"] and manifest["commit"] == (commit or "unknown")
    few = ["tasks.test_goals_per_family=2", "evaluation.attempts=1", "video=sketch"]
    call(wtl, "evaluate", "pretrained", *few, "evaluation.control_attempt=1", "directory=shipped")
    assert (tmp_path / "shipped" / "evaluation" / "episodes.csv").is_file()


def test_pip_installs_it(call: Call, wheel: Path, tmp_path: Path) -> None:
    """PyTorch, gigabytes that pip would fetch anew, is there already."""
    call(UV, "venv", "--quiet", "--seed", "--python", sys.executable, tmp_path / "fresh")
    python = tmp_path / "fresh" / "bin" / "python"
    call(UV, "pip", "install", "--quiet", "--python", python, "torch")
    call(python, "-m", "pip", "install", "--quiet", wheel)
    assert "hidden" in call(tmp_path / "fresh" / "bin" / "wtl", "tasks")
    call(python, "-m", "pip", "check")


def test_another_project_depends_on_it(call: Call, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        "from wtl.app.config import load_config\nprint(load_config('toy', []).method)\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "theirs"\nversion = "1"\nrequires-python = ">=3.11"\n'
        f'dependencies = ["wtl[language] @ {wheel.as_uri()}"]\n'
    )
    call(UV, "sync", "--quiet", "--python", sys.executable)
    assert "imitation" in call(UV, "run", "--quiet", "theirs.py")
