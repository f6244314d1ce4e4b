"""Texts: stored as they are, and the same when only white space or Unicode composition differs."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tledge.data.columns import Columns, named
from tledge.data.inputs import Value, shown
from tledge.data.sources import Problem

TYPES = (pa.string(),)
IS_COSTLY = False
SIZES = "text_lengths"
NOUN = "a text"
RENAME = "one to text"
NAMES = ("text", "sentence", "review", "utterance", "content", "body", "query", "message", "comment", "title")

HALF = re.compile(r"[\ud800-\udfff]")  # of a surrogate pair: JSON can hold it alone, UTF-8 cannot


def find(columns: Columns) -> tuple[str, ...]:
    """A column of texts with a telling name, or else the one with the longest values."""
    lengths = lengths_of(columns)
    return (named(NAMES, lengths) or max(lengths, key=lambda column: lengths[column], default=""),)


def lengths_of(columns: Columns) -> dict[str, float]:
    """The mean number of characters of each column of texts."""
    values = {column: columns.values[column] for column in columns.of_kind("text")}
    return {column: sum(map(len, of)) / len(of) for column, of in values.items() if of}


def read(cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Value | Problem:  # noqa: ARG001
    """The text in a raw cell, or what is wrong with it."""
    cell, column = cells[0], columns[0]
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return Problem("empty text", f"the column {column!r} is empty")
    if not isinstance(cell, str):
        return Problem("no text", f"the column {column!r} holds {shown(cell)}, expected text")
    if HALF.search(cell):
        return Problem("undecodable text", f"the column {column!r} holds half of a surrogate pair")
    return Value((cell,), digest(cell), size=len(cell), weight=len(cell))


def digest(text: str) -> bytes:
    """16 bytes that are equal for texts which differ only in Unicode composition, or in white space."""
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.blake2b(plain.encode(), digest_size=16).digest()
