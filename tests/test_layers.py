"""The shape of the house: floors, what may be imported where, and the tree in the README."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("wtl/**/*.py"), *ROOT.glob("tasks/**/*.py")])


@functools.cache
def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(package: str) -> set[str]:
    """Files that import a package of somebody else."""
    files = (p for p in SOURCES if any(name.split(".")[0] == package for name in imported(p)))
    return {str(p.relative_to(ROOT)) for p in files}


def test_floors_are_kept() -> None:
    code = "import sys; from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_others_packages_are_sealed_behind_one_file_each() -> None:
    assert importers("yaml") == {"wtl/app/trees.py"}
    assert importers("ray") == {"wtl/compute/ray.py"}
    assert importers("learn2learn") == {"wtl/methods/mil.py"}
    for library, name in (("h5py", "hdf5"), ("minari", "minari"), ("pyarrow", "parquet")):
        assert importers(library) == {f"wtl/data/formats/{name}.py"}
    for simulator in ("metaworld", "mujoco"):
        assert all(name.startswith("tasks/metaworld/") for name in importers(simulator)), simulator


def test_tasks_know_only_wtl_core() -> None:
    for path in ROOT.glob("tasks/**/*.py"):
        known = {".".join(name.split(".")[:3]) for name in imported(path) if name.split(".")[0] == "wtl"} - {"wtl"}
        allowed = {"wtl.core.task", "wtl.core.rng", "wtl.core.episode", "wtl.core.relabelling"} | (
            {"wtl.play.official"} if path == ROOT / "tasks/metaworld/official.py" else set()
        )
        assert {name for name in known if not name.startswith("wtl.tasks")} <= allowed, path.name


def test_consoles_are_made_in_one_place() -> None:
    """There markup is off and a pipe is endless; what is made elsewhere would read a user's text as markup."""
    made = [p for p in SOURCES if "rich.console" in imported(p) and " Console(" in p.read_text()]
    assert [str(p.relative_to(ROOT)) for p in made] == ["wtl/core/terminal.py"]


def test_tasks_are_imported_by_a_name_that_no_user_has() -> None:
    everything = [*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("docs/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    assert not [str(path) for path in everything if "tasks" in {name.split(".")[0] for name in imported(path)}]


def test_collecting_and_reporting_are_free_of_torch_at_import() -> None:
    words = """core.task core.episode core.rng play.rollout data.store app.stage compute.executor compute.ray
    compute.distributed play.attempts stages.demonstrations stages.evaluate analysis.results analysis.statistics"""
    modules = [*words.split(), "analysis.report", "cli"]
    code = (
        f"import sys\nfor name in {modules!r}:\n    __import__('wtl.' + name)\n"
        "    assert 'torch' not in sys.modules, name\n    assert 'metaworld' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is() -> None:
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} has no docstring"


def test_there_are_no_drawers_for_odds_and_ends() -> None:
    assert not [p.name for p in SOURCES if p.stem in ("utils", "util", "common", "base", "helpers", "misc")]
