"""The images of rows as the model gets them: fitted to its size, or changed at random."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Augment = Callable[[Any, int | None], Image.Image]
"""A value and a seed to a changed image; without a seed it is drawn from torch's random state."""


class ImageEncoder(Protocol):
    """What is needed of `tledge.inputs.image.ImageInput`."""

    @property
    def identity(self) -> str: ...

    def decode(self, value: Any) -> Image.Image: ...
    def fit(self, image: Image.Image) -> Image.Image: ...
    def normalise(self, images: Sequence[Any]) -> dict[str, npt.NDArray[Any]]: ...


@dataclass(frozen=True, slots=True)
class Images:
    """Images and what is done to them.

    `augment` is `None` for images that are left as they are, which have one view. Otherwise `views` copies of each can
    be kept, drawn from `seed`; `augmentation` names the settings of `augment`.
    """

    values: Sequence[Any]
    encoder: ImageEncoder
    augment: Augment | None = None
    augmentation: str = ""
    views: int = 1
    seed: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def kept_views(self, row: int, value: Any) -> list[Image.Image]:
        """The views of one row, the same each time; `value` is what `values` holds for it."""
        image = self.encoder.decode(value)
        if self.augment is None:
            return [self.encoder.fit(image)]
        return [self.augment(image, self._seed(row, view)) for view in range(self.views)]

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        """`pixel_values`, `(batch, 3, height, width) float32`, of rows that are read and changed anew."""
        values = [self.values[row] for row in rows]
        if self.augment is None:
            images = [self.encoder.fit(self.encoder.decode(value)) for value in values]
        else:
            images = [self.augment(value, None) for value in values]
        return self.tensors(images)

    def tensors(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The model's input of images of its size."""
        return {name: torch.from_numpy(array) for name, array in self.encoder.normalise(images).items()}

    def digest(self) -> str:
        """SHA-256 of what decides the kept views: the images, their preprocessing, their changes and the seed.

        A file counts by its path, size and time of change, so that nothing is decoded to know it again.
        """
        changes = (self.augmentation, self.views, self.seed) if self.augment is not None else None
        digest = hashlib.sha256(repr((self.encoder.identity, changes, len(self.values))).encode())
        for row in range(len(self.values)):
            digest.update(_fingerprint(self.values[row]))
        return digest.hexdigest()

    def _seed(self, row: int, view: int) -> int:
        return int(np.random.SeedSequence((self.seed, row, view)).generate_state(1)[0])


def _fingerprint(value: Any) -> bytes:
    """32 bytes that tell an image from others."""
    if isinstance(value, Mapping):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        facts = (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else str(path)
        return hashlib.sha256(repr(facts).encode()).digest()
    if isinstance(value, bytes):
        return hashlib.sha256(value).digest()
    array = np.ascontiguousarray(value)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).digest()
