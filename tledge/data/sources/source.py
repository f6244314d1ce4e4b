"""What every format gives: column names and a stream of rows, each whole or with its problem."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tledge.errors import DataError, did_you_mean

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "gb18030", "big5", "shift_jis", "euc-kr", "koi8-r")


@dataclass(frozen=True, slots=True)
class Options:
    """How text files are read; `delimiter` is that of CSV files, `None` for the format's own."""

    encoding: str = "utf-8"
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row is broken: a kind that is counted, and what is said about this one."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row: where it is (`train.csv:17`), and its cells by column, or its problem."""

    name: str
    cells: Mapping[str, Any]
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A stream of rows; `size` is the number of rows where the format knows it, else `None`."""

    name: str
    columns: tuple[str, ...]
    rows: Iterator[Row]
    size: int | None = None


def broken(name: str, kind: str, detail: str) -> Row:
    """A row that cannot be used."""
    return Row(name, {}, Problem(kind, detail))


def text_lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text file with their ends; bytes that do not decode become lone surrogates.

    Raises:
        DataError: the encoding is unknown, the file cannot be read, or it is of another encoding altogether.
    """
    # A byte-order mark is no part of the first column's name.
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        b"".decode(name)
    except LookupError as error:
        raise DataError(
            f"data.encoding: {encoding!r} is not known; expected one such as {', '.join(ENCODINGS[:5])}"
            f"{did_you_mean(encoding, ENCODINGS)}"
        ) from error
    try:
        with _open(path, name) as lines:
            yield from lines
    except UnicodeError as error:
        raise DataError(f"{path.name} is not {encoding}: {error}; set data.encoding") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def undecoded(text: str) -> bool:
    """Whether some bytes of a text did not decode."""
    return any("\udc80" <= character <= "\udcff" for character in text)


def _open(path: Path, encoding: str) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding=encoding, errors="surrogateescape", newline="")
    return path.open(encoding=encoding, errors="surrogateescape", newline="")
