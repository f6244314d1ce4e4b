"""Image files, bytes and arrays to upright 8-bit RGB pixels, with Pillow."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tledge.errors import InputError

MAX_PIXELS = 1024**3 // 12
"""The most pixels of an image, about 89 million (as RGB a quarter of a gigabyte): a small file can ask for more."""

NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow only recognises, or hands to another program."""

_WARNINGS = threading.Lock()
_TIFF_SIZE = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
_SHRINK = "make it smaller first"


@cache
def suffixes() -> frozenset[str]:
    """The endings of image files that can be decoded, such as `.jpg`, in lower case."""
    Image.init()
    return frozenset(
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in NOT_DECODED
    )


def decode(value: Any) -> Image.Image:
    """An upright image of mode `RGB`, whatever the value is.

    The EXIF orientation is applied. Of 16 bits the upper 8 are kept, of an animation the first frame; transparency is
    dropped, as torchvision's and timm's loaders do.

    Args:
        value: A path, the bytes of an image file, a PIL image, an array `(height, width)` or
            `(height, width, 1 or 3 or 4)` of uint8 or uint16, or a mapping with `bytes` or `path` (as the datasets
            library stores images), where the bytes win.

    Raises:
        InputError: the value is none of these, the file is missing, unreadable, damaged or no image, or it has more
            than `MAX_PIXELS` pixels.
    """
    value, name = _source(value)
    if isinstance(value, np.ndarray):
        return _from_array(value)
    if isinstance(value, Image.Image):
        return _rgb(value, name)
    with _file(value, name) as file, _opened(file, name) as image:
        return _rgb(image, name)


def check(value: Any) -> None:
    """Nothing for a value whose kind, file and header are those of an image; pixels are not looked at.

    Raises:
        InputError: as for `decode`.
    """
    value, name = _source(value)
    if isinstance(value, np.ndarray):
        _require_pixels(value)
    elif not isinstance(value, Image.Image):
        with _file(value, name) as file, _opened(file, name):
            pass


def shape_of(value: Any) -> tuple[int, int, int]:
    """Height and width of an upright image, in pixels, and its EXIF orientation, from its header alone.

    Raises:
        InputError: as for `decode`.
    """
    value, name = _source(value)
    if isinstance(value, np.ndarray):
        _require_pixels(value)
        return value.shape[0], value.shape[1], 1
    if isinstance(value, Image.Image):
        return _shape(value)
    with _file(value, name) as file, _opened(file, name) as image:
        return _shape(image)


def _shape(image: Image.Image) -> tuple[int, int, int]:
    try:
        with _quiet():
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - as when it is turned
        orientation = 1
    width, height = image.size
    if image.format == "TIFF":  # of which some releases of Pillow tell the size upright
        tags: Any = getattr(image, "tag_v2", {})
        width, height = (int(tags.get(tag, have)) for tag, have in zip(_TIFF_SIZE, image.size, strict=True))
    if not 5 <= orientation <= 8:
        return height, width, orientation if 1 <= orientation <= 8 else 1
    return width, height, orientation


def _source(value: Any) -> tuple[Any, str]:
    """The value itself (out of a mapping), and what to call it in errors."""
    name = ""
    if isinstance(value, Mapping):
        name = str(value.get("path") or "")
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
        if value is None:
            raise InputError("expected a mapping with the bytes or the path of an image, got neither")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), name or f"an image of {len(value)} bytes"
    if isinstance(value, (str, os.PathLike)):
        return Path(value), " ".join(os.fspath(value).splitlines())
    if isinstance(value, Image.Image):
        return value, name or str(getattr(value, "filename", "")) or "the image"
    if isinstance(value, np.ndarray):
        return value, name
    raise InputError(
        "expected an image (a path, bytes, a PIL image, an array of uint8 or uint16, or a mapping with bytes or path), "
        f"got {type(value).__name__}"
    )


def _file(value: bytes | Path, name: str) -> IO[bytes]:
    if isinstance(value, bytes):
        return BytesIO(value)
    try:
        if not value.is_file():
            what = "is a folder" if value.is_dir() else "does not exist"
            raise InputError(f"{name} {what}; expected an image file")
        return value.open("rb")
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _opened(file: IO[bytes], name: str) -> Image.Image:
    """The image behind a header; its pixels are not decoded yet."""
    try:
        with _quiet():
            image = Image.open(file)
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is no image that Pillow {PIL.__version__} can read") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} has more than the {2 * MAX_PIXELS:,} pixels that Pillow opens; {_SHRINK}") from error
    except Exception as error:  # a damaged header raises whatever its reader happens to trip over
        raise InputError(f"{name} is damaged: {_reason(error)}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise InputError(f"{name} has {width} x {height} pixels, at most {MAX_PIXELS:,} are decoded; {_SHRINK}")
    if image.format in NOT_DECODED:
        image.close()
        raise InputError(f"{name} is a file of the format {image.format}, which is not decoded; save it as a PNG file")
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of Pillow's readers: what matters of it is refused here, and the rest is not the user's."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
        image = _upright(image)
        if image.mode.startswith("I"):
            pixels = np.clip(np.asarray(image).astype(np.int64) // 256, 0, 255)
            image = Image.fromarray(pixels.astype(np.uint8))
        elif image.mode == "F":
            raise InputError(f"{name} holds fractions, whose range is not known; save it with 8 or 16 bits")
        elif image.mode in {"P", "PA"}:
            image = image.convert("RGBA")  # straight to RGB Pillow warns of a palette with transparency
        return image if image.mode == "RGB" else image.convert("RGB")
    except InputError:
        raise
    except Exception as error:  # a damaged file raises whatever its reader happens to trip over
        raise InputError(f"{name} is damaged: {_reason(error)}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        with _quiet():
            image.getexif()  # which the image keeps
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - an orientation that cannot be read is none, as for every viewer
        return image


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    _require_pixels(array)
    pixels = array if array.dtype == np.uint8 else (array // 256).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    channels = np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if pixels.shape[2] == 1 else pixels[..., :3]
    return Image.fromarray(np.ascontiguousarray(channels))


def _require_pixels(array: npt.NDArray[Any]) -> None:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype not in (np.uint8, np.uint16) or not shaped or array.size == 0:
        raise InputError(
            "expected an array (height, width) or (height, width, 1 or 3 or 4) of uint8 or uint16, "
            f"got {array.shape} of {array.dtype}"
        )


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
