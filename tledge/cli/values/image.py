"""Paths of images, and folders of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tledge.cli.values import Given, Value
from tledge.errors import InputError

STOPS = False


def expanded(given: Iterable[Given]) -> Iterator[Value]:
    """Each image; a folder stands for the images in it.

    Raises:
        InputError: a name is that of no file, or a folder has no image in it.
    """
    for each in given:
        text = each.cells[0]
        if not text.strip():
            continue
        try:
            path = each.base / os.fsdecode(text.encode("utf-8", "surrogateescape"))
        except UnicodeError as error:
            raise InputError(f"{each.place}: {text!a} cannot be the name of a file") from error
        inside = _in_folder(path)
        if inside is None:
            yield Value(each.place, path, {"image": text})
        elif not inside:
            raise InputError(f"{each.place}: the folder {text} has no image in it")
        else:
            for one in inside:
                yield Value(each.place, one, {"image": str(Path(text) / one.relative_to(path))})


def _in_folder(path: Path) -> list[Path] | None:
    """The image files in a folder and in those below it, hidden ones left out, sorted; None if it is no folder."""
    from tledge.inputs.image import suffixes

    try:
        if not path.is_dir():
            return None
    except OSError:  # opening it will tell the reason
        return None
    files = [each for each in path.rglob("*") if each.suffix.lower() in suffixes() and each.is_file()]
    return sorted(each for each in files if not any(part[0] == "." for part in each.relative_to(path).parts))
