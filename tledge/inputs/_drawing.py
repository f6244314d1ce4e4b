"""Boxes drawn into images, with Pillow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

PALETTE = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#e377c2", "#8c564b", "#bcbd22", "#7f7f7f")
"""Colours of labels, in turn."""
RIGHT, WRONG, MISSED, IGNORED = "#2ca02c", "#d62728", "#ff7f0e", "#7f7f7f"
"""Colours of what became of a box."""

_LINE = 1 / 250  # of the image's longer side
_TEXT = 1 / 45


class Drawn(NamedTuple):
    """A box in pixels of the image: xmin, ymin, xmax, ymax; what stands above it, and its colour."""

    corners: Sequence[float]
    text: str
    colour: str


def colour_of(label: int) -> str:
    """The colour of a label by its number."""
    return PALETTE[label % len(PALETTE)]


def draw(image: Image.Image, boxes: Iterable[Drawn], *, longest: int | None = None) -> Image.Image:
    """A copy of an RGB image with boxes; each with its text where that has room inside of the image.

    Args:
        image: of any size.
        boxes: the last ones stand above the others.
        longest: its longer side in pixels is made no longer than this.
    """
    scale = min(1.0, longest / max(image.size)) if longest else 1.0
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    drawn = image.convert("RGB") if scale == 1 else image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    drawn = drawn.copy()
    pen = ImageDraw.Draw(drawn)
    width = max(1, round(max(size) * _LINE))
    font = ImageFont.load_default(max(9, round(max(size) * _TEXT)))
    for box in boxes:
        left, top, right, bottom = (value * scale for value in box.corners)
        # A box ends before its last edge, and Pillow's rectangle on it.
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=box.colour, width=width)
        if box.text:
            _write(pen, box, left, top, font, size)
    return drawn


def _write(
    pen: ImageDraw.ImageDraw, box: Drawn, left: float, top: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:  # fmt: skip
    """The text of a box on its colour, above it, or inside where there is no room."""
    text = (
        box.text.encode("latin-1", "replace").decode("latin-1") if isinstance(font, ImageFont.ImageFont) else box.text
    )
    x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
    wide, high = x1 - x0 + 4, y1 - y0 + 4
    x = max(0.0, min(left, size[0] - wide))
    y = top - high if top >= high else top
    pen.rectangle((x, y, x + wide, y + high), fill=box.colour)
    pen.text((x + 2 - x0, y + 2 - y0), text, fill="white", font=font)
