"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): images of a training batch blended, and their labels too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from tledge.recipe.schema import Augmentation


class Mix:
    """Blends the images of a batch with one another, as a recipe's `finetune.augmentation` says.

    mix = Mix(Augmentation(mixup=0.2, cutmix=1.0), n_labels=3)
    pixel_values, shares = mix(pixel_values, labels)
    """

    def __init__(self, settings: Augmentation, n_labels: int) -> None:
        """Prepare what `settings.mixup` and `settings.cutmix` ask for; with both, each batch gets one of them."""
        self._choices: list[Any] = [
            kind(alpha=alpha, num_classes=n_labels)
            for kind, alpha in ((v2.MixUp, settings.mixup), (v2.CutMix, settings.cutmix))
            if alpha
        ]

    def __call__(self, pixel_values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images and the share of each label, `(batch, labels) float32`.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.
            labels: `(batch,) int64`, label indices.
        """
        chosen = self._choices[int(torch.randint(len(self._choices), ()))]
        images, shares = chosen(pixel_values, labels)
        return images, shares


class Mixed(Dataset[Any]):
    """Training rows whose batches are mixed."""

    def __init__(self, rows: Any, mix: Mix) -> None:
        """Wrap rows that come in ready batches with `pixel_values` and `labels`."""
        self._rows, self._mix = rows, mix

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, numbers: list[int]) -> dict[str, Tensor]:
        """The mixed batch of these rows."""
        batch = dict(self._rows.__getitems__(numbers))
        batch["pixel_values"], batch["labels"] = self._mix(batch["pixel_values"], batch["labels"])
        return batch
