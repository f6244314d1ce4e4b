"""Files inside installed packages: `package:NAME/PATH`, found without importing the package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from tledge.errors import TledgeError, did_you_mean

PREFIX = "package:"


def resolve(reference: str, *, error: type[TledgeError]) -> Path:
    """The file or folder that `package:NAME/PATH` stands for.

    Args:
        reference: `NAME` is a package's name as `pip install` or as `import` takes it; `PATH` uses `/`.
        error: the class to raise.

    Raises:
        TledgeError: of the class `error`: the package is not installed, the path leads out of it, or nothing is
            there.
    """
    name, _, inside = reference.removeprefix(PREFIX).partition("/")
    if not name or not inside:
        raise error(f"{reference!r}: expected package:NAME/PATH, such as package:my-data/train.csv")
    # The path is judged as it is written: installers may make each file a symbolic link to a cache elsewhere.
    parts = inside.split("/")
    if inside.startswith("/") or any(part == ".." or re.search(r"[\\:\0]", part) for part in parts):
        raise error(f"{reference!r}: the path leads out of the package; write one inside it, with '/'")
    folders = [folder for imported in _import_names(name) for folder in _folders(imported)]
    if not folders:
        raise error(f"{reference!r}: the package {name!r} is not installed; run: pip install {name}")
    found = next((folder.joinpath(*parts) for folder in folders if folder.joinpath(*parts).exists()), None)
    if found is None:
        raise error(f"{reference!r}: the package {name!r} has no {inside!r}{_hint(folders, parts)}")
    return found


def _import_names(name: str) -> list[str]:
    """What NAME is imported as: itself, or the names that the distribution of that name installs."""
    if _folders(name):
        return [name]
    wanted = _normalised(name)
    return sorted(
        imported
        for imported, distributions in importlib.metadata.packages_distributions().items()
        if wanted in map(_normalised, distributions)
    )


def _normalised(name: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _folders(imported: str) -> list[Path]:
    """The folders of a top-level package, several for a namespace package; none for a single module."""
    if not imported.isidentifier():
        return []
    try:
        spec = importlib.util.find_spec(imported)
    except (ImportError, ValueError):  # ValueError: a module that was put into sys.modules without a spec
        return []
    return [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []


def _hint(folders: list[Path], parts: list[str]) -> str:
    """The nearest name in the folder where the file was looked for, or what is at the package's top."""
    beside = [folder.joinpath(*parts[:-1]) for folder in folders]
    close = did_you_mean(parts[-1], [p.name for folder in beside if folder.is_dir() for p in folder.iterdir()])
    top = sorted({p.name for folder in folders for p in folder.iterdir() if not p.name.startswith(("_", "."))})
    return close or f"; at its top are {', '.join(top[:10]) or 'no files'}"
