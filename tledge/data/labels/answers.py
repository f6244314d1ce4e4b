"""The parts of a context that answer its question, any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tledge.data.columns import Columns, named
from tledge.data.labels import Found
from tledge.tasks._answers import NAME

MISSING = "answers"
VALUES = False
CODE = "q"
WIDTH = 0
_NAMES = ("answers", "answer")


def find(columns: Columns, given: Sequence[str], separator: str) -> Found:  # noqa: ARG001
    """A column with a telling name."""
    return Found(named(_NAMES, [column for column in columns.values if column not in given]))


def names_of(cells: Mapping[str, Any], found: Found) -> list[str]:
    """That there is an answer, where the cell has one; which it is needs the context."""
    cell = cells[found.column]
    texts = cell.get("text") if isinstance(cell, Mapping) else cell
    return [NAME] if texts else []
