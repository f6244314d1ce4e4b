"""The texts or paths in one column of a table, for `tledge predict --file`; read with the standard library alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from tledge.errors import InputError, did_you_mean
from tledge.text_file import delimited, marked_encoding, plain_suffix, unpacked

_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
LOOKED_AT = 100  # rows that a column is guessed from
MAX_CELL = 10_000_000  # characters

Rows = Iterator[tuple[str, Mapping[str, Any]]]


def open_lines(file: Path, binary: BinaryIO, *, newline: str) -> Iterator[str]:
    """The lines of a text file with their ends: unpacked where it is packed, UTF-8 unless a byte-order mark differs.

    Raises:
        InputError: a line is not of that encoding.
    """
    plain = unpacked(cast("Any", binary), file.name)
    encoding = marked_encoding(plain) or "utf-8"
    with TextIOWrapper(cast("BinaryIO", plain), encoding, errors="surrogateescape", newline=newline) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.isascii() and any("\udc80" <= char <= "\udcff" for char in line):
                at = next(i for i, char in enumerate(line) if "\udc80" <= char <= "\udcff")
                raise InputError(
                    f"{file}:{number}: is not {encoding.removesuffix('-sig').upper()} at character {at} of the line; "
                    "write the file as UTF-8"
                )
            yield line


def is_table(file: Path) -> bool:
    """Whether a file is read by columns and not by lines."""
    return plain_suffix(file.name) in _SUFFIXES


def column_of(file: Path, binary: BinaryIO, kind: str, wanted: str | None, learnt: str | None) -> tuple[str, Rows]:
    """The column of a table that holds the inputs, and the rows, each with its place.

    Args:
        file: its name tells the format.
        binary: its content.
        kind: of input, `text` or `image`, which a column may be called.
        wanted: the column that was asked for; `None` to find it.
        learnt: what the column was called where the model was trained, if that is known.

    Raises:
        InputError: there is no row or no such column, or it is not clear which one is meant.
    """
    is_json = plain_suffix(file.name) in (".jsonl", ".ndjson")
    rows = _objects(file, binary, wanted or kind) if is_json else _records(file, binary)
    first = list(islice(rows, 1))
    if not first:
        expected = "one JSON object a line" if is_json else "a header and rows"
        raise InputError(f"--file {file} has no row; expected {expected}")
    columns = list(first[0][1])
    column = _named(file, columns, kind, wanted, learnt)
    if column is None:
        first += islice(rows, LOOKED_AT)
        column = _likely(file, columns, first, kind)
    return column, chain(first, rows)


def values(rows: Rows, column: str) -> Iterator[tuple[str, str]]:
    """Each row's place and the text of its cell.

    Raises:
        InputError: a row has no text there.
    """
    for place, cells in rows:
        value = cells.get(column)
        if not isinstance(value, str):
            raise InputError(_no_text(place, column, json.dumps(cells, ensure_ascii=False)))
        yield place, value


def _named(file: Path, columns: list[str], kind: str, wanted: str | None, learnt: str | None) -> str | None:
    """The column that a name tells, or the only one; else `None`."""
    if wanted is not None and wanted not in columns:
        raise InputError(
            f"--file {file} has no column {wanted!r}; its columns are {', '.join(map(repr, columns))}"
            f"{did_you_mean(wanted, columns)}"
        )
    named = next((name for name in (wanted, learnt, kind) if name is not None and name in columns), None)
    return named or (columns[0] if len(columns) == 1 else None)


def _likely(file: Path, columns: list[str], first: list[tuple[str, Mapping[str, Any]]], kind: str) -> str:
    """The only column whose cells hold words or files' names."""
    likely = [column for column in columns if any(_is_text(cells.get(column)) for _, cells in first)]
    if len(likely) == 1:
        return likely[0]
    shown = ", ".join(map(repr, columns))
    raise InputError(f"--file {file}: its columns are {shown}; say which of them holds the {kind}s: --column NAME")


def _is_text(value: object) -> bool:
    """Whether a cell holds words, or a file's name, rather than a label or a number."""
    return isinstance(value, str) and (len(value.split()) > 1 or bool(Path(value).suffix.lstrip(".").isalpha()))


def _records(file: Path, binary: BinaryIO) -> Rows:
    usual = "\t" if plain_suffix(file.name) == ".tsv" else ","
    delimiter, passed_over, lines = delimited(open_lines(file, binary, newline=""), usual)
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        place = f"{file}:{passed_over + reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{place}: {error}; is a quote left open, or not written twice?") from error
        if not cells:
            continue
        if not header:
            header = [name.strip() for name in cells]
        elif len(cells) != len(header):
            raise InputError(f"{place}: expected {len(header)} cells as in the header, got {len(cells)}")
        else:
            yield place, dict(zip(header, cells, strict=True))


def _objects(file: Path, binary: BinaryIO, column: str) -> Rows:
    for number, line in enumerate(open_lines(file, binary, newline="\n"), start=1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not value:
            raise InputError(_no_text(place, column, line))
        yield place, value


def _no_text(place: str, column: str, line: str) -> str:
    return f'{place}: expected an object with a string "{column}", got {line.strip()[:60]!r}'


def learnt_column(bundle: Path, kind: str) -> str | None:
    """What the training data called the input, where a bundle lies in its run folder; else `None`."""
    try:
        report = json.loads((bundle.parent / "data" / "data.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    column = report.get("columns", {}).get(kind) if isinstance(report, dict) else None
    return column if isinstance(column, str) else None


def lines_of(file: Path, binary: BinaryIO) -> Iterator[tuple[str, str]]:
    """Each line of a plain text file with its place, without its end."""
    for number, line in enumerate(open_lines(file, binary, newline="\n"), start=1):
        yield f"{file}:{number}", line.rstrip("\r\n")
