"""Pictures with a file of boxes each, as Pascal VOC's (Everingham et al. 2010): `JPEGImages` and `Annotations`.

They are named by a folder, which may also have both kinds of files side by side, or by one of its lists, such as
`ImageSets/Main/train.txt`. Coordinates are taken as they are written, and a difficult object is ignored.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tledge.errors import DataError
from tledge.tables import pictures
from tledge.tables.source import Row, Source, broken

LISTS = "ImageSets"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_EXPECTED = (
    "expected an <annotation> with an <object> for each box: its <name>, and <bndbox> with xmin, ymin, xmax, ymax"
)


def root_of(path: Path) -> Path | None:
    """The data set that a list of names is of; `None` where a file is no such list."""
    above = path.absolute().parents
    found = next((folder.parent for folder in above if folder.name == LISTS), None)
    return found if found is not None and (found / "Annotations").is_dir() else None


def fits(folder: Path) -> bool:
    """Whether a folder is one of pictures with such files."""
    places = _places(folder)
    if not places[0].is_dir():
        return False
    names = {each.stem for each in places[0].glob("*.xml")}
    if places[0] != folder:
        return bool(names)
    return any(each.stem in names for each in pictures.pictures_in(folder))


def lists(folder: Path) -> dict[str, Path]:
    """The lists of a data set by their names in lower case."""
    return {each.stem.lower(): each for each in sorted((folder / LISTS / "Main").glob("*.txt"))}


def open_folder(path: Path) -> Source:
    """The annotated pictures of a folder, sorted by name.

    Raises:
        DataError: there is none.
    """
    annotations, images = _places(path)
    names = sorted(each.stem for each in annotations.glob("*.xml"))
    return _source(path, names, annotations, _by_stem(images), alone=True)


def open_list(path: Path) -> Source:
    """The pictures that a list names, one a line, without their endings.

    Raises:
        DataError: it names none, or a line has more than a name.
    """
    root = root_of(path)
    assert root is not None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    for number, name in enumerate(names, start=1):
        if len(name.split()) > 1:
            raise DataError(f"{path.name}:{number}: {name!r:.60}; expected the name of a picture alone")
    annotations, images = _places(root)
    return _source(path, names, annotations, _by_stem(images))


def _places(folder: Path) -> tuple[Path, Path]:
    """Where annotations and pictures are."""
    if (folder / "Annotations").is_dir():
        named = (folder / name for name in ("JPEGImages", "images", "Images"))
        return folder / "Annotations", next((each for each in named if each.is_dir()), folder)
    return folder, folder


def _by_stem(folder: Path) -> dict[str, Path]:
    return {each.stem: each for each in reversed(pictures.pictures_in(folder))}


def _source(
    path: Path, names: Sequence[str], annotations: Path, images: dict[str, Path], *, alone: bool = False
) -> Source:
    """Those of some names; `alone` says that pictures without a file of boxes are looked for."""

    def rows(notes: Counter[str]) -> Iterator[Row]:
        for name, times in Counter(names).items():
            if times > 1:
                notes[pictures.TWICE] += 1
            place, image = f"{path.name}:{name}", images.get(name)
            file = annotations / f"{name}.xml"
            if not file.is_file():
                notes[pictures.NO_LABELS] += 1
            elif image is None and alone:
                notes[pictures.NO_PICTURE] += 1
            elif image is None:
                yield broken(place, "missing file", f"there is no picture of that name for {file}")
            else:
                yield _row(place, image.absolute(), file)
        if alone and (unlabelled := len(images.keys() - {*names})):
            notes[pictures.NO_LABELS] += unlabelled

    return pictures.source(path, rows, len(names))


def _row(name: str, image: Path, file: Path) -> Row:
    try:
        objects = _objects(_parsed(file))
    except ValueError as error:
        return broken(name, "malformed annotation", f"{file.name} {error}")
    return Row(name, {"image": str(image), "objects": objects})


def _parsed(file: Path) -> ET.Element:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("has a document type, which no such file needs; remove it")
    try:
        return ET.fromstring(content)  # noqa: S314 - without entities
    except ET.ParseError as error:
        raise ValueError(f"is no XML: {error}; {_EXPECTED}") from error
    except (ValueError, LookupError) as error:
        raise ValueError(f"is no XML that can be read: {error}") from error


def _objects(annotation: ET.Element) -> dict[str, Any]:
    if annotation.tag != "annotation":
        raise ValueError(f"has a <{annotation.tag}>; {_EXPECTED}")
    boxes = []
    for each in annotation.findall("object"):
        name = (each.findtext("name") or "").strip()
        corners = [_number(each.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if not name or None in corners:
            raise ValueError(f"has an object without a name or without four numbers; {_EXPECTED}")
        difficult = (each.findtext("difficult") or "0").strip() in ("1", "true", "True")
        boxes.append({"label": name, **dict(zip(_CORNERS, corners, strict=True)), "ignored": difficult})
    sides = {side: int(_number(annotation.findtext(f"size/{side}")) or 0) for side in ("width", "height")}
    return {"boxes": boxes, **sides}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
