"""Pictures with boxes: what their rows have in common, whichever files tell the boxes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tledge.errors import DataError
from tledge.tables.source import Row, Source

COLUMNS = ("image", "objects")
TASK = "object_detection"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""The endings of files that are looked for as pictures."""

NO_LABELS = "pictures without a file of boxes, which were left out (an empty file says that there are none)"
NO_PICTURE = "files of boxes without a picture"
TWICE = "pictures that are named twice, which were read once"

PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What the parts of a split data set are called."""


def source(
    path: Path,
    rows: Callable[[Counter[str]], Iterator[Row]],
    size: int,
    *,
    label_ids: Mapping[str, int] | None = None,
    read_as: str = "",
) -> Source:
    """A source of pictures with boxes.

    Args:
        path: the file or folder that was named.
        rows: gives them, and counts what it leaves out.
        size: how many there are.
        label_ids: the numbers of labels.
        read_as: how the file was read, where that is not the usual.

    Raises:
        DataError: there is none.
    """
    if not size:
        raise DataError(f"{path.name} has no picture with boxes; expected some")
    notes: Counter[str] = Counter()
    number = 0

    def read(wanted: object) -> Iterator[Row]:  # noqa: ARG001
        nonlocal number
        for row in rows(notes):
            number += 1
            yield row

    return Source(
        path.name, COLUMNS, read, size, lambda: number, path,
        read_as=read_as, task=TASK, notes=notes, label_ids=label_ids or {},
    )  # fmt: skip


def pictures_in(folder: Path, *, deep: bool = False) -> list[Path]:
    """The pictures of a folder, and of those in it where `deep`, sorted; none where there is no folder."""
    found = []
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith(".")) if deep else []
        found += [Path(top) / name for name in sorted(files) if is_picture(name)]
    return found


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture that is no hidden file."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def split_already(path: Path, parts: Mapping[str, str]) -> DataError:
    """That a data set must be named by its parts.

    Args:
        path: the data set.
        parts: what to write for each part that is there.
    """
    there = [f"data.{part}: {name}" for part, name in parts.items()]
    absent = [f"data.{part} to a fraction of the training rows" for part in PARTS if part not in parts]
    return DataError(f"{path} is split already; set {', '.join([*there, *absent])}")


def parts_of(names: Mapping[str, Path]) -> dict[str, Path]:
    """The parts of a data set among files or folders by their names in lower case; the first name of each counts."""
    found = {part: next((names[name] for name in of if name in names), None) for part, of in PARTS.items()}
    return {part: path for part, path in found.items() if path is not None}
