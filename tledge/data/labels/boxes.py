"""Boxes around the objects of an image, each with a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tledge.data.columns import Columns, named
from tledge.data.labels import Found
from tledge.tasks._box_cells import labels_in

MISSING = "boxes"
VALUES = False
CODE = "d"
WIDTH = 6
NAMES = ("objects", "boxes", "annotations", "detections", "bboxes", "labels")


def find(columns: Columns, given: Sequence[str], separator: str) -> Found:  # noqa: ARG001
    """A column of lists or objects with a telling name."""
    kinds = ("list", "object", "mixed", "text")
    return Found(named(NAMES, [c for c, kind in columns.kinds.items() if kind in kinds and c not in given]))


def names_of(cells: Mapping[str, Any], found: Found) -> list[str]:
    """The labels of the boxes in a cell, each once, as rows are counted; nothing where they cannot be told."""
    try:
        return labels_in(cells[found.column])
    except ValueError:
        return []
