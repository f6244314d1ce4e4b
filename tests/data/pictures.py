"""Small pictures made up for tests, each different from all others."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(number, size=(12, 9)):
    """An RGB image, `size` its width and height: two colours and a bright spot that tell its number."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:] = (number % 251, number // 251 % 251, 40)
    pixels[0, number % width] = 255
    return Image.fromarray(pixels)


def picture_bytes(number, kind="png", **keys):
    """The bytes of its file."""
    file = io.BytesIO()
    picture(number).save(file, kind, **keys)
    return file.getvalue()


def save_folder(folder, count=24, labels=("cat", "dog"), start=0):
    """A folder with a class folder for each label and that many pictures in all."""
    for number in range(start, start + count):
        place = folder / labels[number % len(labels)]
        place.mkdir(parents=True, exist_ok=True)
        picture(number).save(place / f"{number:03}.png")
    return folder


def save_paths(folder, count=24):
    """Pictures in one folder, and rows `(path, label)` of them; a path is relative to the folder above."""
    folder.mkdir()
    for number in range(count):
        picture(number).save(folder / f"{number}.png")
    return [(f"{folder.name}/{number}.png", ("cat", "dog")[number % 2]) for number in range(count)]


def all_rows(splits):
    """The rows of all four splits."""
    return [row for name in ("train", "validation", "calibration", "test") for row in getattr(splits, name)]


def names_by_row(splits):
    """The label names of each row, by the row's name."""
    return {row["row"]: [splits.labels[i] for i in row["label"]] for row in all_rows(splits)}
