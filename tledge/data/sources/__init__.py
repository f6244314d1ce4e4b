"""Labelled rows from where they are: one file a format, each a stream of raw rows in constant memory.

A format's module has `SUFFIXES`, the file names it reads, and `open_file(path, options) -> Source`.
"""

from __future__ import annotations

from pathlib import Path

from tledge import package_files, plugins
from tledge.data.sources import hub
from tledge.data.sources.source import Options, Problem, Row, Source
from tledge.errors import DataError, did_you_mean

__all__ = ["Options", "Problem", "Row", "Source", "open_source"]


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
    elif "://" in reference:
        raise DataError(f"{key}: {reference!r} is a web address; download the file and give its path")
    else:
        path = base / Path(reference).expanduser()
    _check_file(path, reference, key)
    suffixes = {suffix: name for name in plugins.names(__name__) for suffix in _suffixes(name)}
    plain = path.name.lower().removesuffix(".gz")
    for suffix, name in suffixes.items():
        if plain.endswith(suffix):
            source: Source = plugins.load(__name__, name).open_file(path, options)
            return source
    raise DataError(f"{key}: {path.name!r} is of no known format; expected a name ending in {', '.join(suffixes)}")


def _suffixes(name: str) -> tuple[str, ...]:
    return tuple(getattr(plugins.load(__name__, name), "SUFFIXES", ()))


def _check_file(path: Path, reference: str, key: str) -> None:
    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:8])
        raise DataError(f"{key}: {path} is a folder, expected a file; it holds {inside or 'nothing'}")
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, beside)
        if reference.count("/") == 1 and not path.suffix and not hint:
            hint = f"; for a data set on the hub write hub:{reference}"
        raise DataError(f"{key}: there is no file {path}{hint}")
    if path.stat().st_size == 0:
        raise DataError(f"{key}: {path} is empty; expected labelled rows")
