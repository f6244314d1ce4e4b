"""Tables of rows in files, CSV, TSV, JSON lines, CoNLL, SQuAD and pictures with boxes, read alike everywhere.

They need the standard library alone, and PyYAML.

One file a format: each has `SUFFIXES`, the file names it reads, and `open_file(path, options) -> Source`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tledge.errors import DataError
from tledge.tables import annotated, conll, delimited, json_document, json_lines, yolo
from tledge.tables.source import Options, Problem, Row, Source
from tledge.text_file import plain_suffix

__all__ = ["SUFFIXES", "Options", "Problem", "Row", "Source", "is_table", "open_table", "whole_rows"]

_MODULES = (delimited, json_lines, conll, json_document, yolo)
_FORMATS = {suffix: module.open_file for module in _MODULES for suffix in module.SUFFIXES}
SUFFIXES = tuple(_FORMATS)


def is_table(path: Path) -> bool:
    """Whether a file is read by columns and not by lines."""
    return plain_suffix(path.name) in _FORMATS


def open_table(path: Path) -> Source:
    """The rows of a table of UTF-8, or as a byte-order mark tells; of a data set with parts those of its test.

    Raises:
        DataError: it is of no known format, or cannot be read.
    """
    options = Options(part="test")
    with _named(path):
        pictures = annotated.opener(path, options)
        if pictures is not None:
            return pictures()
    suffix = plain_suffix(path.name)
    if suffix not in _FORMATS:
        raise DataError(f"{path}: a table ends in one of {', '.join(SUFFIXES)}; got {suffix or 'no suffix'}")
    with _named(path):
        opened: Source = _FORMATS[suffix](path, options)
    return opened


def whole_rows(source: Source) -> Iterator[Row]:
    """The rows of a table, all of which must be whole; each is named with the whole path of its file.

    Raises:
        DataError: one is broken; with its place.
    """
    path = source.path or Path(source.name)
    with _named(path):
        for row in source.read(None):
            if row.problem is not None:
                raise DataError(f"{row.name}: {row.problem.detail}")
            yield replace(row, name=f"{path}{row.name.removeprefix(path.name)}")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of a file have its whole path, and advise what can be done where there is no recipe."""
    try:
        yield
    except DataError as error:
        told = str(error).replace("set data.encoding", "save the file as UTF-8")
        told = told.replace("of the encoding that data.encoding says", "UTF-8")
        raise DataError(f"{path}{told.removeprefix(path.name)}" if told.startswith(path.name) else told) from error
