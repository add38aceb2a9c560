"""The run directory: one folder a stage, its settings written first and its manifest last.

A stage whose manifest is there and whose settings and inputs are the same is skipped; one that was cut
off goes on; one with other settings is refused and left alone. Free of torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wtl.core.files import write_atomically

_PACKAGES = ("torch", "learn2learn", "metaworld", "mujoco", "gymnasium", "numpy", "omegaconf", "tensorboard")


def fingerprint(content: Any) -> str:
    """A short digest of anything JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """Git commit, versions and machine, for the record."""

    def git(*arguments: str) -> str:
        try:
            here = Path(__file__).parent
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "commit": git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(git("status", "--porcelain")),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": versions,
    }


class Stage:
    """One step of a run and the folder it writes."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], inputs: Sequence[Stage] = ()) -> None:
        self.directory = directory
        self.settings = json.loads(json.dumps(dict(settings)))
        self.inputs = inputs
        self._started = time.monotonic()

    @property
    def identity(self) -> str:
        """Changes with the settings of this stage or of any stage before it."""
        return fingerprint([self.settings, [stage.identity for stage in self.inputs]])

    def finished(self) -> bool:
        """Whether this very stage is complete.

        Raises:
            ValueError: the folder was made with other settings. Nothing is touched.
        """
        begun = self.directory / "settings.json"
        if not begun.is_file():
            return False
        recorded = json.loads(begun.read_text())
        if recorded["identity"] != self.identity:
            raise ValueError(
                f"{self.directory} was made with other settings ({self._difference(recorded['settings'])}); "
                "choose another `directory=...` or delete that folder"
            )
        return (self.directory / "manifest.json").is_file()

    def recorded(self) -> dict[str, Any]:
        """Return the settings with which the folder was begun; none if it was not."""
        begun = self.directory / "settings.json"
        return json.loads(begun.read_text())["settings"] if begun.is_file() else {}

    def _difference(self, recorded: Mapping[str, Any]) -> str:
        old, new = _flat(recorded), _flat(self.settings)
        changed = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
        if not changed:
            return "a stage before it changed"
        return ", ".join(f"{k} was {old.get(k)!r} and is {new.get(k)!r}" for k in changed[:3])

    def begin(self) -> None:
        """Record the settings, before anything else is written."""
        content = {"identity": self.identity, "settings": self.settings}
        write_atomically(self.directory / "settings.json", json.dumps(content, indent=1).encode())
        self._started = time.monotonic()

    def finish(self, **results: Any) -> None:
        """Write the manifest: from now on the stage is complete."""
        content = {
            "identity": self.identity,
            "inputs": {stage.directory.name: stage.identity for stage in self.inputs},
            "results": results,
            "wall_s": round(time.monotonic() - self._started, 1),
            **provenance(),
        }
        write_atomically(self.directory / "manifest.json", json.dumps(content, indent=1).encode())

    def require(self) -> None:
        """Raises ValueError if this stage is not complete."""
        if not self.finished():
            raise ValueError(f"{self.directory} is not complete; run the stage that makes it first, or `wtl run`")


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
