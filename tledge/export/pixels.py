"""Our preprocessing of images beside that of the library that the backbone was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.inputs.image import INTERPOLATIONS, Facts, ImageInput, decode

Array = npt.NDArray[Any]


class LibraryPixels:
    """Images to `pixel_values` by torchvision's transforms or transformers' image processor, as facts describe them.

    It has `encode`, as `ImageInput` has, and so can be scored. `name` is the library's: torchvision rounds half a pixel
    of the cut to the even neighbour and transformers rounds it down, which tells whose facts these are.
    """

    def __init__(self, facts: Facts) -> None:
        self.name = "torchvision" if facts.crop_offset == "round" else "transformers"
        self._transform = _torchvision(facts) if self.name == "torchvision" else _transformers(facts)

    def encode(self, values: Sequence[Any]) -> dict[str, Array]:
        """`pixel_values`, `(batch, 3, height, width) float32`.

        Raises:
            InputError: a value is no image that can be read.
        """
        return {"pixel_values": np.stack([self._transform(decode(value)) for value in values])}


def compare_pixels(encoder: ImageInput, library: LibraryPixels, values: Sequence[Any]) -> dict[str, float]:
    """`max_abs_diff` and `mean_abs_diff` of the two, in pixel values between 0 and 1, over some images."""
    std = np.asarray(encoder.std, np.float32).reshape(1, 3, 1, 1)
    largest, means = 0.0, []
    for value in values:
        ours, theirs = (each.encode([value])["pixel_values"] for each in (encoder, library))
        difference = np.abs(ours - theirs) * std
        largest = max(largest, float(difference.max()))
        means.append(float(difference.mean()))
    return {"max_abs_diff": largest, "mean_abs_diff": float(np.mean(means))}


def _torchvision(facts: Facts) -> Any:
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    resize = facts.resize if facts.resize is None or isinstance(facts.resize, int) else list(facts.resize)
    steps: list[Any] = [] if resize is None else [transforms.Resize(resize, InterpolationMode(facts.interpolation))]
    steps += [
        transforms.CenterCrop(list(facts.size)),
        transforms.ToTensor(),
        # It divides by 255 first; facts may scale otherwise.
        transforms.Lambda(lambda pixels: pixels * (255 * facts.rescale_factor)),
        transforms.Normalize(list(facts.mean), list(facts.std)),
    ]
    whole = transforms.Compose(steps)
    return lambda image: whole(image).numpy()


def _transformers(facts: Facts) -> Any:
    from transformers import CLIPImageProcessor

    config = facts.to_config()
    del config["crop_offset"], config["image_processor_type"]
    processor = CLIPImageProcessor(**config | {"resample": INTERPOLATIONS.index(facts.interpolation)})
    return lambda image: np.asarray(processor(image, return_tensors="np")["pixel_values"][0], np.float32)
