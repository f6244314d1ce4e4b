"""JSON lines: one object a line, its keys the columns."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from tledge.data.sources.source import Options, Row, Source, broken, text_lines, undecoded
from tledge.errors import DataError

SUFFIXES = (".jsonl", ".ndjson")


def open_file(path: Path, options: Options) -> Source:
    """The rows of a JSON lines file; its columns are the keys of the first whole row.

    Raises:
        DataError: the file has no line, or is no text of the given encoding.
    """
    rows = _rows(path, options.encoding)
    first = list(itertools.islice(rows, 1))
    if not first:
        raise DataError(f"{path.name} has no line; expected one JSON object a line")
    return Source(path.name, tuple(first[0].cells), itertools.chain(first, rows))


def _rows(path: Path, encoding: str) -> Iterator[Row]:
    for number, line in enumerate(text_lines(path, encoding), start=1):
        name = f"{path.name}:{number}"
        if not line.strip():
            continue
        if undecoded(line):
            yield broken(name, "undecodable text", f"bytes that are not {encoding}")
            continue
        try:
            cells = json.loads(line)
        except json.JSONDecodeError as error:
            yield broken(name, "malformed line", f"no JSON at column {error.colno}: {error.msg}")
            continue
        if isinstance(cells, dict):
            yield Row(name, cells)
        else:
            yield broken(name, "malformed line", f"expected a JSON object, got {type(cells).__name__}")
