"""Boxes that others are told relative to: of a few sizes and proportions, at every place of a map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tledge.model.detectors._pyramid import Level, centres

LARGEST = math.log(1000 / 16)
"""The logarithm of how many times as large as its anchor a box may be told to be, against overflow."""


def anchors(levels: Sequence[Level], size: tuple[int, int], shapes: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
    """The anchors of all levels, `(places * n, 4) float32`, in pixels of the image, those of a place side by side.

    Args:
        levels: of a pyramid.
        size: height and width of the image.
        shapes: widths and heights of the anchors of a place, for each level.
    """
    found = []
    for level, each in zip(levels, shapes, strict=True):
        points, _ = centres([level], size)
        half = torch.tensor(each, dtype=torch.float32) / 2
        found.append(torch.cat([points[:, None] - half, points[:, None] + half], -1).flatten(0, 1))
    return torch.cat(found)


def shapes_of(side: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Widths and heights of the area of a square, by how many times as high as wide they are."""
    return [(side / math.sqrt(ratio), side * math.sqrt(ratio)) for ratio in ratios]


def encoded(boxes: Tensor, of: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """Boxes relative to their anchors, `(n, 4)`: shifts in shares of the anchor's sides, and logarithms of scales.

    That is equation 2 of Ren et al. (2015).

    Args:
        boxes: `(n, 4)`.
        of: their anchors, `(n, 4)`.
        weights: what the four numbers are multiplied with.
    """
    sides, own = of[:, 2:] - of[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    shift = ((boxes[:, :2] + boxes[:, 2:]) - (of[:, :2] + of[:, 2:])) / 2 / sides
    return torch.cat([shift, torch.log(own / sides)], -1) * boxes.new_tensor(weights)


def decoded(deltas: Tensor, of: Tensor, size: tuple[int, int], weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """The boxes, `(..., 4)`, of what `encoded` gives, cut at the edges of the image.

    Args:
        deltas: `(..., 4)`.
        of: their anchors, of a shape that fits.
        size: height and width of the image.
        weights: as for `encoded`.
    """
    deltas = deltas / deltas.new_tensor(weights)
    sides, middle = of[..., 2:] - of[..., :2], (of[..., :2] + of[..., 2:]) / 2
    middle = middle + deltas[..., :2] * sides
    half = torch.exp(deltas[..., 2:].clamp(max=LARGEST)) * sides / 2
    most = deltas.new_tensor([size[1], size[0]] * 2)
    return torch.minimum(torch.cat([middle - half, middle + half], -1).clamp(min=0), most)
