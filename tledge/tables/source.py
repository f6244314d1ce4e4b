"""What every format gives: column names and a stream of rows, each whole or with its problem."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast

from tledge.errors import DataError, did_you_mean
from tledge.text_file import marked_encoding, unpacked

ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252", "gb18030", "big5", "shift_jis", "euc-kr", "koi8-r", "ascii")


@dataclass(frozen=True, slots=True)
class Options:
    """How sources are read.

    `encoding` is that of text files, and `delimiter` that of CSV files, `None` for the format's own. `download` allows
    it, and `label_names` are the recipe's: class folders are known by them. `part` is the split that is read from a
    file which holds several: `train`, `validation` or `test`.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    download: bool = False
    label_names: Mapping[str, str] = field(default_factory=dict)
    part: str = "train"


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
    tells that the rows are the lines of one document. `read_as` says what the file itself told of how it is read, where
    that is not the usual: its encoding or delimiter. `task` names the one that the rows are surely of, if any.
    `notes`, filled while rows are read, counts what was left out of them, by what it was, in words. `label_ids` are
    the numbers that the source has for labels.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Collection[str] | None], Iterator[Row]]
    size: int
    done: Callable[[], int]
    path: Path | None = None
    is_one_text: bool = False
    read_as: str = ""
    task: str = ""
    notes: Counter[str] = field(default_factory=Counter)
    label_ids: Mapping[str, int] = field(default_factory=dict)

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
    """The lines of a text file with their ends, its encoding, its size in bytes, and how many of them were read."""

    lines: Iterator[str]
    encoding: str
    size: int
    done: Callable[[], int]


def open_text(path: Path, encoding: str, *, newline: str) -> TextFile:
    """A text file, unpacked when it is packed by gzip or bzip2; bytes that do not decode become lone surrogates.

    A byte-order mark tells the encoding of a file that is to be read as UTF-8.

    Raises:
        DataError: the encoding is unknown, or the file cannot be read or unpacked. While lines are read: the packed
            data is damaged, or an encoding of several bytes does not fit.
    """
    try:
        is_utf8 = codecs.lookup(encoding).name == "utf-8"
        "a".encode(encoding)
    except (LookupError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(
            f"data.encoding: {encoding!r} is not known; expected one such as {', '.join(ENCODINGS[:4])}"
            f"{did_you_mean(encoding, ENCODINGS)}"
        ) from error
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    with _mapped(path, encoding):
        binary = unpacked(raw, path.name)
        marked = marked_encoding(binary) if is_utf8 else None
    if marked in (None, "utf-8-sig"):
        # A byte-order mark is no part of the first column's name.
        shown, name = encoding, "utf-8-sig" if is_utf8 else encoding
    else:
        shown = name = str(marked)

    def lines() -> Iterator[str]:
        with (
            _mapped(path, name),
            raw,
            TextIOWrapper(cast("BinaryIO", binary), name, errors="surrogateescape", newline=newline) as text,
        ):
            yield from text

    return TextFile(lines(), shown, path.stat().st_size, lambda: path.stat().st_size if raw.closed else raw.tell())


@contextmanager
def _mapped(path: Path, encoding: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be unpacked: {error}; pack it again with gzip or bzip2") from error
    except UnicodeError as error:
        raise DataError(f"{path.name} is not {encoding}: {error}; set data.encoding") from error
    except OSError as error:
        if error.errno is None:  # what bz2 raises for damaged data
            raise DataError(f"{path.name} cannot be unpacked: {error}; pack it again with gzip or bzip2") from error
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
