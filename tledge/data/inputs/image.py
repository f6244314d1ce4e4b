"""Images: decoded once to prove that they can be, and the same when their size and RGB pixels are.

A local file is stored as its path, everything else as the bytes of an image file.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from PIL import Image

from tledge.data.columns import PHOTO, Columns, named
from tledge.data.inputs import Value, shown
from tledge.data.sources import Problem
from tledge.errors import InputError
from tledge.inputs.image import decode

TYPES = (pa.struct({"bytes": pa.binary(), "path": pa.string()}),)
IS_COSTLY = True
SIZES = "image_sides"
NOUN = "an image"
RENAME = "one to image"
NAMES = ("image", "img", "photo", "picture", "image_path", "path", "file", "file_name", "filename")

SMALL = 200  # bytes: about what a path takes


def find(columns: Columns) -> tuple[str, ...]:
    """A column of images with a telling name, or else the first one."""
    found = columns.of_kind(PHOTO)
    return (named(NAMES, found) or next(iter(found), ""),)


def read(cells: Sequence[object], columns: Sequence[str], folder: Path | None) -> Value | Problem:
    """The image in a raw cell, or what is wrong with it.

    Args:
        cells: one: a path; the bytes of an image file; a mapping of `bytes` and `path`; an array `(height, width)` or
            `(height, width, channels)`; or an image of Pillow.
        columns: where the cell stood, for messages.
        folder: what a relative path starts from.
    """
    found = content_of(cells[0], columns[0], folder)
    if isinstance(found, Problem):
        return found
    try:
        image = decode(found)
    except InputError as error:
        return Problem("broken image", str(error).removeprefix(f"{found} ") if isinstance(found, Path) else str(error))
    if _is_in_alpha(found, image):
        detail = "one colour throughout, with all of its content in the transparency, which is dropped"
        return Problem("transparent image", f"{detail}; put it on a background of another colour")
    if isinstance(found, Path):
        content, path = None, str(found)
    else:
        content, path = found if isinstance(found, bytes) else _png(image), None
    return Value(
        ({"bytes": content, "path": path},), digest(image), size=min(image.size), weight=len(content or b"") + SMALL
    )


def digest(image: Image.Image) -> bytes:
    """16 bytes that are equal for decoded images of the same size and pixels."""
    width, height = image.size
    return hashlib.blake2b(b"%d %d " % (width, height) + image.tobytes(), digest_size=16).digest()


def _is_in_alpha(found: Any, image: Image.Image) -> bool:
    """Whether a decoded image is of one colour while the transparency that it had is not the same everywhere."""
    if any(low != high for low, high in cast("tuple[tuple[int, int], ...]", image.getextrema())):
        return False
    if isinstance(found, np.ndarray):
        return found.ndim == 3 and found.shape[2] == 4 and bool(np.ptp(found[..., 3]))
    if isinstance(found, Image.Image):
        return _varies(found)
    with warnings.catch_warnings(), Image.open(found if isinstance(found, Path) else io.BytesIO(found)) as opened:
        warnings.simplefilter("ignore")
        return _varies(opened)


def _varies(image: Image.Image) -> bool:
    """Whether an image has transparency that differs from pixel to pixel."""
    if not image.has_transparency_data:
        return False
    low, high = image.convert("RGBA").getchannel("A").getextrema()
    return low != high


def content_of(cell: Any, column: str, folder: Path | None) -> Path | bytes | Any | Problem:
    """The file, the bytes, or the array or image, that a cell holds."""
    if isinstance(cell, Mapping) and (cell.keys() & {"bytes", "path"}):
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, bytes) and not cell):
        return Problem("empty image", f"the column {column!r} is empty")
    if isinstance(cell, str | Path):
        return _file(cell, folder)
    if isinstance(cell, bytes | np.ndarray | Image.Image):
        return cell
    return Problem("no image", f"the column {column!r} holds {shown(cell)}, expected a path or an image")


def _file(cell: str | Path, folder: Path | None) -> Path | Problem:
    if "://" in str(cell):
        return Problem("missing file", f"{str(cell)!r} is a web address; download the image and give its path")
    if folder is None and not Path(cell).is_absolute():
        return Problem("missing file", f"there is no folder that {str(cell)!r} could be relative to")
    path = (folder or Path()) / cell
    try:
        if path.is_file():
            return path
        there = path.exists()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return Problem("unreadable file", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
    if there:
        return Problem("no file", f"{path} is a folder or no regular file, expected an image file")
    return Problem("missing file", f"there is no file {path}")


def _png(image: Image.Image) -> bytes:
    """A PNG file of an RGB image, with one channel where all three are the same."""
    bands = image.split()
    gray = len({band.tobytes() for band in bands}) == 1
    file = io.BytesIO()
    (bands[0] if gray else image).save(file, "png", compress_level=1)
    return file.getvalue()
