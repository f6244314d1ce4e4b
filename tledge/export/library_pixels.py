"""The libraries' own image preprocessing, to measure how far ours is from it: in pixels, and in the metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import CLIPImageProcessor

from tledge.inputs._one_pass import OnePass
from tledge.inputs.image import Facts, decode

Pixels = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Images to pixel tensors."""

    facts: Facts

    def encode(self, values: Sequence[Any]) -> dict[str, npt.NDArray[Any]]: ...


class LibraryPixels(OnePass):
    """Images to pixel tensors by the library whose rounding some facts follow; `name` is that library's.

    torchvision: `Resize`, `CenterCrop`, `ToTensor` and `Normalize` on the decoded image. transformers: its
    CLIPImageProcessor with the same settings, which resizes tensors and not Pillow's images.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.name = "torchvision" if facts.crop_offset == "round" else "transformers"
        self._apply = _torchvision(facts) if self.name == "torchvision" else _transformers(facts)

    def encode(self, values: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        """`{"pixel_values": (batch, 3, height, width) float32}`."""
        return {"pixel_values": np.stack([self._apply(decode(value)) for value in values])}


def compare_pixels(ours: Encoder, theirs: LibraryPixels, values: Sequence[Any]) -> dict[str, float]:
    """The largest and the mean absolute difference over some images, where a pixel's value ranges from 0 to 1."""
    worst, total = 0.0, 0.0
    scale = np.asarray(ours.facts.std, dtype=np.float64).reshape(1, 3, 1, 1) / (255 * ours.facts.rescale_factor)
    for value in values:
        a, b = (each.encode([value])["pixel_values"].astype(np.float64) for each in (ours, theirs))
        difference = np.abs(a - b) * scale
        worst = max(worst, float(difference.max()))
        total += float(difference.mean())
    return {"max_abs_diff": worst, "mean_abs_diff": total / len(values)}


def _torchvision(facts: Facts) -> Any:
    resize = facts.resize if facts.resize is None or isinstance(facts.resize, int) else list(facts.resize)
    steps = [] if resize is None else [Resize(resize, InterpolationMode(facts.interpolation), antialias=True)]
    scaled = [1 / (255 * facts.rescale_factor)] * 3  # ToTensor has divided by 255
    steps += [CenterCrop(list(facts.size)), ToTensor(), Normalize([0.0] * 3, scaled), Normalize(facts.mean, facts.std)]
    apply = Compose(steps)
    return lambda image: apply(image).numpy()


def _transformers(facts: Facts) -> Any:
    processor = CLIPImageProcessor(**{k: v for k, v in facts.to_config().items() if k != "image_processor_type"})

    def apply(image: Any) -> Pixels:
        found = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return np.asarray(found.to(torch.float32).numpy())

    return apply
