"""JSON lines: one object a line, its keys the columns."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tledge.errors import DataError
from tledge.tables.source import Options, Row, Source, TextFile, broken, open_text, twice, undecodable

SUFFIXES = (".jsonl", ".ndjson")

LOOKED_AT = 100  # whole rows whose keys are the columns


def open_file(path: Path, options: Options) -> Source:
    """The rows of a JSON lines file; its columns are all keys of the first 100 whole rows.

    Raises:
        DataError: the file has no line, or is no text of the given encoding.
    """
    text = open_text(path, options.encoding, newline="\n")
    rows = _rows(text, path.name, text.encoding)
    first: list[Row] = []
    whole = 0
    for row in rows:
        first.append(row)
        whole += row.problem is None
        if whole == LOOKED_AT or len(first) == 10 * LOOKED_AT:
            break
    if not first:
        raise DataError(f"{path.name} has no line; expected one JSON object a line")
    read_as = f"in {text.encoding}" if text.encoding != options.encoding else ""
    columns = tuple(dict.fromkeys(key for row in first for key in row.cells))
    return Source(
        path.name, columns, lambda wanted: itertools.chain(first, rows), text.size, text.done, path, read_as=read_as
    )


def _rows(text: TextFile, file: str, encoding: str) -> Iterator[Row]:
    for number, line in enumerate(text.lines, start=1):
        if line.strip():
            name = f"{file}:{number}"
            yield undecodable(name, line, encoding) or _row(name, line)


def _row(name: str, line: str) -> Row:
    try:
        cells = json.loads(line, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        return broken(name, "malformed line", f"no JSON at column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:
        return broken(name, "malformed line", f"no JSON that can be read: {error}")
    if not isinstance(cells, dict):
        return broken(name, "no object", f"expected a JSON object, got {_kind(cells)}")
    return Row(name, cells)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError(f"the key {twice([key for key, _ in pairs])!r} is there twice")
    return dict(pairs)


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")
