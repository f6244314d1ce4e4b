"""Pictures for the report, as `data:` URIs, so that it stays one file."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tledge.errors import InputError
from tledge.inputs.image import decode

THUMBNAIL = 128
"""The longer side of a thumbnail in pixels."""


def data_uri(path: Path) -> str:
    """A JPEG file as a `data:` URI; empty where there is no such file."""
    return _uri(path.read_bytes()) if path.exists() else ""


def thumbnail(value: Any) -> str:
    """An image, given in any of the ways that `inputs.image` takes, as a small JPEG; empty where it is gone."""
    try:
        image = decode(value)
    except InputError:  # a photo may have been moved since training
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return uri_of(image)


def uri_of(image: Image.Image) -> str:
    """An RGB image as a JPEG in a `data:` URI."""
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return _uri(file.getvalue())


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
