"""How a whole image comes to fill a model's input, and where its boxes are then.

===========  ==========================================================================================================
`stretch`    resized to the input's height and width, whatever its own proportions are
`letterbox`  resized to fit inside with its proportions, in the middle, with a border
`pad`        the same at the top left, with a border on the right or below
===========  ==========================================================================================================

Boxes are `xmin, ymin, xmax, ymax` in pixels, half open: the whole of an image is `0, 0, width, height`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

FitMode = Literal["stretch", "letterbox", "pad"]
FITS: tuple[FitMode, ...] = ("stretch", "letterbox", "pad")
FILL = 114
"""The grey of borders, which letterboxed detectors are usually trained with."""

Boxes = npt.NDArray[Any]


class Place(NamedTuple):
    """Where an image lies in the input: the first row and column, and how many there are."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Fit:
    """The way of images into an input of one size, and of boxes there and back.

    ::

        fit = Fit("letterbox", (320, 320))
        fit.to_input(boxes, height=480, width=640)   # (n, 4) in pixels of the input
        fit.to_image(boxes, height=480, width=640)   # and back, clipped to the image

    `size` is the height and width of the input, `fill` the value of a border's pixels in all channels.
    """

    mode: FitMode
    size: tuple[int, int]
    fill: int = FILL

    def place(self, height: int, width: int) -> Place:
        """Where an image of that size lies in the input."""
        if self.mode == "stretch":
            return Place(0, 0, *self.size)
        scale = min(self.size[0] / height, self.size[1] / width)
        tall, wide = (
            min(most, max(1, round(side * scale))) for side, most in zip((height, width), self.size, strict=True)
        )
        if self.mode == "pad":
            return Place(0, 0, tall, wide)
        return Place((self.size[0] - tall) // 2, (self.size[1] - wide) // 2, tall, wide)

    def apply(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        """An RGB image of exactly `size`."""
        place = self.place(image.height, image.width)
        if image.size != (place.width, place.height):
            image = image.resize((place.width, place.height), resample)
        if (place.height, place.width) == self.size:
            return image
        whole = Image.new("RGB", (self.size[1], self.size[0]), (self.fill,) * 3)
        whole.paste(image, (place.left, place.top))
        return whole

    def to_input(self, boxes: Boxes, height: int, width: int) -> npt.NDArray[np.float32]:
        """Boxes of an image as they lie in the input.

        Args:
            boxes: `(..., 4)`, in pixels of the image.
            height: the image's, in pixels.
            width: the image's, in pixels.

        Returns:
            `(..., 4) float32`, in pixels of the input.
        """
        scale, shift = self._scale_and_shift(height, width)
        return np.asarray(np.asarray(boxes, np.float64) * scale + shift, np.float32)

    def to_image(self, boxes: Boxes, height: int, width: int) -> npt.NDArray[np.float32]:
        """The opposite of `to_input`, clipped to the image."""
        scale, shift = self._scale_and_shift(height, width)
        found = (np.asarray(boxes, np.float64) - shift) / scale
        return np.asarray(np.clip(found, 0, (width, height) * 2), np.float32)

    def _scale_and_shift(self, height: int, width: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """What the four numbers of a box are multiplied with, and what is then added."""
        place = self.place(height, width)
        scale = np.asarray((place.width / width, place.height / height) * 2)
        return scale, np.asarray((place.left, place.top) * 2, np.float64)
