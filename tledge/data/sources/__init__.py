"""Labelled rows from where they are: one file a format, each a stream of raw rows in constant memory.

The module of a file format has `SUFFIXES`, the file names it reads, and `open_file(path, options) -> Source`; that of
something else `PREFIX`, how a reference to it starts, and `open_reference(reference, key, options) -> Source`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tledge import lfs, package_files, plugins
from tledge.data.sources import image_folder, text
from tledge.errors import DataError, did_you_mean
from tledge.tables import annotated
from tledge.tables.source import Options, Problem, Row, Source
from tledge.text_file import plain_suffix

__all__ = ["Options", "Problem", "Row", "Source", "only", "open_source", "split_places"]

SHOWN = 10  # values that a message lists

# A web address, also where it was taken for a relative path and put behind a folder.
_URL = re.compile(r"(?:^|[/\\])([A-Za-z][A-Za-z0-9+.-]+):[/\\]")

# A prefix, there too; one letter is a drive.
_PREFIX = re.compile(r"(?:^|[/\\])([A-Za-z]{2,}:)(?![/\\])")


def open_source(reference: str, key: str, options: Options, *, base: Path) -> Source:
    """The source of a recipe's reference.

    Args:
        reference: a path to a file, a folder of images or one of pictures with boxes, `package:NAME/PATH`, or one that
            a module's `PREFIX` starts.
        key: the recipe's key, for messages, such as `data.train`.
        options: how it is read.
        base: the folder that a relative path starts from.

    Raises:
        DataError: nothing readable is there.
    """
    prefixes = {prefix: name for name in plugins.names(__name__) for prefix in _of(name, "PREFIX")}
    source: Source
    for prefix, name in prefixes.items():
        if reference.startswith(prefix):
            source = plugins.load(__name__, name).open_reference(reference, key, options)
            return source
    packaged = reference.startswith(package_files.PREFIX)
    path = package_files.resolve(reference, error=DataError) if packaged else base / _home(reference, key)
    try:
        pictures = annotated.opener(path, options)
        if pictures is not None:
            return pictures()
        if path.is_dir():
            # Installers may make each file of a package a symbolic link to a cache elsewhere.
            return image_folder.open_folder(path, reference, key, options, links_lead_out=packaged)
        _check_file(path, reference, key, (*prefixes, package_files.PREFIX))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{key}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    formats = {suffix: name for name in plugins.names(__name__) for suffix in _of(name, "SUFFIXES")}
    suffix = plain_suffix(path.name)
    if suffix not in formats:
        raise DataError(
            f"{key}: {path.name!r} is of no known format; expected a name ending in {', '.join(formats)}"
            f"{did_you_mean(suffix, formats)}"
        )
    source = plugins.load(__name__, formats[suffix]).open_file(path, options)
    return source


def only(source: Source, where: Mapping[str, str], key: str) -> Source:
    """The rows of a source whose cells are those named, as text; broken rows stay.

    Raises:
        DataError: a column is missing, or where the rows are read to their end, no row is left.
    """
    if not where:
        return source
    for column in where:
        if source.columns and column not in source.columns:
            raise DataError(
                f"{key}: {source.name} has no column {column!r}; its columns are {', '.join(source.columns)}"
                f"{did_you_mean(column, source.columns)}"
            )

    def read(wanted: Collection[str] | None) -> Iterator[Row]:
        seen: dict[str, set[str]] = {column: set() for column in where}
        found = False
        for row in source.read(None if wanted is None else {*wanted, *where}):
            cells = {column: str(row.cells.get(column)).strip() for column in where}
            if row.problem is not None or cells == dict(where):
                found = found or row.problem is None
                yield row
                continue
            for column, cell in cells.items():
                if len(seen[column]) < SHOWN:
                    seen[column].add(cell)
        if not found:
            told = "; ".join(f"{column!r} has {', '.join(sorted(values))}" for column, values in seen.items())
            raise DataError(f"{key}: {source.name} has no such row: {told}")

    return replace(source, read=read)


def split_places(path: Path) -> dict[str, Path] | None:
    """What names the parts of a data set that is split already, by `train`, `validation` and `test`; else `None`."""
    try:
        parts = annotated.parts_of(path)
    except (OSError, DataError):
        parts = {}
    return parts or image_folder.split_folders(path)


def _home(reference: str, key: str) -> Path:
    try:
        return Path(reference).expanduser()
    except RuntimeError as error:
        raise DataError(f"{key}: {reference!r}: no such user's home is known; write the whole path") from error


def _of(name: str, constant: str) -> tuple[str, ...]:
    value = getattr(plugins.load(__name__, name), constant, ())
    return (value,) if isinstance(value, str) else value


def _check_file(path: Path, reference: str, key: str, prefixes: Sequence[str]) -> None:
    if not path.exists():
        raise DataError(f"{key}: {_missing(path, reference, prefixes)}")
    if not path.is_file():
        raise DataError(f"{key}: {path} is no regular file; give a file with labelled rows")
    if path.stat().st_size == 0:
        expected = "text" if plain_suffix(path.name) in text.SUFFIXES else "labelled rows"
        raise DataError(f"{key}: {path} is empty; expected {expected}")
    if lfs.is_pointer(path):
        raise DataError(f"{key}: {lfs.advice(path)}")


def _missing(path: Path, reference: str, prefixes: Sequence[str]) -> str:
    prefix = _PREFIX.search(reference)
    hint = did_you_mean(prefix[1], prefixes) if prefix else ""
    if prefix and hint:
        name = reference[prefix.start(1) :]
        return f"{name!r} is neither a path nor one of {', '.join(each + '...' for each in prefixes)}{hint}"
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
