"""CSV and TSV files with a header (RFC 4180), read strictly, so that a broken row is named and not guessed at."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tledge.errors import DataError
from tledge.tables.source import Options, Row, Source, broken, open_text, twice, undecodable
from tledge.text_file import delimited, plain_suffix

SUFFIXES = (".csv", ".tsv", ".tab")

MAX_CELL = 10_000_000  # characters: room for a long document, and where a quote that is left open is noticed


def open_file(path: Path, options: Options) -> Source:
    """The rows of a CSV or TSV file; lines without any character are passed over, and a first line such as `sep=;`.

    The delimiter is that of the options, or else the one that the file tells; see `tledge.text_file.delimited`.

    Raises:
        DataError: the header is missing, names a column twice or is of another encoding; while rows are read: a quote
            is left open, so that nobody knows where the next row starts.
    """
    usual = "\t" if plain_suffix(path.name) in (".tsv", ".tab") else ","
    text = open_text(path, options.encoding, newline="")
    told, passed_over, lines = delimited(text.lines, usual)
    delimiter = options.delimiter or told
    if delimiter in '"\r\n':
        raise DataError(f"data.delimiter: {delimiter!r} cannot stand between columns; set another character")
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows = _records(reader, passed_over, path.name, text.encoding)
    first, header = next(rows, (None, []))
    if first is None:
        raise DataError(f"{path.name}:1: expected a header with the columns' names, got an empty file")
    if first.problem is not None:
        raise DataError(f"{first.name}: {first.problem.detail} (the first line must hold the columns' names)")
    header = [name.strip() for name in header]
    again = twice([name for name in header if name])  # empty ones are of columns without cells
    if again is not None:
        raise DataError(f"{first.name}: the header names the column {again!r} twice; give each its own name")
    read_as = [
        *([f"in {text.encoding}"] if text.encoding != options.encoding else []),
        *([f"with {delimiter!r} between columns"] if options.delimiter is None and delimiter != usual else []),
    ]
    return Source(
        path.name,
        tuple(header),
        lambda wanted: (_cells(*row, header) for row in rows),
        text.size,
        text.done,
        path,
        read_as=" ".join(read_as),
    )


def _records(reader: csv._reader, passed_over: int, file: str, encoding: str) -> Iterator[tuple[Row, list[str]]]:  # type: ignore[name-defined]
    """Each record's cells, and a row that has its place and its problem if there is one."""
    while True:
        name = f"{file}:{passed_over + reader.line_num + 1}"
        try:
            cells: list[str] = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataError(
                    f"{name}: a quote that this row opens is never closed; close it, or write it twice inside quotes"
                ) from error
            if "field larger" in str(error):
                raise DataError(f"{name}: a cell of over {MAX_CELL} characters; is a quote left open?") from error
            yield broken(name, "malformed line", f"{error}; write a quote inside quotes twice"), []
            continue
        if not cells:
            continue
        yield undecodable(name, "".join(cells), encoding) or _no_nul(name, cells) or Row(name, {}), cells


def _no_nul(name: str, cells: list[str]) -> Row | None:
    if not any("\0" in cell for cell in cells):
        return None
    return broken(name, "NUL byte", "a NUL byte; is this a text file, and of the encoding that data.encoding says?")


def _cells(row: Row, cells: list[str], header: list[str]) -> Row:
    if row.problem is not None:
        return row
    if len(cells) != len(header):
        kind = "too many cells" if len(cells) > len(header) else "too few cells"
        return broken(row.name, kind, f"expected {len(header)} cells as in the header, got {len(cells)}")
    return Row(row.name, dict(zip(header, cells, strict=True)))
