"""Pictures with a text file of boxes each, and a `data.yaml` that names their folders and their labels, as YOLO's.

`names` is a list or a mapping of numbers; `train`, `val` (or `valid`) and `test` are folders of pictures, or lists of
them, from the folder `path` or the file's own. The boxes of `images/a.jpg` are in `labels/a.txt`: a number of a label,
and the middle, width and height as shares of the picture; or the corners of an outline, whose box is taken. An empty
file is a picture without objects.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tledge.errors import DataError, RecipeError
from tledge.tables import pictures
from tledge.tables.source import Options, Row, Source, broken

SUFFIXES = (".yaml", ".yml")
KEYS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}

_EXPECTED = "expected train: a folder of pictures, and names: [car, bus]"
_SLACK = 0.05  # of a picture's side over its edge; a number further off is no share of it


def fits(path: Path) -> bool:
    """Whether a YAML file is one of pictures with boxes."""
    try:
        found, _ = _read(path)
    except DataError:
        return False
    return isinstance(found, Mapping) and "names" in found and any(key in found for of in KEYS.values() for key in of)


def parts_of(path: Path) -> list[str]:
    """The parts of a data set that a file names: of `train`, `validation` and `test`."""
    found, _ = _read(path)
    return [part for part, keys in KEYS.items() if any(found.get(key) for key in keys)]


def open_file(path: Path, options: Options) -> Source:
    """The pictures of the part of a data set that `options.part` says, in the order of their names.

    Raises:
        DataError: the file is not of that shape, or names no pictures of that part.
    """
    found, lines = _read(path)
    if not isinstance(found, Mapping) or "names" not in found:
        raise DataError(f"{path.name} has no names; {_EXPECTED}")
    names = _names(path, found)
    key = next((key for key in KEYS[options.part] if found.get(key)), None)
    if key is None:
        there = ", ".join(each for of in KEYS.values() for each in of if found.get(each))
        raise DataError(
            f"{path.name} names no {options.part} pictures ({KEYS[options.part][0]}:); it has {there or 'none'}"
        )
    root = _root(path, found)
    images = [
        image for place in _listed(found[key]) for image in _images(path, root, place, lines.get((key,), (1, 1))[0])
    ]

    def rows(notes: Counter[str]) -> Iterator[Row]:
        for image, times in Counter(images).items():
            notes.update({pictures.TWICE: 1} if times > 1 else {})
            file = _labels_of(image)
            if file is None:
                notes[pictures.NO_LABELS] += 1
            else:
                yield _row(f"{path.name}:{_short(image, root)}", image, file, names)
        if alone := sum(_alone(folder, images) for folder in {image.parent for image in images}):
            notes[pictures.NO_PICTURE] += alone

    return pictures.source(path, rows, len(images), label_ids={name: number for number, name in names.items()})


def _read(path: Path) -> tuple[Any, Mapping[Any, tuple[int, int]]]:
    from tledge import yaml12  # not before a YAML file is read: the command line does without

    try:
        text = yaml12.text_of(path, "data set")
        return yaml12.read(text, lambda line, _: f"{path.name}:{line}")
    except RecipeError as error:
        raise DataError(str(error)) from None


def _names(path: Path, found: Mapping[str, Any]) -> dict[int, str]:
    """The name of each label by its number."""
    told = found["names"]
    if isinstance(told, Mapping) and all(str(key).isdecimal() for key in told):
        names = {int(key): str(name).strip() for key, name in told.items()}
    elif isinstance(told, list) and told:
        names = {number: str(name).strip() for number, name in enumerate(told)}
    else:
        raise DataError(f"{path.name}: names is {told!r:.40}; expected a list of labels, or a mapping of their numbers")
    twice = next((name for name, times in Counter(names.values()).items() if times > 1), None)
    if twice is not None:
        raise DataError(f"{path.name}: the label {twice!r} is there twice; give each its own name")
    count = found.get("nc")
    if count is not None and count != len(names):
        raise DataError(f"{path.name}: nc is {count!r:.20}, and there are {len(names)} names; mend one of them")
    return names


def _root(path: Path, found: Mapping[str, Any]) -> Path:
    here = path.absolute().parent
    told = here / str(found.get("path") or "")
    return told if told.is_dir() else here


def _listed(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _images(path: Path, root: Path, place: str, line: int) -> list[Path]:
    """The pictures of a folder or list; leading `../` are left out where nothing is there else."""
    tried = [root / place, root / place.removeprefix("../"), path.absolute().parent / place]
    found = next((each for each in tried if each.exists()), None)
    if found is None:
        raise DataError(f"{path.name}:{line}: there is no {tried[0]}; expected a folder of pictures, or a list of them")
    if found.is_dir():
        inner = found / "images"
        return pictures.pictures_in(inner if inner.is_dir() else found, deep=True)
    try:
        lines = found.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{found} cannot be read: {error}") from error
    return [_named(found, root, each.strip()) for each in lines if each.strip()]


def _named(file: Path, root: Path, name: str) -> Path:
    """A picture that a list names, from the list's folder or the data set's."""
    beside = file.parent / name
    return beside if beside.exists() else root / name


def _labels_of(image: Path) -> Path | None:
    """The file of boxes of a picture; `None` where there is none."""
    parts = list(image.parts)
    places = [image.with_suffix(".txt")]
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        places.insert(0, Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt"))
    return next((each for each in places if each.is_file()), None)


def _alone(folder: Path, images: Sequence[Path]) -> int:
    """How many files of boxes there are for a folder of pictures without one of them."""
    stems = {image.stem for image in images if image.parent == folder}
    labels = {file.parent for image in images if image.parent == folder and (file := _labels_of(image)) is not None}
    return sum(
        1 for place in labels for each in place.glob("*.txt") if each.stem not in stems and each.stem != "classes"
    )


def _short(image: Path, root: Path) -> str:
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else str(image)


def _row(name: str, image: Path, file: Path, names: Mapping[int, str]) -> Row:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return broken(name, "malformed annotation", f"{file.name} cannot be read: {error}")
    boxes = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        label, *values = line.split()
        if not label.isdecimal() or int(label) not in names:
            known = f"0 to {max(names)}" if names else "none"
            detail = f"{file.name}:{number}: the class {label!r:.20} is none of the names, which are {known}"
            return broken(name, "unknown class", detail)
        box = _box(values)
        if box is None:
            detail = f"{file.name}:{number}: {line!r:.60}; expected a number of a label, and x, y, width and height as "
            return broken(name, "malformed box", f"{detail}shares of the picture, 0 to 1")
        boxes.append({"label": names[int(label)], "relative": box})
    return Row(name, {"image": str(image), "objects": {"boxes": boxes}})


def _box(values: Sequence[str]) -> list[float] | None:
    """Middle, width and height of a box, or of the one around an outline; `None` where these are none."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    if not all(math.isfinite(number) and -_SLACK <= number <= 1 + _SLACK for number in numbers):
        return None
    if len(numbers) == 4:
        return numbers
    if len(numbers) < 6 or len(numbers) % 2:
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)]
