"""Tables of rows in files, read with the standard library alone, in training and on the device: CSV, TSV, JSON lines.

One file a format: each has `SUFFIXES`, the file names it reads, and `open_file(path, options) -> Source`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tledge.errors import DataError
from tledge.tables import delimited, json_lines
from tledge.tables.source import Options, Problem, Row, Source
from tledge.text_file import plain_suffix

__all__ = ["SUFFIXES", "Options", "Problem", "Row", "Source", "is_table", "open_table", "whole_rows"]

_FORMATS = {suffix: module.open_file for module in (delimited, json_lines) for suffix in module.SUFFIXES}
SUFFIXES = tuple(_FORMATS)


def is_table(path: Path) -> bool:
    """Whether a file is read by columns and not by lines."""
    return plain_suffix(path.name) in _FORMATS


def open_table(path: Path, options: Options | None = None) -> Source:
    """The rows of a table.

    Raises:
        DataError: it is of no known format, or cannot be read.
    """
    suffix = plain_suffix(path.name)
    if suffix not in _FORMATS:
        raise DataError(f"{path}: a table ends in one of {', '.join(SUFFIXES)}; got {suffix or 'no suffix'}")
    opened: Source = _FORMATS[suffix](path, options or Options())
    return opened


def whole_rows(source: Source) -> Iterator[Row]:
    """The rows of a source, all of which must be whole.

    Raises:
        DataError: one is broken; with its place.
    """
    for row in source.read(None):
        if row.problem is not None:
            raise DataError(f"{row.name}: {row.problem.detail.replace('set data.encoding', 'save the file as UTF-8')}")
        yield row
