"""The shape of the house: floors, what may be imported where, and the tree in the README."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("wtl/**/*.py"), *ROOT.glob("tasks/*.py")])


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
    assert importers("omegaconf") == {"wtl/config.py"}
    assert importers("ray") == {"wtl/cluster.py"}
    assert importers("learn2learn") == {"wtl/quiet.py"}
    behind = {str(p.relative_to(ROOT)) for p in SOURCES if "wtl.quiet" in imported(p)}
    assert behind == {"wtl/draws.py", "wtl/methods/mil.py"}
    for simulator in ("metaworld", "mujoco"):
        assert all(re.fullmatch(r"tasks/metaworld\w*\.py", name) for name in importers(simulator)), simulator


def test_tasks_know_only_the_words_and_the_seeds() -> None:
    for path in ROOT.glob("tasks/*.py"):
        known = {".".join(name.split(".")[:2]) for name in imported(path) if name.split(".")[0] == "wtl"}
        allowed = {"wtl.task", "wtl.seeding"} | ({"wtl.official"} if path.name == "metaworld_official.py" else set())
        assert known <= allowed, path.name


def test_collecting_and_reporting_are_free_of_torch_at_import() -> None:
    words = "task episode seeding rollout store run executor cluster team attempts collect evaluate results evidence"
    modules = [*words.split(), "report", "cli"]
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


def described_tree() -> list[str]:
    """Paths of the fenced block below the heading `## The tree`; folders may head the names below them."""
    readme = ROOT / "README.md"
    block = re.search(
        r"^## The tree\s.*?^```\w*\n(.*?)^```", readme.read_text() if readme.is_file() else "", re.M | re.S
    )
    if block is None:
        pytest.skip("the README has no section `## The tree` yet")
    return [line.split()[0] for line in block.group(1).splitlines() if line.strip()]


def test_the_tree_of_the_readme_is_the_tree_on_disk() -> None:
    named = [path for path in described_tree() if not path.endswith("/")]
    assert len(set(named)) == len(named), "a path is named twice"
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    pattern = r"((wtl|tasks|tests)/.*\.py|configs/.*\.yaml|experiments/[^/]*\.md|experiments/[^/]*/README\.md)"
    on_disk = {path for path in done.stdout.splitlines() if re.fullmatch(pattern, path)}
    described = {path for path in named if re.fullmatch(pattern, path)}
    assert described == on_disk
    assert all((ROOT / path).exists() for path in named)
