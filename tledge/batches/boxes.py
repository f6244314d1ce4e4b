"""Boxes of training images: moved as the images are, and four images as one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GONE, UNSURE = 0.1, 0.4
"""Shares of a box: it is dropped where less than the first is left of it, and ignored below the second."""


def moved(targets: Tensor, drawn: Mapping[str, Tensor], kept: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Where boxes are in changed images: what is around them there, cut at the edges.

    Args:
        targets: `(batch, most, 6) float32`: label, xmin, ymin, xmax, ymax in pixels of the kept images, and whether the
            box is ignored; -1 in padding.
        drawn: as `Augment.draw` gives it.
        kept: height and width of the images before.
        size: height and width of the changed ones.
    """
    corners = targets[..., [1, 2, 3, 2, 3, 4, 1, 4]].unflatten(-1, (4, 2))  # type: ignore[no-untyped-call]
    middle = torch.tensor([size[1] / 2, size[0] / 2])
    if "matrix" in drawn:
        to_kept = drawn["matrix"][:, None]
        back = torch.linalg.inv(to_kept[..., :2])
        corners = (corners - to_kept[..., 2][:, :, None]) @ back.mT + middle
    else:
        scale = torch.tensor([size[1] / kept[1], size[0] / kept[0]])
        signs = torch.where(drawn["flips"], -1.0, 1.0)[:, None, None]
        corners = (corners * scale - middle) * signs + middle
    boxes = torch.cat([corners.amin(-2), corners.amax(-2)], -1)
    return cut(torch.cat([targets[..., :1], boxes, targets[..., 5:]], -1), size)


def cut(targets: Tensor, size: tuple[int, int]) -> Tensor:
    """Targets whose boxes end at the edges of images; see `GONE` and `UNSURE` for what is over them."""
    height, width = size
    boxes = targets[..., 1:5]
    inside = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height], dtype=boxes.dtype))
    left = _area(inside) / _area(boxes).clamp(min=1e-6)
    ignored = torch.where(left < UNSURE, torch.ones(()), targets[..., 5])
    found = torch.cat([targets[..., :1], inside, ignored[..., None]], -1)
    there = (targets[..., 0] >= 0) & (left >= GONE)
    return torch.where(there[..., None], found, torch.full((), -1.0))


def _area(boxes: Tensor) -> Tensor:
    """`(...)` of boxes `(..., 4)`."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def mosaic(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each four images as one of their size, at half of it and side by side (Bochkovskiy et al. 2020, section 3.3).

    Args:
        images: `(4 * batch, height, width, 3) uint8`.
        targets: `(4 * batch, most, 6)`, as for `moved`.

    Returns:
        `(batch, height, width, 3) uint8` and `(batch, 4 * most, 6)`.
    """
    height, width = images.shape[1:3]
    top, left = height // 2, width // 2
    halves = torch.nn.functional.interpolate(
        images.permute(0, 3, 1, 2).float(), size=(height - top, width - left), mode="bilinear", antialias=True
    )
    small = halves.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    whole = images.new_zeros(len(images) // 4, height, width, 3)
    parts = []
    for i, (y, x) in enumerate(((0, 0), (0, left), (top, 0), (top, left))):
        whole[:, y : y + height - top, x : x + width - left] = small[i::4]
        scale = torch.tensor([(width - left) / width, (height - top) / height] * 2)
        part = targets[i::4].clone()
        there = part[..., :1] >= 0
        part[..., 1:5] = torch.where(there, part[..., 1:5] * scale + torch.tensor([x, y] * 2), part[..., 1:5])
        parts.append(part)
    return whole, torch.cat(parts, 1)
