"""The README: its length, and that every command and snippet in it works."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BY_OTHERS = ("make run", "make test")
"""`make test` is what runs this test, and CI; `make run` is the preset `quick`, minutes long."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def test_it_is_short() -> None:
    assert 100 <= README.count("\n") <= 200


def test_the_two_commands_and_the_shipped_method_stand_at_the_top() -> None:
    top = "\n".join(README.splitlines()[:30])
    assert all(command in top for command in (*BY_OTHERS, "wtl evaluate pretrained"))


def test_links_into_the_tree_lead_somewhere() -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links and not [link for link in links if link and not (ROOT / link).exists()]


def test_every_command_is_one_of_ours() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in commands():
        words = shlex.split(command.removeprefix("PYTHONPATH=docs/examples "))
        assert (words[0] == "make" and words[1] in targets) or words[0].startswith(".venv/bin/"), command


def test_every_configuration_in_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    from wtl.app.config import load_config

    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    seen = 0
    for command in commands():
        words = shlex.split(command.removeprefix("PYTHONPATH=docs/examples "))
        if words[0].endswith("/wtl") and words[1] in ("run", "evaluate", "stages", "stage"):
            load_config(words[2], [word for word in words[3:] if "=" in word])
            seen += 1
    assert seen >= 6


def test_snippets_are_python() -> None:
    for number, snippet in enumerate(blocks("python")):
        compile(snippet, f"snippet {number}", "exec")


def serves(command: str, directory: Path) -> bool:
    """Return whether a command that serves for ever prints an address, and stop it then."""
    with subprocess.Popen(shlex.split(command), cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline()
        process.send_signal(signal.SIGTERM)  # who runs the tests in the background may have Ctrl-C ignored
        process.wait(timeout=60)
    return address.startswith("http://localhost:")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_command_and_program_works(tmp_path: Path) -> None:
    """In another directory, in the order in which they stand."""
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for command in commands():
        if command in BY_OTHERS:
            continue
        if "wtl tensorboard" in command:
            assert serves(command, tmp_path), command
            continue
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    programs = [snippet for snippet in blocks("python") if "__main__" in snippet]
    assert programs
    for number, snippet in enumerate(programs):
        path = tmp_path / f"program_{number}.py"
        path.write_text(snippet)
        done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, f"{snippet}\n{done.stderr[-2000:]}"
