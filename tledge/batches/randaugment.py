"""RandAugment (Cubuk et al. 2020) on batches: images that get the same operation get it at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

STRONGEST = 30
"""Magnitudes go from 0 to this."""
_SMOOTH = V.InterpolationMode.BILINEAR


def _moved(images: Tensor, *, shear: tuple[float, float] = (0, 0), shift: tuple[float, float] = (0, 0)) -> Tensor:
    """Sheared about the upper left corner by tangents, and shifted by pixels; x before y."""
    degrees = [math.degrees(math.atan(each)) for each in shear]
    corner = [0.0, 0.0] if any(shear) else None
    moved: Tensor = V.affine(images, 0.0, [int(each) for each in shift], 1.0, degrees, _SMOOTH, center=corner)
    return moved


OPERATIONS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "identity": lambda images, _, __: images,
    "shear_x": lambda images, share, sign: _moved(images, shear=(0.3 * share * sign, 0)),
    "shear_y": lambda images, share, sign: _moved(images, shear=(0, 0.3 * share * sign)),
    "translate_x": lambda images, share, sign: _moved(images, shift=(150 / 331 * images.shape[3] * share * sign, 0)),
    "translate_y": lambda images, share, sign: _moved(images, shift=(0, 150 / 331 * images.shape[2] * share * sign)),
    "rotate": lambda images, share, sign: V.rotate(images, 30.0 * share * sign, _SMOOTH),
    "brightness": lambda images, share, sign: V.adjust_brightness(images, 1 + 0.9 * share * sign),
    "saturation": lambda images, share, sign: V.adjust_saturation(images, 1 + 0.9 * share * sign),
    "contrast": lambda images, share, sign: V.adjust_contrast(images, 1 + 0.9 * share * sign),
    "sharpness": lambda images, share, sign: V.adjust_sharpness(images, 1 + 0.9 * share * sign),
    "posterize": lambda images, share, _: V.posterize(images, 8 - round(4 * share)),
    "solarize": lambda images, share, _: V.solarize(images, 255 * (1 - share)),
    "autocontrast": lambda images, _, __: V.autocontrast(images),
    "equalize": lambda images, _, __: V.equalize(images),
}
"""What is done to images `(batch, 3, height, width) uint8`, by the share of the full strength and the sign."""
_EVERY = tuple(OPERATIONS.values())


def operate(images: Tensor, chosen: Tensor, magnitude: int) -> Tensor:
    """Images, `(batch, 3, height, width) uint8`, each after its operations.

    Args:
        images: as what is given.
        chosen: `(batch, operations, 2) int64`: the place of each among `OPERATIONS`, and a sign, -1 or 1.
        magnitude: their strength, 0 to 30.
    """
    rows = chosen.tolist()
    images = images.clone()
    for step in range(chosen.shape[1]):
        groups: dict[tuple[int, int], list[int]] = {}
        for row, operations in enumerate(rows):
            groups.setdefault(tuple(operations[step]), []).append(row)
        for (number, sign), members in groups.items():
            at = torch.tensor(members, device=images.device)
            images[at] = _EVERY[number](images[at], magnitude / STRONGEST, sign)
    return images
