"""What travels to a device: the bundle, what the command line names besides, and tledge's own source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tledge import graph_file
from tledge.digest import sha256
from tledge.errors import BundleError

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class File:
    """One file here, with its hash in hexadecimal and its size in bytes."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of which only the files and folders `inside` go, and which of them a command names, or the folder."""

    folder: Path
    inside: tuple[str, ...]
    named: str = ""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is sent.

    `files` are by their names in the far run folder, `words` are the far names of what was asked for, and `near` are
    the paths here by those there, as messages and records know them.
    """

    files: Mapping[str, File]
    words: Mapping[Path | Part, str]
    near: Mapping[str, Path]


def gather(asked: Sequence[Path | Part]) -> Contents:
    """The files of some folders and single files, and tledge's source, so that both sides run the same code.

    Hidden files stay here, and of tledge everything but its Python files: a bench draws no report.

    Raises:
        BundleError: a path is not there, or a graph lacks a file that its weights are in.
    """
    files = {
        f"code/{PACKAGE.name}/{path.relative_to(PACKAGE).as_posix()}": _file(path)
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    words: dict[Path | Part, str] = {}
    near: dict[str, Path] = {}
    for each in asked:
        if each in words:
            continue
        path, inside = (each.folder, each.inside) if isinstance(each, Part) else (each, ("",))
        called = path.resolve().name if path.name in ("", "..") else path.name  # the name of a link, not of its target
        there = f"sent/{len(words)}/{called}"
        for name in inside:
            files |= {far: _file(file) for far, file in _inside(path, name, PurePosixPath(there, name))}
        words[each] = f"{there}/{each.named}" if isinstance(each, Part) and each.named else there
        near[there] = path
    return Contents(files, words, near)


def _inside(root: Path, name: str, there: PurePosixPath) -> list[tuple[str, Path]]:
    """Each file at `name` in a folder, or at the path itself, with its far name, sorted; `there` is that of the whole.

    With a graph come the files that its weights are in.
    """
    path = root / name
    if not path.exists():
        raise BundleError(f"there is no {path}, which was to be sent; expected a file or a folder")
    if path.is_file():
        beside = graph_file.files_beside(path) if path.suffix == ".onnx" else ()
        return [(str(there), path), *((str(there.parent / other), path.parent / other) for other in beside)]
    found = [file for file in sorted(path.rglob("*")) if file.is_file()]
    inside = [(file.relative_to(path), file) for file in found]
    return [
        (str(there / relative.as_posix()), file)
        for relative, file in inside
        if not any(part.startswith(".") for part in relative.parts)
    ]


def _file(path: Path) -> File:
    return File(path, sha256(path), path.stat().st_size)
