"""The JSON files that this package writes and reads again: settings, manifests, descriptions of stores and methods.

Each carries its version and a checksum of itself, so one that is damaged is never believed. Files that earlier
versions wrote have no checksum; their fields are checked all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from wtl.core.files import sha256_of, write_atomically

_CHECKSUM = "checksum"
_NAMES: Mapping[type, str] = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
    dict: "an object",
}  # fmt: skip


class RecordError(ValueError):
    """A file that is missing, damaged, of another version or something else; the message is one sentence."""


@dataclass(frozen=True)
class RecordFormat:
    """One kind of file: what stands in it."""

    version: int
    fields: Mapping[str, type]
    """The fields that it must have, with their types; `float` takes whole numbers too."""
    optional: Mapping[str, type] = field(default_factory=dict)
    """Further fields that it may have, because earlier versions wrote none or not every file needs them."""
    error: type[ValueError] = RecordError
    """What is raised for a file that cannot be used."""
    versionless: bool = False
    """Whether earlier versions wrote files that name no version."""

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a file, with its version in front and its checksum at the end."""
        whole = json.loads(json.dumps({"version": self.version, **content}))
        whole[_CHECKSUM] = _checksum(whole)
        write_atomically(path, json.dumps(whole, indent=1).encode())

    def read(self, path: Path, advice: str = "") -> dict[str, Any]:
        """Return what stands in a file.

        Args:
            path: the file.
            advice: what to do if it cannot be used; by default that of `remedy`.

        Raises:
            ValueError: (`error`) it is missing, damaged, of another version, or something else; one sentence.
        """
        advice = advice or remedy(path)
        try:
            content = _parsed(path)
            version = content.get("version", self.version if self.versionless else None)
            if type(version) is int and version != self.version:  # which may have checksums of another kind
                raise _VersionError(f"is of version {version}, and this program reads version {self.version}")
            checksum = content.pop(_CHECKSUM, None)
            if checksum not in (None, _checksum(content)):
                raise ValueError("it was damaged or changed: its checksum is another one")
            self._check({"version": version, **content}, intact=checksum is not None)
        except _VersionError as error:
            raise self.error(f"{path} {error}; {advice}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise self.error(f"{path} cannot be read ({_reason(error)}); {advice}") from error
        return content

    def _check(self, content: Mapping[str, Any], intact: bool) -> None:
        """Raises ValueError for a field that is missing, of another type, or unknown where no checksum was there."""
        known = {"version": int, **self.fields, **self.optional}
        for name in self.fields:
            if name not in content:
                raise ValueError(f"it has no {name!r}")
        for name, value in content.items():
            if name in known:
                kinds = (int, float) if known[name] is float else (known[name],)
                if type(value) not in kinds:
                    raise ValueError(f"{name} must be {_NAMES[known[name]]}, got {type(value).__name__}")
            elif not intact:
                raise ValueError(f"it has a field {name!r} that nobody knows")


class _VersionError(ValueError):
    """A file of another version."""


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError("there is no such file")
    content = json.loads(path.read_bytes().decode(), object_pairs_hook=_once)
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {type(content).__name__}")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a field stands in it twice")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]


SETTINGS = RecordFormat(1, {"identity": str, "settings": dict}, versionless=True)
"""`settings.json` of a stage: written first, what the stage is made with."""

MANIFEST = RecordFormat(
    1,
    {"identity": str, "inputs": dict, "results": dict, "wall_s": float},
    {
        "files": dict, "policies": dict, "commit": str, "uncommitted_changes": bool, "python": str, "machine": str,
        "packages": dict, "wtl": str,
    },
    versionless=True,
)  # fmt: skip
"""`manifest.json` of a stage: written last, what came of it. `files` holds the checksum of each file that others read,
`policies` that of the description of each trained method which played."""


def remedy(path: Path) -> str:
    """Return what to do about a damaged file: a stage of a run makes it again, anything else came from elsewhere."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "settings.json").is_file():
            return f"delete {folder / 'manifest.json'} and {_AGAIN}"
    return "copy it again from where it came, or make it again"


_AGAIN = "run the command that made it again (what is whole is kept)"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a stage. Raises RecordError if it cannot be used."""
    path = folder / "manifest.json"
    content = MANIFEST.read(path, f"delete it and {_AGAIN}")
    for name in content.get("files", {}):
        if not is_inside(name):
            raise RecordError(f"{path} names the file {name!r}, which is not in its folder; delete it and {_AGAIN}")
    return content


def check_files(folder: Path) -> None:
    """Check the files that the manifest of a stage names; a folder without a manifest is taken as it is.

    Raises:
        RecordError: one of them is damaged or changed, or the manifest is.
    """
    if not (folder / "manifest.json").is_file():
        return
    for name, digest in read_manifest(folder).get("files", {}).items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            raise RecordError(f"{path} is missing, damaged or changed since it was made; {remedy(path)}")


def is_inside(name: str) -> bool:
    """Return whether a name that was read from a file stays in the folder of that file."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\0" not in name
