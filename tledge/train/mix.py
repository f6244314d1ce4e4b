"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): images of a training batch blended, and their labels too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tledge.batches import Columns
from tledge.recipe.schema import Augmentation

IMAGES = ("pixel_values", "teacher_pixel_values")


@dataclass(frozen=True, slots=True)
class Mix:
    """Blends the images of a batch with one another, as a recipe's `augmentation` says.

    mix = Mix(Augmentation(mixup=0.2, cutmix=1.0), n_labels=3)
    batch = mix(batch, seed=7)
    """

    settings: Augmentation
    n_labels: int

    def __call__(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """The batch with each image mixed with the one before it, and shares of labels, `(batch, labels) float32`.

        With `mixup` and `cutmix` each batch gets one of them.

        Args:
            batch: `pixel_values`, `(batch, 3, height, width) float32`, and `labels`, `(batch,) int64`, label indices.
                `teacher_pixel_values` of any height and width are mixed alike, and of a pair both must be `labelled`
                where a batch says so.
            seed: the same for the same mixture.
        """
        rng = np.random.default_rng((seed, 1))
        mixup, cutmix = self.settings.mixup, self.settings.cutmix
        pastes = bool(cutmix) and (not mixup or bool(rng.integers(2)))
        alpha = cutmix if pastes else mixup
        share = float(rng.beta(alpha, alpha))
        change: Callable[[Tensor, Tensor], Tensor] = partial(blended, share=share)
        if pastes:
            height, width = batch["pixel_values"].shape[-2:]
            box, share = cut(share, float(rng.random()), float(rng.random()), (height, width))
            change = partial(pasted, box=box)
        mixed = {name: change(batch[name], batch[name].roll(1, 0)) for name in IMAGES if name in batch}
        labels = F.one_hot(batch["labels"], self.n_labels).float()
        mixed["labels"] = blended(labels, labels.roll(1, 0), share=share)
        if "labelled" in batch:
            mixed["labelled"] = batch["labelled"] & batch["labelled"].roll(1)
        return batch | mixed


class Mixed(Columns):
    """Training rows whose batches are mixed."""

    def __init__(self, rows: Columns, mix: Mix) -> None:
        self._rows, self._mix = rows, mix
        self.lengths, self.decodes, self.large = rows.lengths, rows.decodes, rows.large

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The batch before it is mixed."""
        return self._rows.take(rows, seed)

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """The mixed batch of these rows."""
        return self._mix(self._rows.finish(batch, seed), seed)

    def on(self, device: torch.device) -> Mixed:
        """On the device, as far as it fits."""
        return Mixed(self._rows.on(device), self._mix)


def blended(own: Tensor, other: Tensor, *, share: float) -> Tensor:
    """`share` of one batch and the rest of another."""
    return other + share * (own - other)


def pasted(own: Tensor, other: Tensor, *, box: tuple[float, float, float, float]) -> Tensor:
    """Images with a part of others: from top to bottom and from left to right, in shares of the sides."""
    height, width = own.shape[-2:]
    top, bottom, left, right = (round(at * side) for at, side in zip(box, (height, height, width, width), strict=True))
    mixed = own.clone()
    mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    return mixed


def cut(share: float, y: float, x: float, size: tuple[int, int]) -> tuple[tuple[float, float, float, float], float]:
    """The part that is pasted into images of a height and width, in shares of their sides, and the share that is left.

    Args:
        share: what should be left.
        y: where the middle of the part lies from the top, 0 to 1; what would lie outside is cut off.
        x: where it lies from the left.
        size: height and width, in whole pixels of which the part is.
    """
    half = math.sqrt(1 - share) / 2
    top, bottom, left, right = (
        min(max(round((middle + reach) * side), 0), side) / side
        for middle, side in zip((y, x), size, strict=True)
        for reach in (-half, half)
    )
    return (top, bottom, left, right), 1 - (bottom - top) * (right - left)
