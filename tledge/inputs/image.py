"""Images to pixel tensors, with numpy, Pillow and the one file that every checkpoint and bundle of images holds.

The tensors equal those of the transforms that the backbone was trained with: torchvision's
`Resize, CenterCrop, ToTensor, Normalize` on PIL images, or transformers' image processors (their Pillow classes),
without needing either.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tledge.errors import InputError
from tledge.inputs._fit import Fit
from tledge.inputs._image_decode import MAX_PIXELS, check, decode, suffixes
from tledge.inputs._image_facts import FILE, INTERPOLATIONS, Facts, from_config, read_config, write_config
from tledge.inputs._one_pass import OnePass

__all__ = [
    "FILE",
    "INTERPOLATIONS",
    "MAX_PIXELS",
    "Facts",
    "ImageInput",
    "Input",
    "check",
    "decode",
    "from_config",
    "read_config",
    "suffixes",
    "write_config",
]

Pixels = npt.NDArray[np.uint8]


class ImageInput(OnePass):
    """The image preprocessing of a checkpoint or bundle.

    ::

        inputs = ImageInput.load(Path("bundle"))
        inputs.encode(["a.jpg", "b.png"])   # {"pixel_values": (2, 3, 224, 224) float32}

    It has three steps, `decode`, `fit` and `normalise`, which training takes apart to put its random changes in
    between. `size`, `mean` and `std` are those of `facts`; `table`, `(3, 256) float32`, is what each value of a channel
    becomes; `identity` is a hash of what decides the tensors.
    Nothing changes after loading: one object serves many threads.
    """

    files = (FILE,)
    decodes = True
    pads_left = False
    expected = "a path"
    max_length: None = None
    input_names = ("pixel_values",)

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.size, self.mean, self.std = facts.size, facts.mean, facts.std
        self.batches = facts.in_graph != "resize_and_normalize"
        self.identity = hashlib.sha256(json.dumps(facts.to_config(), sort_keys=True).encode()).hexdigest()
        self._filter = Image.Resampling(INTERPOLATIONS.index(facts.interpolation))
        self.table = _table(facts)

    @classmethod
    def load(cls, folder: Path) -> ImageInput:
        """The preprocessing described by `preprocessor_config.json` in a folder.

        Raises:
            BundleError: the file is missing or damaged, or asks for something that is not done here.
        """
        return cls(read_config(folder))

    def is_one(self, values: object) -> bool:
        """Whether this is one image rather than several; what is neither goes on as one, and is refused by name."""
        if isinstance(values, np.ndarray):
            return values.ndim in (2, 3)
        return isinstance(values, str | bytes | bytearray | memoryview | Mapping) or not isinstance(values, Iterable)

    def of_cells(self, cells: Sequence[str], folder: Path) -> Path:
        """The image file that the cell of a row names."""
        return folder / cells[0]

    def unknown_share(self, values: Sequence[Any]) -> None:
        """None: images have no vocabulary."""

    def unknown_characters(self, values: Sequence[Any]) -> Counter[str]:  # noqa: ARG002
        """None."""
        return Counter()

    def check(self, value: object) -> None:
        """Nothing for a value whose kind, file and header are those of an image; pixels are not looked at.

        Raises:
            InputError: it is no image, cannot be read, or has too many pixels.
        """
        check(value)

    def decode(self, value: Any) -> Image.Image:
        """An upright RGB image; see the module's `decode`.

        Raises:
            InputError: the value is no image that can be read.
        """
        return decode(value)

    def fit(self, image: Image.Image) -> Image.Image:
        """An RGB image of exactly `size`: resized, then its middle cut out, with a black border where it is smaller.

        Where the facts have a border it is resized to fit inside that.
        """
        if self.facts.border != "none":
            return Fit(self.facts.border, self.size, self.facts.fill).apply(image, self._filter)
        height, width = _resized(image.height, image.width, self.facts.resize)
        top, left = (self._offset(have, want) for have, want in zip((height, width), self.size, strict=True))
        if height * width > MAX_PIXELS:  # a thread of an image, whose longer side would grow without end
            first = (max(left, 0), max(top, 0))
            last = (min(left + self.size[1], width), min(top + self.size[0], height))
            scale = (image.width / width, image.height / height)
            box = tuple(at * step for at, step in zip((*first, *last), scale * 2, strict=True))
            image = image.resize((last[0] - first[0], last[1] - first[1]), self._filter, box=box)  # type: ignore[arg-type]
            left, top = left - first[0], top - first[1]
        elif image.size != (width, height):
            image = image.resize((width, height), self._filter)
        if (image.height, image.width) == self.size:
            return image
        return image.crop((left, top, left + self.size[1], top + self.size[0]))

    def normalise(self, images: Sequence[Image.Image | Pixels]) -> dict[str, npt.NDArray[Any]]:
        """`pixel_values`, `(batch, 3, height, width) float32`, of RGB images `(height, width, 3) uint8` of one size.

        Where the graph normalises by itself they are the images as they are, `(batch, height, width, 3) uint8`.

        Raises:
            InputError: the images differ in size.
        """
        arrays = [np.asarray(image) for image in images]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            sizes = " and ".join(sorted(f"{width} x {height}" for height, width, _ in shapes)[:2])
            raise InputError(f"the images of one batch differ in size ({sizes} pixels): pass them one at a time")
        height, width, _ = shapes.pop() if shapes else (*self.size, 3)
        if self.facts.in_graph != "none":
            return {"pixel_values": np.asarray(arrays, dtype=np.uint8).reshape(len(arrays), height, width, 3)}
        result = np.empty((len(arrays), 3, height, width), dtype=np.float32)
        for target, array in zip(result, arrays, strict=True):
            for channel in range(3):
                np.take(self.table[channel], array[..., channel], out=target[channel], mode="clip")
        return {"pixel_values": result}

    def encode(self, values: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        """`pixel_values` of any values that `decode` takes, as `normalise` gives them.

        A graph that resizes by itself gets images of their own size, which must then be the same for all.

        Raises:
            InputError: a value is no image that can be read, or the images differ in size and the graph resizes.
        """
        images = (decode(value) for value in values)
        return self.normalise([self.fit(image) if self.batches else image for image in images])

    def dummy(self, batch: int, sequence: int | None = None, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
        """Random soft-edged pictures of exactly that many, for latency and parity, the same for the same `seed`.

        They have the model's size, or one and a half times that where the graph resizes. `sequence` is for inputs
        that have a length, and must be left out.
        """
        if sequence is not None:
            raise InputError(f"images have no length, got {sequence}")
        height, width = self.size if self.batches else (self.size[0] * 3 // 2, self.size[1] * 3 // 2)
        rng = np.random.default_rng(seed)
        return self.normalise([_picture(rng, height, width) for _ in range(batch)])

    def for_export(self) -> dict[str, npt.NDArray[Any]]:
        """Two made-up images, for an exporter to trace with."""
        return self.dummy(2)

    def examples(self) -> list[Pixels]:
        """Two small pictures for golden vectors, `(height, width, 3) uint8`: one wide, one tall, always the same."""
        rng = np.random.default_rng(20)
        return [np.asarray(_picture(rng, 60, 84)), np.asarray(_picture(rng, 75, 50))]

    def _offset(self, have: int, want: int) -> int:
        """Where the cut begins; below 0 is a border."""
        if self.facts.crop_offset == "floor":
            return (have - want) // 2
        return round((have - want) / 2) if have >= want else -((want - have) // 2)


Input = ImageInput


def _resized(height: int, width: int, resize: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width after resizing; a shorter side keeps the proportions, with the longer one rounded down."""
    if resize is None:
        return height, width
    if isinstance(resize, tuple):
        return resize
    long = int(resize * max(height, width) / min(height, width))
    return (long, resize) if width <= height else (resize, long)


def _table(facts: Facts) -> npt.NDArray[np.float32]:
    """What each value becomes, `(3, 256) float32`, with the roundings of torchvision and transformers."""
    values = (np.arange(256) * facts.rescale_factor).astype(np.float32)
    mean, std = (np.asarray(each, dtype=np.float32)[:, None] for each in (facts.mean, facts.std))
    return np.asarray((values - mean) / std, dtype=np.float32)


def _picture(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Patches of colour with soft edges under a little grain: values and edges as in a photo."""
    patches = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    soft = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = rng.integers(-12, 13, soft.shape, dtype=np.int16)
    return Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))
