"""Spans of a text, each with a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tledge.data.columns import Columns, named
from tledge.data.labels import Found

MISSING = "spans or tags"
VALUES = False
CODE = "q"
WIDTH = 3
NAMES = ("ner_tags", "tags", "spans", "entities", "labels", "label", "ner")


def find(columns: Columns, given: Sequence[str], separator: str) -> Found:  # noqa: ARG001
    """A column of lists with a telling name, or else the first one."""
    lists = [column for column, kind in columns.kinds.items() if kind in ("list", "object") and column not in given]
    return Found(named(NAMES, lists) or next(iter(lists), ""))


def names_of(cells: Mapping[str, Any], found: Found) -> list[str]:
    """The labels of the spans, or of the tags, in a cell; nothing where they cannot be told."""
    names = []
    cell = cells[found.column]
    for item in cell if isinstance(cell, list) else ():
        if isinstance(item, str) and item[1:2] in ("-", "_"):
            names.append(item[2:])
        elif isinstance(item, Mapping) and isinstance(item.get("label"), str):
            names.append(item["label"])
        elif isinstance(item, list) and len(item) == 3 and isinstance(item[2], str):
            names.append(item[2])
    return names
