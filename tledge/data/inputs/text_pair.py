"""Two texts: each stored as it is, and the same pair when both are the same texts in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tledge.data.columns import LABEL_NAMES, Columns, named
from tledge.data.inputs import Value, text
from tledge.data.sources import Problem

TYPES = text.TYPES * 2
IS_COSTLY = False
SIZES = text.SIZES
NOUN = "two texts"
RENAME = "one to text, one to text_pair"
NAMES = text.NAMES
USUAL = (
    ("text", "text_pair"), ("text1", "text2"), ("text_a", "text_b"), ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "answer"),
    ("question", "sentence"), ("query", "document"), ("query", "passage"),
)  # fmt: skip
"""What the two columns of public data sets of pairs are called."""


def find(columns: Columns) -> tuple[str, ...]:
    """Two columns of texts with telling names, or else the two with the longest values, in the file's order."""
    lengths = text.lengths_of(columns)
    for pair in USUAL:
        found = tuple(named((name,), lengths) for name in pair)
        if all(found):
            return found
    lengths = {column: length for column, length in lengths.items() if column.lower() not in LABEL_NAMES}
    longest = sorted(lengths, key=lambda column: -lengths[column])[:2]
    return tuple(column for column in lengths if column in longest) if len(longest) == 2 else ("", "")


def read(cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Value | Problem:
    """The texts in raw cells, or what is wrong with the first one that cannot be used."""
    each_of = [text.read([cell], [column], folder) for cell, column in zip(cells, columns, strict=True)]
    wrong = next((each for each in each_of if isinstance(each, Problem)), None)
    if wrong is not None:
        return wrong
    whole = [each for each in each_of if isinstance(each, Value)]
    digest = hashlib.blake2b(b"".join(each.digest for each in whole), digest_size=16).digest()
    stored = tuple(cell for each in whole for cell in each.stored)
    return Value(stored, digest, sum(each.size for each in whole), sum(each.weight for each in whole))
