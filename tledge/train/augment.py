"""Random changes of training images, by torchvision's transforms on Pillow images."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torchvision.transforms import v2

from tledge.recipe.schema import Augmentation

SEEDED = threading.Lock()
"""Held while torch's random state, which all threads share, is another for a moment."""

ASPECT = (3 / 4, 4 / 3)
GAP = 4  # pixels between the photos of a contact sheet


class Encoder(Protocol):
    """What is needed of `tledge.inputs.image.ImageInput`."""

    @property
    def size(self) -> tuple[int, int]: ...

    def decode(self, value: Any) -> Image.Image: ...
    def fit(self, image: Image.Image) -> Image.Image: ...


class Augment:
    """Changes a training image at random, as a recipe's `augmentation` says.

    augment = Augment(Augmentation(flip="horizontal", min_scale=0.6), encoder)
    image = augment(photo, seed=7)      # the same each time
    image = augment(photo, None)        # drawn from torch's random state
    """

    def __init__(self, settings: Augmentation, encoder: Any) -> None:
        """Prepare the changes; images get the size that `encoder`, an `ImageInput`, gives the model."""
        self.encoder: Encoder = encoder
        self._settings = settings
        self._cuts = settings.min_scale < 1
        steps: list[Any] = []
        if self._cuts:
            steps.append(v2.RandomResizedCrop(encoder.size, (settings.min_scale, 1.0), ASPECT))
        if settings.flip in ("horizontal", "both"):
            steps.append(v2.RandomHorizontalFlip())
        if settings.flip in ("vertical", "both"):
            steps.append(v2.RandomVerticalFlip())
        if settings.rotation_degrees:
            steps.append(v2.RandomRotation(settings.rotation_degrees, v2.InterpolationMode.BILINEAR))
        if settings.color:
            steps.append(v2.ColorJitter(settings.color, settings.color, settings.color))
        if settings.randaugment:
            steps.append(v2.RandAugment(settings.randaugment, settings.randaugment_magnitude))
        self._changes = v2.Compose(steps or [v2.Identity()])

    def at(self, encoder: Any) -> Augment:
        """The same changes for another preprocessing: the same seed shows the same part of an image, changed alike."""
        return Augment(self._settings, encoder)

    def __call__(self, value: Any, seed: int | None) -> Image.Image:
        """The changed image, RGB, of the size that the model takes.

        Args:
            value: an image as `ImageInput` takes it.
            seed: gives the same image each time and leaves torch's random state as it is; `None` draws from that.
        """
        image = self.encoder.decode(value)
        if not self._cuts:
            image = self.encoder.fit(image)
        if seed is None:
            return self._changes(image)
        with SEEDED, torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed the accelerators too.
            torch.default_generator.manual_seed(seed)
            return self._changes(image)


def contact_sheet(values: Sequence[Any], augment: Augment, *, n: int = 5, seed: int = 0) -> Image.Image:
    """A grid with a row for each photo: as the model sees it in evaluation, and `n` of its changed copies."""
    height, width = augment.encoder.size
    sheet = Image.new("RGB", ((n + 1) * (width + GAP) - GAP, len(values) * (height + GAP) - GAP), "white")
    for row, value in enumerate(values):
        original = augment.encoder.decode(value)
        copies = [augment.encoder.fit(original), *(augment(original, seed + row * n + i) for i in range(n))]
        for column, image in enumerate(copies):
            sheet.paste(image, (column * (width + GAP), row * (height + GAP)))
    return sheet
