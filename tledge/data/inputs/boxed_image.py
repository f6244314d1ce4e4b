"""Images whose labels are boxes in them: stored as other images are, with their shapes beside their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tledge.data.columns import PHOTO, Columns, named
from tledge.data.inputs import image
from tledge.data.inputs.image import IS_COSTLY, NAMES, NOUN, RENAME, SIZES, TYPES, find, read
from tledge.inputs._image_decode import shape_of
from tledge.tasks._box_cells import Shape

__all__ = ["IS_COSTLY", "NAMES", "NOUN", "RENAME", "SIZES", "TYPES", "find", "given", "read", "told_by"]


def given(cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Sequence[object]:
    """The shape of the image in a cell that `read` has read."""
    return [Shape(*shape_of(image.content_of(cells[0], columns[0], folder)))]


def told_by(columns: Columns) -> str:
    """That objects are found, where there are images and boxes."""
    has_boxes = named(("objects",), columns.of_kind("list") + columns.of_kind("object"))
    return "object_detection" if columns.of_kind(PHOTO) and has_boxes else ""
