"""CSV and TSV files with a header, read strictly, so that a broken row is named and not guessed at."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tledge.data.sources.source import Options, Row, Source, broken, text_lines, undecoded
from tledge.errors import DataError

SUFFIXES = (".csv", ".tsv")

csv.field_size_limit(2**31 - 1)  # a cell may hold a long document


def open_file(path: Path, options: Options) -> Source:
    """The rows of a CSV or TSV file.

    Raises:
        DataError: the header is missing or names a column twice, or the file is no text of the given encoding.
    """
    tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
    reader = csv.reader(
        text_lines(path, options.encoding), delimiter=options.delimiter or ("\t" if tabs else ","), strict=True
    )
    try:
        header = [name.strip() for name in next(reader)]
    except (StopIteration, csv.Error) as error:
        raise DataError(f"{path.name}:1: expected a header with the columns' names: {error or 'no line'}") from error
    if undecoded("".join(header)):
        raise DataError(f"{path.name}:1: the header is not {options.encoding}; set data.encoding")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or not any(header):
        raise DataError(f"{path.name}:1: the header names the column {twice[0]!r} twice" if twice else
                        f"{path.name}:1: expected a header with the columns' names, got an empty line")  # fmt: skip
    return Source(path.name, tuple(header), _rows(reader, path.name, header, options.encoding))


def _rows(reader: Iterator[list[str]], file: str, header: list[str], encoding: str) -> Iterator[Row]:
    while True:
        name = f"{file}:{reader.line_num + 1}"  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield broken(name, "malformed line", f"{error} (is a quote not closed?)")
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            yield broken(name, "wrong number of cells", f"expected {len(header)} cells, got {len(cells)}")
        elif undecoded("".join(cells)):
            yield broken(name, "undecodable text", f"bytes that are not {encoding}")
        else:
            yield Row(name, dict(zip(header, cells, strict=True)))
