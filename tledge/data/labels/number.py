"""A number a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tledge.data.columns import Columns
from tledge.data.labels import Found

MISSING = "a number"
VALUES = True
CODE = "d"
WIDTH = 1


def find(columns: Columns, given: Sequence[str], separator: str) -> Found:  # noqa: ARG001
    """A column of numbers."""
    return Found(columns.number(given))


def names_of(cells: Mapping[str, Any], found: Found) -> list[str]:  # noqa: ARG001
    """None: numbers are not counted."""
    return []
