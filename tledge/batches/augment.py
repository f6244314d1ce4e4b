"""Random changes of training images: drawn row by row on the host, done to whole batches on the device that trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tledge.batches.randaugment import OPERATIONS, operate
from tledge.recipe.schema import Augmentation

ASPECT = (3 / 4, 4 / 3)
TRIES = 10
"""Cuts that are drawn for an image until one lies inside it, as torchvision draws them."""
SAMPLES = 2
"""Points a side of a pixel that a cut is sampled at: it shrinks what is kept to half a side at most."""
GRAY = (0.299, 0.587, 0.114)

Seed = tuple[int, ...]
"""Whole numbers of 0 or more, from which all changes of one image follow."""
Sides = npt.NDArray[np.int64]
"""`(batch, 2)`, height before width."""


@dataclass(frozen=True, slots=True)
class Augment:
    """Changes training images at random, as a recipe's `augmentation` says.

    What is cut out of an image, and how it is changed, is given in shares of its sides, so that the same seeds change
    the same image alike in every size.
    """

    settings: Augmentation

    NAMES: ClassVar[tuple[str, ...]] = ("flips", "matrix", "box", "colors", "operations")

    @classmethod
    def of(cls, settings: Augmentation) -> Augment | None:
        """The changes that a recipe asks for; `None` where single images are left as they are."""
        return cls(settings) if settings.changes_images else None

    @property
    def cuts(self) -> bool:
        """Whether parts of images are cut out, for which more of them is kept than the model takes."""
        return self.settings.min_scale < 1

    def enlarged(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the smallest cut has about the model's `size`; at most twice that."""
        factor = min(2.0, 1 / math.sqrt(self.settings.min_scale * ASPECT[0]))
        return math.ceil(size[0] * factor), math.ceil(size[1] * factor)

    def draw(
        self,
        seeds: Sequence[Seed],
        kept: npt.NDArray[np.int64],
        originals: npt.NDArray[np.int64],
        size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """What a call does to each image of a batch.

        Args:
            seeds: one for each image.
            kept: height and width of the images.
            originals: those of the files that they come from, in whose pixels cuts are drawn.
            size: height and width of the changed images.

        Returns:
            `matrix`, `(batch, 2, 3) float32`, from places about the middle of a changed image to pixels of the kept
            one, x before y; `box`, `(batch, 2, 2) float32`, where the part that is shown begins and ends there;
            `flips`, `(batch, 2) bool`, left with right and top with bottom; `colors`, `(batch, 3) float32`, factors of
            brightness, contrast and saturation, in this order; `operations`, `(batch, n, 2) int64`, as `operate` takes
            them.
        """
        settings = self.settings
        n_fixed = 8 + 2 * TRIES
        words = n_fixed + 2 * settings.randaugment
        uniform = np.stack([np.random.SeedSequence(each).generate_state(words) for each in seeds]) / 2.0**32
        flips = uniform[:, :2] < [
            0.5 * (settings.flip in ("horizontal", "both")),
            0.5 * (settings.flip in ("vertical", "both")),
        ]
        drawn: dict[str, npt.NDArray[Any]] = {"flips": flips}
        if self.cuts or settings.rotation_degrees:
            start, share = self._cut(uniform[:, 6:n_fixed], originals)
            angles = np.radians(settings.rotation_degrees) * (2 * uniform[:, 2] - 1)
            drawn |= _mapping(start, share, angles, flips, kept[:, ::-1], size)
        if settings.color:
            drawn["colors"] = (1 + settings.color * (2 * uniform[:, 3:6] - 1)).astype(np.float32)
        if settings.randaugment:
            of_kind, sign = uniform[:, n_fixed:].reshape(len(seeds), 2, -1).swapaxes(0, 1)
            chosen = np.stack([(of_kind * len(OPERATIONS)).astype(np.int64), np.where(sign < 0.5, -1, 1)], -1)
            drawn["operations"] = chosen
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in drawn.items()}

    def __call__(self, images: Tensor, drawn: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        """The changed images, `(batch, 3, height, width) uint8`, of `size`.

        Args:
            images: `(batch, height, width, 3) uint8`; what lies beyond an image's own height and width is not seen.
            drawn: as `draw` gives it, on the images' device.
            size: height and width that it was drawn for.
        """
        settings, changed = self.settings, images.permute(0, 3, 1, 2)
        if "matrix" in drawn:
            samples = SAMPLES if self.cuts else 1
            changed = _resampled(changed, drawn["matrix"], drawn["box"], size, samples, bool(settings.rotation_degrees))
        else:
            across, down = drawn["flips"][:, :, None, None, None].unbind(1)
            changed = torch.where(across, changed.flip(3), changed)
            changed = torch.where(down, changed.flip(2), changed)
        if settings.color:
            changed = _recoloured(changed.float(), drawn["colors"])
        if changed.is_floating_point():
            changed = changed.round().clamp_(0, 255).to(torch.uint8)
        if settings.randaugment:
            changed = operate(changed, drawn["operations"], settings.randaugment_magnitude)
        return changed

    def _cut(
        self, uniform: npt.NDArray[np.float64], originals: Sides
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Where cuts begin and how long their sides are, each `(batch, 2)`, x before y, in shares of the images' sides.

        Drawn in whole pixels as by torchvision's `RandomResizedCrop` (Szegedy et al. 2015): the first of some that lies
        inside the image, else the largest in its middle.
        """
        sides = originals[:, ::-1].astype(np.float64)
        if not self.cuts:
            return np.zeros_like(sides), np.ones_like(sides)
        tried = uniform[:, 2:].reshape(len(uniform), 2, TRIES)
        area = (self.settings.min_scale + (1 - self.settings.min_scale) * tried[:, 0]) * sides.prod(1)[:, None]
        ratio = np.exp(np.log(ASPECT[0]) + (np.log(ASPECT[1]) - np.log(ASPECT[0])) * tried[:, 1])
        cuts = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], -1).round()
        fitting = np.logical_and.reduce((cuts > 0) & (cuts <= sides[:, None]), axis=-1)
        cut = np.take_along_axis(cuts, np.argmax(fitting, 1)[:, None, None], 1)[:, 0]
        largest = np.minimum(sides, (sides[:, ::-1] * [ASPECT[1], 1 / ASPECT[0]]).round())
        found = np.any(fitting, 1)[:, None]
        cut = np.where(found, cut, largest)
        room = sides - cut
        start = np.where(found, np.floor(uniform[:, :2] * (room + 1)), room // 2)
        return start / sides, cut / sides


def _mapping(
    start: npt.NDArray[np.float64],
    share: npt.NDArray[np.float64],
    angles: npt.NDArray[np.float64],
    flips: npt.NDArray[np.bool_],
    kept: npt.NDArray[np.int64],
    size: tuple[int, int],
) -> dict[str, npt.NDArray[np.float32]]:
    """`matrix` and `box` of cuts that are resized, then mirrored, then turned by angles against the clock, in radians.

    `kept` is `(batch, 2)`, x before y.
    """
    height, width = size
    sine, cosine = np.sin(angles), np.cos(angles)
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], 1)
    scale = kept * share / [width, height] * np.where(flips, -1, 1)
    middle = kept * (start + share / 2)
    box = np.stack([kept * start, kept * (start + share)], -1)
    matrix = np.concatenate([scale[:, :, None] * turn, middle[:, :, None]], -1)
    return {"matrix": matrix.astype(np.float32), "box": box.astype(np.float32)}


def _resampled(
    images: Tensor, matrix: Tensor, box: Tensor, size: tuple[int, int], samples: int, turned: bool
) -> Tensor:
    """`(batch, 3, height, width) float32`, bilinear, each pixel the mean of `samples` points a side.

    Turned images are black where there is nothing of the part that is shown.
    """
    height, width = size
    device = matrix.device
    down, across = (
        (torch.arange(side * samples, device=device) + 0.5) / samples - side / 2 for side in (height, width)
    )
    # Here the sides of what is kept go from -1 to 1, as grid_sample counts.
    pixel = 2 / torch.tensor([images.shape[3], images.shape[2]], dtype=torch.float32, device=device)[:, None]
    by_x, by_y, middle = (matrix * pixel)[..., None, None].unbind(2)
    first, last = (box * pixel - 1)[..., None, None].unbind(2)
    places = by_x * across + (by_y * down[:, None] + (middle - 1))
    half = pixel[:, None] / 2
    held = places.clamp(first + half, last - half).permute(0, 2, 3, 1)
    changed = F.grid_sample(images.float(), held, mode="bilinear", align_corners=False)
    if turned:
        changed *= ((places >= first) & (places <= last)).all(1, keepdim=True)
    return F.avg_pool2d(changed, samples) if samples > 1 else changed


def _recoloured(images: Tensor, factors: Tensor) -> Tensor:
    """Images, `(batch, 3, height, width) float32` of 0 to 255, with brightness, contrast and saturation changed."""
    weights = torch.tensor(GRAY, device=images.device)[:, None, None]
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    images = (images * brightness).clamp(0, 255)
    mean = (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = (mean + contrast * (images - mean)).clamp(0, 255)
    gray = (images * weights).sum(1, keepdim=True)
    return (gray + saturation * (images - gray)).clamp(0, 255)
