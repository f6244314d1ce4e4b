"""Text files as people have them: packed or not, in the encoding that a byte-order mark tells, with any delimiter."""

from __future__ import annotations

import bz2
import codecs
import gzip
import re
from collections.abc import Iterator
from io import BufferedReader
from itertools import chain
from pathlib import Path

PACKED = (".gz", ".bz2")
"""Endings of packed files; what they hold is named by the ending before it."""

DELIMITERS = (";", "\t", "|")
"""What stands between columns where it is no comma."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BEGINNING = 16
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<mark>.)"?[\r\n]*', re.IGNORECASE)  # that Excel and its imitators write


def plain_suffix(name: str) -> str:
    """The ending of a file's name in lower case, that of a packing left out: `.csv` of `A.CSV.gz`."""
    path = Path(name.lower())
    return (path.with_suffix("") if path.suffix in PACKED else path).suffix


def unpacked(raw: BufferedReader, name: str) -> BufferedReader | gzip.GzipFile | bz2.BZ2File:
    """The bytes of a file, unpacked where its name or its first bytes are those of gzip or bzip2."""
    start = raw.peek(3)[:3]
    if name.lower().endswith(".gz") or start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)
    if name.lower().endswith(".bz2") or start == b"BZh":
        return bz2.BZ2File(raw)
    return raw


def marked_encoding(binary: BufferedReader | gzip.GzipFile | bz2.BZ2File) -> str | None:
    """The encoding that a byte-order mark at the start tells; `None` without a mark.

    Without one, a beginning of which every second byte is NUL and no other is UTF-16, as of ASCII characters.
    """
    start = binary.peek(_BEGINNING)[:_BEGINNING]
    found = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if found is None and len(start) >= 4:
        even, odd = start[::2], start[1::2]
        if not odd.strip(b"\0") and b"\0" not in even:
            return "utf-16-le"
        if not even.strip(b"\0") and b"\0" not in odd:
            return "utf-16-be"
    return found


def delimited(lines: Iterator[str], default: str) -> tuple[str, int, Iterator[str]]:
    """What stands between the columns of a table, and its lines from the header on.

    A first line `sep=;` tells it, and is passed over. A header without `default`, but with one of `DELIMITERS` and no
    other, tells it too.

    Args:
        lines: of the file, with their ends.
        default: the delimiter of a file that tells none.

    Returns:
        The delimiter, how many lines were passed over, and the others.
    """
    first = next(lines, None)
    if first is None:
        return default, 0, iter(())
    told = _SEPARATOR_LINE.fullmatch(first)
    if told is not None:
        return told["mark"], 1, lines
    inside = [mark for mark in DELIMITERS if mark in first]
    mark = inside[0] if len(inside) == 1 and default not in first else default
    return mark, 0, chain([first], lines)
