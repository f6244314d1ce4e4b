"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): images of a training batch blended, and their labels too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from tledge.batches import Columns
from tledge.recipe.schema import Augmentation


class Mix:
    """Blends the images of a batch with one another, as a recipe's `augmentation` says.

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
        images, shares, _ = self._mixed(pixel_values, labels, None)
        return images, shares

    def beside(
        self, pixel_values: Tensor, labels: Tensor, teacher_pixel_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As a call gives them, and with the same parts of the same images mixed what a teacher sees.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.
            labels: `(batch,) int64`, label indices.
            teacher_pixel_values: `(batch, 3, height, width) float32`; height and width may be others.
        """
        images, shares, theirs = self._mixed(pixel_values, labels, teacher_pixel_values)
        assert theirs is not None
        return images, shares, theirs

    def _mixed(
        self, pixel_values: Tensor, labels: Tensor, teacher_pixel_values: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        chosen = self._choices[int(torch.randint(len(self._choices), ()))]
        how = {"labels": labels, "batch_size": len(labels), **chosen.make_params([pixel_values])}
        images, shares = chosen.transform(pixel_values, how), chosen.transform(labels, how)
        if teacher_pixel_values is None:
            return images, shares, None
        if "box" in how:
            scale = [theirs / own for own, theirs in zip(pixel_values.shape, teacher_pixel_values.shape, strict=True)]
            how["box"] = tuple(round(at * scale[3 - i % 2]) for i, at in enumerate(how["box"]))
        return images, shares, chosen.transform(teacher_pixel_values, how)


class Mixed(Columns):
    """Training rows whose batches are mixed."""

    def __init__(self, rows: Columns, mix: Mix) -> None:
        """Wrap rows that come with `pixel_values` and `labels`.

        `teacher_pixel_values` are mixed alike; of a pair both must be `labelled` where a batch says so.
        """
        self._rows, self._mix = rows, mix
        self.lengths, self.decodes = rows.lengths, rows.decodes

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The batch before it is mixed."""
        return self._rows.take(rows, seed)

    def on(self, device: torch.device) -> Mixed:
        """On the device, as far as it fits."""
        return Mixed(self._rows.on(device), self._mix)

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """The mixed batch of these rows."""
        batch = self._rows.finish(batch, seed)
        if "labelled" in batch:
            batch["labelled"] = batch["labelled"] & batch["labelled"].roll(1)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if "teacher_pixel_values" not in batch:
                batch["pixel_values"], batch["labels"] = self._mix(batch["pixel_values"], batch["labels"])
                return batch
            own, labels, theirs = self._mix.beside(
                batch["pixel_values"], batch["labels"], batch["teacher_pixel_values"]
            )
        batch |= {"pixel_values": own, "labels": labels, "teacher_pixel_values": theirs}
        return batch
