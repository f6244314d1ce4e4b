"""SHA-256 of files, and what differs between a folder and the hashes written down for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tledge.digest import sha256

SIGNATURE = "model.sig"
UNHASHED = frozenset({"bundle.json", SIGNATURE})
"""The manifest itself, and a signature made after it."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Names of files, relative to the folder and sorted, that are not as they were written."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line for each file, such as `changed: onnx/model.onnx`."""
        kinds = {"missing": self.missing, "extra": self.extra, "changed": self.changed}
        return [f"{kind}: {name}" for kind, names in kinds.items() for name in names]


def names(folder: Path) -> list[str]:
    """The files that a bundle answers for, relative with forward slashes, sorted.

    Left out are `UNHASHED` and everything hidden (a name that starts with a dot), which version control, downloads
    and file browsers leave behind.
    """
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.is_file() and not hidden and relative.as_posix() not in UNHASHED:
            found.append(relative.as_posix())
    return sorted(found)


def hashes(folder: Path) -> dict[str, str]:
    """The hash of every file of `names`."""
    return {name: sha256(folder / name) for name in names(folder)}


def compare(folder: Path, expected: Mapping[str, str]) -> Differences:
    """What differs between a folder and the hashes written down for it."""
    present = set(names(folder))
    return Differences(
        missing=tuple(sorted(expected.keys() - present)),
        extra=tuple(sorted(present - expected.keys())),
        changed=tuple(sorted(name for name in present & expected.keys() if sha256(folder / name) != expected[name])),
    )
