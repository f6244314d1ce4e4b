"""The packages of the device install: which are missing on the far side, and the command that mends it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """A package as `pip` and as `import` name it, its lowest version, and a bound such as `<0.29` or nothing."""

    name: str
    module: str
    least: str
    bound: str = ""

    @property
    def requirement(self) -> str:
        """What to tell pip, such as `numpy>=1.26`."""
        return f"{self.name}>={self.least}{',' if self.bound else ''}{self.bound}"


NEEDED = (
    Package("numpy", "numpy", "1.26"),
    Package("onnxruntime", "onnxruntime", "1.20"),
    Package("pillow", "PIL", "10.3"),
    Package("protobuf", "google.protobuf", "4.25"),
    Package("pyyaml", "yaml", "6.0.2"),
    Package("rich", "rich", "13.7"),
    Package("safetensors", "safetensors", "0.4.5"),
    Package("tokenizers", "tokenizers", "0.21"),
    Package("typer", "typer", "0.20", "<0.29"),
)
"""The dependencies in `pyproject.toml`; a test holds them together."""

VENV = "~/tledge-device"


def wrong(versions: Mapping[str, str | None]) -> list[tuple[Package, str]]:
    """The packages that are missing or too old, each with what is wrong.

    Args:
        versions: the version of each module that is there, an empty string where nothing tells it, `None` where it is
            missing.
    """
    found = []
    for package in NEEDED:
        version = versions.get(package.module)
        if version is None:
            found.append((package, "missing"))
        elif version and _release(version) < _release(package.least):
            found.append((package, f"{version}, too old"))
    return found


def cure(lacking: Sequence[Package], python: str, *, managed: bool) -> str:
    """What to run on the device; in a new environment where the system's Python takes no packages (PEP 668)."""
    if managed:
        everything = " ".join(shlex.quote(package.requirement) for package in NEEDED)
        return (
            f"run there: {python} -m venv {VENV} && {VENV}/bin/python -m pip install {everything}; "
            f"then add --device-python '{VENV}/bin/python'"
        )
    names = " ".join(shlex.quote(package.requirement) for package in lacking)
    return f"run there: {python} -m pip install {names}"


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, `1.26` for `1.26rc1`."""
    matched = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in matched.group().split(".")) if matched else ()
