"""Texts: stored as they are, and the same when only white space or Unicode composition differs."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

import pyarrow as pa

from tledge.data.inputs import Value, shown
from tledge.data.sources import Problem

TYPE = pa.string()
IS_COSTLY = False

HALF = re.compile(r"[\ud800-\udfff]")  # of a surrogate pair: JSON can hold it alone, UTF-8 cannot


def read(cell: object, column: str, folder: Path | None) -> Value | Problem:  # noqa: ARG001
    """The text in a raw cell, or what is wrong with it."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return Problem("empty text", f"the column {column!r} is empty")
    if not isinstance(cell, str):
        return Problem("no text", f"the column {column!r} holds {shown(cell)}, expected text")
    if HALF.search(cell):
        return Problem("undecodable text", f"the column {column!r} holds half of a surrogate pair")
    return Value(cell, digest(cell), size=len(cell), weight=len(cell))


def digest(text: str) -> bytes:
    """16 bytes that are equal for texts which differ only in Unicode composition, or in white space."""
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.blake2b(plain.encode(), digest_size=16).digest()
