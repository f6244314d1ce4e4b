"""Pictures with boxes in a file of COCO's (Lin et al. 2014): `images`, `annotations` and `categories`, by ids.

An annotation with `iscrowd` is a box that is ignored. A picture without annotations is one without objects. Ids may
be any numbers, with gaps; labels are the names of the categories.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tledge.errors import DataError
from tledge.tables.pictures import is_picture
from tledge.tables.pictures import source as source_of
from tledge.tables.source import Row, Source, broken

NOWHERE = "boxes of pictures that the file does not have, which were left out"
REPEATED = "boxes that are there twice, which were read once"
SHARED_ID = "boxes with the id of another one, which were read all the same"
UNNAMED = "pictures beside the file that it does not name, which were left out"

_EXPECTED = (
    'expected {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "car"}], "annotations": '
    '[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, width, height]}]}'
)


def fits(found: object) -> bool:
    """Whether what a JSON file holds is of that shape."""
    return isinstance(found, Mapping) and "images" in found and "annotations" in found


def source(path: Path, found: Any, read_as: str = "") -> Source:
    """The pictures of a file, in its order, each with its boxes; one is named by its file.

    Pictures are in the file's folder, in its `images`, in that of the part that the file's name tells, or in one of
    these beside the file's folder.

    Args:
        path: the file.
        found: what it holds.
        read_as: how it was read, where that is not the usual.

    Raises:
        DataError: it is not of that shape, or an id of a picture or category is there twice.
    """
    images, annotations = (_listed(path, found, key) for key in ("images", "annotations"))
    labels = _labels(path, _listed(path, found, "categories"))
    by_id = _by_id(path, images)
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    before: Counter[str] = Counter()
    for each in _once(annotations, before):
        if _id(each.get("image_id")) in by_id:
            of_image[_id(each.get("image_id"))].append(each)
        else:
            before[NOWHERE] += 1
    folder = _folder(path, images)
    unnamed = _unnamed(folder, images)

    def rows(notes: Counter[str]) -> Iterator[Row]:
        notes.update(before)
        notes.update({UNNAMED: unnamed} if unnamed else {})
        for number, image in by_id.items():
            yield _row(path.name, folder, image, of_image[number], labels)

    return source_of(path, rows, len(by_id), label_ids={name: i for i, name in labels.items()}, read_as=read_as)


def image_ids(path: Path, found: Any) -> dict[str, int]:
    """The ids of the pictures of a file that are numbers, by the paths that its rows have.

    Raises:
        DataError: it is not of that shape, or an id is there twice.
    """
    by_id = _by_id(path, _listed(path, found, "images"))
    folder = _folder(path, list(by_id.values()))
    return {str(folder / str(image["file_name"])): number for number, image in by_id.items() if type(number) is int}


def _listed(path: Path, found: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    items = found.get(key)
    if not isinstance(items, list) or not all(isinstance(each, Mapping) for each in items):
        raise DataError(f"{path.name}: {key!r} is no list of objects; {_EXPECTED}")
    return items


def _id(value: object) -> object:
    """An id that can be looked up; numbers as text are the numbers."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _labels(path: Path, categories: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """The name of each category."""
    labels: dict[int, str] = {}
    for each in categories:
        number, name = _id(each.get("id")), each.get("name")
        if not isinstance(number, int) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path.name}: a category without a number id and a name: {dict(each)!r:.80}; {_EXPECTED}")
        if number in labels:
            raise DataError(
                f"{path.name}: the category {number} is there twice, as {labels[number]!r} and {name!r}; "
                "give each its own id"
            )
        labels[number] = name.strip()
    if not labels:
        raise DataError(f"{path.name} has no categories; {_EXPECTED}")
    return labels


def _by_id(path: Path, images: Sequence[Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    for place, image in enumerate(images):
        number, name = _id(image.get("id")), image.get("file_name")
        if number is None or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path.name}:images[{place}] has no id or no file_name; {_EXPECTED}")
        if number in found:
            raise DataError(
                f"{path.name}: the picture {number} is there twice, as {found[number]['file_name']!r} and {name!r}; "
                "give each its own id"
            )
        found[number] = image
    return found


def _once(annotations: Sequence[Mapping[str, Any]], notes: Counter[str]) -> Iterator[Mapping[str, Any]]:
    """Each annotation; one that has the same id, picture, category and box as one before is left out."""
    seen: dict[object, tuple[object, ...]] = {}
    for each in annotations:
        told = tuple(repr(each.get(key)) for key in ("image_id", "category_id", "bbox"))
        number = _id(each.get("id"))
        first = told if number is None else seen.setdefault(number, told)
        if first is not told:
            notes[REPEATED if first == told else SHARED_ID] += 1
            if first == told:
                continue
        yield each


def _folder(path: Path, images: Sequence[Mapping[str, Any]]) -> Path:
    """Where the pictures are: the first place that has one of the first ones, or else the file's folder."""
    here, above = path.absolute().parent, path.absolute().parent.parent
    part = path.stem.removeprefix("instances_")
    places = [place / inner for place in (here, above) for inner in ("", "images", part, f"images/{part}")]
    names = [str(image["file_name"]) for image in images[:20]]
    return next((place for place in places if any(_exists(place / name) for name in names)), here)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _unnamed(folder: Path, images: Sequence[Mapping[str, Any]]) -> int:
    """How many pictures of a folder the file does not name."""
    named = {str(image["file_name"]) for image in images}
    return sum(1 for each in folder.iterdir() if is_picture(each.name) and each.name not in named)


def _row(
    file: str,
    folder: Path,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    labels: Mapping[int, str],
) -> Row:
    name = f"{file}:{image['file_name']}"
    boxes = []
    for each in annotations:
        number = _id(each.get("category_id"))
        if not isinstance(number, int) or number not in labels:
            known = ", ".join(map(str, sorted(labels)[:10]))
            detail = f"a box of the category {each.get('category_id')!r:.20}, which is none of the file's: {known}"
            return broken(name, "unknown class", detail)
        box = {"label": labels[number], "bbox": each.get("bbox"), "iscrowd": each.get("iscrowd", 0)}
        boxes.append(box)
    size = {side: image.get(side) for side in ("width", "height")}
    return Row(name, {"image": str(folder / str(image["file_name"])), "objects": {"boxes": boxes, **size}})
