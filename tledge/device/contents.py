"""What travels to a device: the bundle, what the command line names besides, and tledge's own source."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tledge.bundle import checksum
from tledge.errors import BundleError

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class File:
    """One file here, with its hash in hexadecimal and its size in bytes."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """`files` by their names in the far run folder, and the far names of the paths that were asked for."""

    files: Mapping[str, File]
    paths: Mapping[Path, str]


def gather(paths: Sequence[Path]) -> Contents:
    """The files of some folders and single files, and tledge's source, so that both sides run the same code.

    Hidden files stay here, and of tledge everything but its Python files: a bench draws no report.

    Raises:
        BundleError: a path is not there.
    """
    files = {
        f"code/{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": _file(path)
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    names: dict[Path, str] = {}
    for path in paths:
        if path in names:
            continue
        if not path.exists():
            raise BundleError(f"there is no {path}, which was to be sent; expected a bundle or a graph")
        called = path.resolve().name if path.name in ("", "..") else path.name  # the name of a link, not of its target
        names[path] = f"sent/{len(names)}/{called}"
        files |= {f"{names[path]}{inside}": _file(file) for inside, file in _inside(path)}
    return Contents(files, names)


def _inside(path: Path) -> list[tuple[str, Path]]:
    """Each file with its name after that of `path`, sorted; with a graph come `GRAPH.data` and `GRAPH_data`."""
    if path.is_file():
        beside = sorted(path.parent.glob(f"{glob.escape(path.name)}[._]data"))
        return [("", path), *((other.name.removeprefix(path.name), other) for other in beside)]
    found = [file for file in sorted(path.rglob("*")) if file.is_file()]
    inside = [(file.relative_to(path), file) for file in found]
    return [
        (f"/{relative.as_posix()}", file)
        for relative, file in inside
        if not any(part.startswith(".") for part in relative.parts)
    ]


def _file(path: Path) -> File:
    return File(path, checksum.sha256(path), path.stat().st_size)
