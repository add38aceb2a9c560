"""The build hook: a wheel carries the commit that it was built from, because an installed copy has no repository."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Adds `wtl/commit.txt` to a wheel that is built in a repository; its one line ends in `+` after changes."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling."""
        if version == "editable" or not (Path(self.root) / ".git").exists():
            return
        commit = self._git("rev-parse", "HEAD") + "+" * bool(self._git("status", "--porcelain"))
        path = Path(tempfile.mkdtemp()) / "commit.txt"
        path.write_text(commit + "\n")
        build_data["force_include"][str(path)] = "wtl/commit.txt"

    def _git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True).stdout.strip()
