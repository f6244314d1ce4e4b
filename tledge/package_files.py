"""Files inside installed packages: `package:NAME/PATH`, found without importing the package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from tledge.errors import TledgeError

PREFIX = "package:"


def resolve(reference: str, *, error: type[TledgeError]) -> Path:
    """The file or folder that `package:NAME/PATH` stands for.

    Args:
        reference: `NAME` is a package's name as `pip install` or as `import` takes it; `PATH` uses `/`.
        error: the class to raise.

    Raises:
        TledgeError: of the class `error`: the package is not installed, or it has no such path.
    """
    name, _, inside = reference.removeprefix(PREFIX).partition("/")
    if not name or not inside:
        raise error(f"{reference!r}: expected package:NAME/PATH, such as package:my-data/train.csv")
    folder = _folder(name)
    if folder is None:
        raise error(f"{reference!r}: the package {name!r} is not installed; run: pip install {name}")
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise error(f"{reference!r}: the path leads out of the package")
    if not path.exists():
        there = ", ".join(sorted(p.name for p in folder.iterdir() if not p.name.startswith(("_", ".")))[:10])
        raise error(f"{reference!r}: the package {name!r} has no {inside!r}; at its top are {there}")
    return path


def _folder(name: str) -> Path | None:
    """The folder of a package's code; a name for pip is looked up among the installed distributions."""
    candidates = [name, name.replace("-", "_")]
    try:
        tops = importlib.metadata.distribution(name).read_text("top_level.txt") or ""
        candidates += tops.split()
        files = importlib.metadata.files(name) or []
        candidates += sorted({file.parts[0] for file in files if len(file.parts) > 1 and file.suffix == ".py"})
    except importlib.metadata.PackageNotFoundError:
        pass
    for candidate in candidates:
        if not candidate.isidentifier():
            continue
        spec = importlib.util.find_spec(candidate)
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations)))
    return None
