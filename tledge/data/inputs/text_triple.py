"""Three texts: one, one that is like it, and one that is not; each stored as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tledge.data.columns import Columns, named
from tledge.data.inputs import Value, text, text_pair
from tledge.data.sources import Problem

TYPES = text.TYPES * 3
IS_COSTLY = False
SIZES = text.SIZES
NOUN = "three texts"
RENAME = "one to text, one to text_pair, one to negative"
NAMES = text.NAMES
USUAL = (
    ("text", "text_pair", "negative"), ("anchor", "positive", "negative"), ("query", "positive", "negative"),
    ("sentence", "positive", "negative"), ("question", "positive", "negative"),
)  # fmt: skip
"""What the three columns of public data sets of triples are called."""


def find(columns: Columns) -> tuple[str, ...]:
    """Three columns of texts with telling names."""
    lengths = text.lengths_of(columns)
    for triple in USUAL:
        found = tuple(named((name,), lengths) for name in triple)
        if all(found):
            return found
    return ("", "", "")


def read(cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Value | Problem:
    """The texts in raw cells, or what is wrong with the first one that cannot be used."""
    return text_pair.read(cells, columns, folder)
