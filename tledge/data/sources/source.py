"""What every format gives: column names and a stream of rows, each whole or with its problem."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

from tledge.errors import DataError, did_you_mean

ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "big5", "shift_jis", "euc-kr", "koi8-r", "ascii")


@dataclass(frozen=True, slots=True)
class Options:
    """How sources are read.

    `encoding` is that of text files, and `delimiter` that of CSV files, `None` for the format's own. `download` allows
    it, and `label_names` are the recipe's: class folders are known by them.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    download: bool = False
    label_names: Mapping[str, str] = field(default_factory=dict)


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
    """Rows that can be read once, one after the other, in constant memory.

    `read(wanted)` gives the rows, with the wanted columns at least (`None`: all); `done()` tells how far it came, and
    `size` where that ends: bytes of a text file, else rows. `path` is that of a local file or folder. `is_one_text`
    tells that the rows are the lines of one document.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Collection[str] | None], Iterator[Row]]
    size: int
    done: Callable[[], int]
    path: Path | None = None
    is_one_text: bool = False

    @property
    def folder(self) -> Path | None:
        """Where paths in a local file's cells start."""
        return self.path.absolute().parent if self.path else None


def broken(name: str, kind: str, detail: str) -> Row:
    """A row that cannot be used."""
    return Row(name, {}, Problem(kind, detail))


def undecodable(name: str, text: str, encoding: str) -> Row | None:
    """The broken row when some byte of a text did not decode."""
    if text.isascii():
        return None
    byte = next((ord(char) - 0xDC00 for char in text if "\udc80" <= char <= "\udcff"), None)
    if byte is None:
        return None
    return broken(name, "undecodable text", f"the byte 0x{byte:02x} is not {encoding}; set data.encoding")


def twice(names: Collection[str]) -> str | None:
    """The first name that is there a second time."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


@dataclass(frozen=True, slots=True)
class TextFile:
    """The lines of a text file with their ends, its size in bytes, and how many of them were read."""

    lines: Iterator[str]
    size: int
    done: Callable[[], int]


def open_text(path: Path, encoding: str, *, newline: str) -> TextFile:
    """A text file, unpacked when its name ends in `.gz`; bytes that do not decode become lone surrogates.

    Raises:
        DataError: the encoding is unknown, or the file cannot be read. While lines are read: the packed data is
            damaged, or an encoding of several bytes does not fit.
    """
    try:
        # A byte-order mark is no part of the first column's name.
        name = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        "a".encode(name)
    except (LookupError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(
            f"data.encoding: {encoding!r} is not known; expected one such as {', '.join(ENCODINGS[:4])}"
            f"{did_you_mean(encoding, ENCODINGS)}"
        ) from error
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return TextFile(
        _lines(raw, path, name, newline), path.stat().st_size, lambda: path.stat().st_size if raw.closed else raw.tell()
    )


def _lines(raw: BufferedReader, path: Path, encoding: str, newline: str) -> Iterator[str]:
    binary = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
    try:
        with raw, TextIOWrapper(binary, encoding, errors="surrogateescape", newline=newline) as lines:
            yield from lines
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be unpacked: {error}; pack it again with gzip") from error
    except UnicodeError as error:
        raise DataError(f"{path.name} is not {encoding}: {error}; set data.encoding") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
