"""Exactly one label a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tledge.data.columns import Columns, label_names
from tledge.data.labels import Found

MISSING = "a label"
VALUES = False
CODE = "q"
WIDTH = 1


def find(columns: Columns, given: Sequence[str], separator: str) -> Found:
    """A column of few, short, repeated values."""
    return Found(columns.labels(given, separator))


def names_of(cells: Mapping[str, Any], found: Found) -> list[str]:
    """The name in the cell; several where a separator parts them."""
    return label_names(cells[found.column], found.separator)
