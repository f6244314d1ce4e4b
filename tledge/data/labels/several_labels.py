"""Any number of labels a row, none included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tledge.data.columns import FLAGS, Columns, label_names
from tledge.data.labels import Found

MISSING = "a label"
VALUES = False
CODE = "q"
WIDTH = 1


def find(columns: Columns, given: Sequence[str], separator: str) -> Found:
    """Columns of 0 and 1, or a column of labels, with a separator where one parts them."""
    flags = columns.flags(given, separator)
    if flags:
        return Found(flags=flags)
    column = columns.labels(given, separator)
    several = any(isinstance(value, list) or separator in str(value) for value in columns.values.get(column, ()))
    return Found(column, separator=separator if several else None)


def names_of(cells: Mapping[str, Any], found: Found) -> list[str]:
    """The columns that are on, or the names in the cell."""
    if found.flags:
        return [column for column in found.flags if FLAGS.get(str(cells.get(column)).strip().lower(), False)]
    return label_names(cells[found.column], found.separator)
