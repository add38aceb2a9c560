"""The run directory: one folder a stage, its settings written first and its manifest last.

A stage whose manifest is there and whose settings and inputs are the same is skipped; one that was cut
off goes on; one that made something with other settings is refused and left alone. Free of torch.
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

from wtl.core.files import sha256_of
from wtl.core.records import MANIFEST, SETTINGS, check_files, read_manifest

_COMMIT = Path(__file__).parents[1] / "commit.txt"
"""What a wheel says of the commit that it was built from, see `hatch_build.py`."""
_PACKAGES = ("torch", "learn2learn", "metaworld", "mujoco", "gymnasium", "numpy", "omegaconf", "tensorboard")


def fingerprint(content: Any) -> str:
    """A short digest of anything JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """Version, git commit, versions of other packages and machine, for the record."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit, changed = _commit()
    return {
        "wtl": importlib.metadata.version("wtl"),
        "commit": commit,
        "uncommitted_changes": changed,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": versions,
    }


def _commit() -> tuple[str, bool]:
    """Return the commit of this code, or `unknown`, and whether it was changed since."""
    root = Path(__file__).parents[2]
    if _COMMIT.is_file():
        commit = _COMMIT.read_text().strip()
        return commit.removesuffix("+"), commit.endswith("+")
    if not (root / ".git").exists():  # an installed copy: a repository around it would be somebody else's
        return "unknown", False
    try:
        commit, changed = (
            subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=5, check=True).stdout
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown", False
    return commit.strip(), bool(changed.strip())


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
            ValueError: the folder was made with other settings, or something in it is damaged. Nothing is touched.
        """
        begun, manifest = self.directory / "settings.json", self.directory / "manifest.json"
        if not begun.exists():
            self._check_empty()
            return False
        recorded = SETTINGS.read(begun, f"delete {self.directory} and run the same command again")
        if recorded["identity"] != self.identity:
            if not self._made_anything():
                return False
            raise ValueError(
                f"{self.directory} was made with other settings ({self._difference(recorded['settings'])}); "
                "choose another `directory=...` or delete that folder"
            )
        if not manifest.exists():
            return False
        check_files(self.directory)
        if read_manifest(self.directory)["identity"] != self.identity:
            raise ValueError(f"{manifest} is that of another stage; delete it and run the same command again")
        return True

    def _check_empty(self) -> None:
        names = sorted(path.name for path in self.directory.glob("*") if not path.name.startswith("."))
        if names:
            raise ValueError(
                f"{self.directory} holds {names[0]} and no settings.json, so nothing says how it was made; "
                "choose another `directory=...` or delete that folder"
            )

    def _made_anything(self) -> bool:
        """Whether there is more than settings, so that a stage that failed at once can be begun with corrected ones."""
        return any(path.name != "settings.json" and not path.name.startswith(".") for path in self.directory.iterdir())

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
        SETTINGS.write(self.directory / "settings.json", {"identity": self.identity, "settings": self.settings})
        self._started = time.monotonic()

    def finish(
        self, results: Mapping[str, Any], files: Sequence[str] = (), policies: Mapping[str, str] | None = None
    ) -> None:
        """Write the manifest: from now on the stage is complete.

        Args:
            results: what came of it.
            files: what others read of it, whose checksums are recorded.
            policies: the checksum of each trained method that played.
        """
        content = {
            "identity": self.identity,
            "inputs": {stage.directory.name: stage.identity for stage in self.inputs},
            "results": dict(results),
            "files": {name: sha256_of(self.directory / name) for name in files},
            "policies": dict(policies or {}),
            "wall_s": round(time.monotonic() - self._started, 1),
            **provenance(),
        }
        MANIFEST.write(self.directory / "manifest.json", content)

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
