"""Boxes of images as files hold them, in pixels of the upright image."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tledge.tasks._cells import is_empty

LABEL_KEYS = ("label", "category", "categories", "class", "name", "category_name", "labels")
IGNORED_KEYS = ("ignored", "iscrowd", "is_crowd", "difficult")
CORNERS = ("xmin", "ymin", "xmax", "ymax")

NO_AREA = "boxes without area, which were left out"
OUTSIDE = "boxes outside of their image, which were left out"
CUT = "boxes over the edge of their image, which were cut there"
TURNED = "boxes of pictures that lie on their side, which were turned with them"

_EDGE = 0.5  # pixels over an image's edge that are the rounding of a file
_EXPECTED = (
    'a list of boxes such as {"label": "car", "xmin": 10, "ymin": 20, "xmax": 50, "ymax": 45} or {"label": "car", '
    '"bbox": [x, y, width, height]}, in pixels; an empty list for none'
)

Corners = tuple[float, float, float, float]


class Box(NamedTuple):
    """A label and the corners of its box, in pixels of the upright image: x to the right, y down, half open.

    One that is `ignored` is neither right nor wrong to find: a crowd of COCO, a difficult object of VOC.
    """

    label: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    ignored: bool = False


class Shape(NamedTuple):
    """Height and width of an image, upright, and its EXIF orientation: 1 as it is, from 5 on it lies on its side."""

    height: int
    width: int
    orientation: int = 1


class Boxes(tuple[Box, ...]):
    """The boxes of an image; `notes` counts what was mended or left out, by what it was, in words."""

    notes: Mapping[str, int]

    def __new__(cls, boxes: Iterable[Box] = (), notes: Mapping[str, int] | None = None) -> Boxes:
        """A tuple of boxes with notes."""
        made = super().__new__(cls, boxes)
        made.notes = dict(notes or {})
        return made


def boxes_in(cell: object, shape: Shape | None) -> Boxes:
    """The boxes in the raw cell of an image, in their order.

    Boxes are cut at the edges of the image; those without area, and those outside of it, are left out, and counted.

    Args:
        cell: a list of boxes, each an object with a label and `xmin`, `ymin`, `xmax` and `ymax` (also within `box`), or
            `bbox`, which is x, y, width and height as in COCO, or `relative`, the middle, width and height as shares of
            the image as in YOLO; an object of lists such as `{"bbox": [...], "category": [...]}`; or an object that
            has `boxes`, and `width` and `height` of the pixels that were annotated. In a table also as JSON.
        shape: of the image. Where its width and height are told the other way round, and it lies on its side, the
            boxes are of the pixels as they are stored, and are turned with them.

    Raises:
        ValueError: it is none of these, or the image has another size than was told; the message says what was
            expected.
    """
    items, told = _told(cell)
    turns = _turns(told, shape)
    notes: Counter[str] = Counter()
    found = []
    for item in items:
        label, corners, ignored = _box(item, shape)
        if turns and shape is not None:
            corners = _turned(corners, shape)
            notes[TURNED] += 1
        kept = _within(corners, shape, notes)
        if kept is not None:
            found.append(Box(label, *kept, ignored))
    return Boxes(found, notes)


def labels_in(cell: object) -> list[str]:
    """The labels of the boxes in a raw cell, each once, whatever their corners are.

    Raises:
        ValueError: it holds no boxes.
    """
    items = [item for item in _told(cell)[0] if isinstance(item, Mapping)]
    return list(dict.fromkeys(str(item.get(_label_key(item))).strip() for item in items))


def _told(cell: object) -> tuple[list[Any], tuple[int, int] | None]:
    """The boxes of a cell, and the height and width that it tells of its image."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise ValueError(_EXPECTED) from None
    if is_empty(cell):
        raise ValueError(_EXPECTED)
    if isinstance(cell, Mapping) and "boxes" in cell:
        height, width = (cell.get(side) or 0 for side in ("height", "width"))
        if not all(isinstance(side, int | float) and not isinstance(side, bool) for side in (height, width)):
            raise ValueError(f"a height and a width in pixels; got {height!r:.20} and {width!r:.20}")
        return _told(cell["boxes"])[0], (int(height), int(width)) if height and width else None
    if isinstance(cell, Mapping) and _label_key(cell) and "bbox" in cell and _is_list(cell[_label_key(cell)]):
        return _rows(cell), None
    if not _is_list(cell):
        raise ValueError(_EXPECTED)
    return list(cell), None  # type: ignore[call-overload]


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A box an entry, of an object that has a list for each of its keys."""
    key = _label_key(columns)
    wanted = [name for name in (key, "bbox", *IGNORED_KEYS) if _is_list(columns.get(name))]
    sizes = {len(columns[name]) for name in wanted}
    if len(sizes) != 1 or "bbox" not in wanted:
        raise ValueError(f"as many {key} as bbox; there are {' and '.join(map(str, sorted(sizes)))}")
    return [dict(zip(wanted, row, strict=True)) for row in zip(*(columns[name] for name in wanted), strict=True)]


def _label_key(item: Mapping[str, Any]) -> str:
    return next((key for key in LABEL_KEYS if key in item), "")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _box(item: object, shape: Shape | None) -> tuple[str, Corners, bool]:
    """Label, corners and whether it is ignored."""
    if not isinstance(item, Mapping):
        raise ValueError(_EXPECTED)
    label = item.get(_label_key(item))
    if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
        raise ValueError(_EXPECTED)
    inner = item.get("box")
    corners = _corners({**item, **inner} if isinstance(inner, Mapping) else item, shape)
    return str(label).strip(), corners, any(_flag(item[key]) for key in IGNORED_KEYS if key in item)


def _flag(value: object) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError(f"0 or 1 for a box that is ignored; got {value!r:.20}")


def _corners(item: Mapping[str, Any], shape: Shape | None) -> Corners:
    if all(key in item for key in CORNERS):
        xmin, ymin, xmax, ymax = _numbers([item[key] for key in CORNERS])
        return xmin, ymin, xmax, ymax
    if "bbox" in item:
        x, y, width, height = _numbers(item["bbox"])
        return x, y, x + width, y + height
    if "relative" in item and shape is not None:
        x, y, width, height = _numbers(item["relative"])
        return (
            (x - width / 2) * shape.width,
            (y - height / 2) * shape.height,
            (x + width / 2) * shape.width,
            (y + height / 2) * shape.height,
        )
    raise ValueError(_EXPECTED)


def _numbers(values: object) -> Iterator[float]:
    if not _is_list(values) and not hasattr(values, "tolist"):
        raise ValueError(_EXPECTED)
    numbers = list(values)  # type: ignore[call-overload]
    if len(numbers) != 4:
        raise ValueError(f"boxes of four numbers; one has {len(numbers)}")
    for number in numbers:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not math.isfinite(number):
            raise ValueError(f"boxes of finite numbers; one has {number!r:.20}")
        yield float(number)


def _turns(told: tuple[int, int] | None, shape: Shape | None) -> bool:
    """Whether boxes are of pixels that lie on their side."""
    if told is None or shape is None or told == (shape.height, shape.width):
        return False
    if told == (shape.width, shape.height) and shape.orientation >= 5:
        return True
    raise ValueError(
        f"boxes of an image of {shape.width} x {shape.height} pixels, which it has; they are said to be of one of "
        f"{told[1]} x {told[0]}"
    )


def _turned(corners: Corners, shape: Shape) -> Corners:
    """Corners in stored pixels as corners in the upright image (EXIF 2.32, orientations 5 to 8)."""
    left, top, right, bottom = corners
    xmin, ymin, xmax, ymax = top, left, bottom, right  # mirrored at the diagonal, which is 5
    if shape.orientation in (6, 7):
        xmin, xmax = shape.width - xmax, shape.width - xmin
    if shape.orientation in (7, 8):
        ymin, ymax = shape.height - ymax, shape.height - ymin
    return xmin, ymin, xmax, ymax


def _within(corners: Corners, shape: Shape | None, notes: Counter[str]) -> Corners | None:
    """The part of a box that is in the image; `None` where there is none."""
    xmin, ymin, xmax, ymax = corners
    if xmax <= xmin or ymax <= ymin:
        notes[NO_AREA] += 1
        return None
    if shape is None:
        return corners
    cut = max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(shape.width)), min(ymax, float(shape.height))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        notes[OUTSIDE] += 1
        return None
    if max(abs(one - other) for one, other in zip(corners, cut, strict=True)) > _EDGE:
        notes[CUT] += 1
    return cut
