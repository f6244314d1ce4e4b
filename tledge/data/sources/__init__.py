"""Labelled rows from where they are: one file a format, each a stream of raw rows in constant memory.

A format's module has `SUFFIXES`, the file names it reads, and `open_file(path, options) -> Source`.
"""

from __future__ import annotations

import re
from pathlib import Path

from tledge import package_files, plugins
from tledge.data.sources import hub
from tledge.data.sources.source import Options, Problem, Row, Source
from tledge.errors import DataError, did_you_mean

__all__ = ["Options", "Problem", "Row", "Source", "open_source"]

# A web address, also where it was taken for a relative path and put behind a folder.
_URL = re.compile(r"(?:^|[/\\])([A-Za-z][A-Za-z0-9+.-]+):[/\\]")


def open_source(reference: str, key: str, options: Options, *, base: Path) -> Source:
    """The source of a recipe's reference.

    Args:
        reference: a path, `hub:OWNER/NAME[/CONFIG][@SPLIT]`, or `package:NAME/PATH`.
        key: the recipe's key, for messages, such as `data.train`.
        options: encoding and delimiter of text files.
        base: the folder that a relative path starts from.

    Raises:
        DataError: nothing readable is there.
    """
    if reference.startswith(hub.PREFIX):
        return hub.open_hub(reference, key)
    if reference.startswith(package_files.PREFIX):
        path = package_files.resolve(reference, error=DataError)
    else:
        path = base / _home(reference, key)
    try:
        _check_file(path, reference, key)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{key}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    formats = {suffix: name for name in plugins.names(__name__) for suffix in _suffixes(name)}
    suffix = _suffix(path)
    if suffix not in formats:
        raise DataError(
            f"{key}: {path.name!r} is of no known format; expected a name ending in {', '.join(formats)}"
            f"{did_you_mean(suffix, formats)}"
        )
    source: Source = plugins.load(__name__, formats[suffix]).open_file(path, options)
    return source


def _home(reference: str, key: str) -> Path:
    try:
        return Path(reference).expanduser()
    except RuntimeError as error:
        raise DataError(f"{key}: {reference!r}: no such user's home is known; write the whole path") from error


def _suffixes(name: str) -> tuple[str, ...]:
    return tuple(getattr(plugins.load(__name__, name), "SUFFIXES", ()))


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _check_file(path: Path, reference: str, key: str) -> None:
    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:8])
        raise DataError(f"{key}: {path} is a folder, expected a file; it holds {inside or 'nothing'}")
    if not path.exists():
        raise DataError(f"{key}: {_missing(path, reference)}")
    if not path.is_file():
        raise DataError(f"{key}: {path} is no regular file; give a file with labelled rows")
    if path.stat().st_size == 0:
        raise DataError(f"{key}: {path} is empty; expected labelled rows")


def _missing(path: Path, reference: str) -> str:
    url = _URL.search(reference)
    if url is not None:
        return f"{reference!r} is a web address ({url[1]}); download the file and give its path"
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, beside)
    if not hint and not path.suffix and "\\" not in reference and len(path.parts) > 2:
        hint = f"; for a data set on the hub write hub:{'/'.join(path.parts[-2:])}"
    elif not path.parent.is_dir():
        hint = "; its folder does not exist either"
    return f"there is no file {path}{hint}"
