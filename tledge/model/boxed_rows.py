"""Images with boxes as rows of a training: decoded once, and changed together with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tledge.batches import Augment, Columns
from tledge.batches.boxes import cut, mosaic, moved
from tledge.model.pictures import Pictures, threads
from tledge.model.rows import TRAINING, VALIDATION, Rows, Sets
from tledge.progress import Progress
from tledge.recipe.schema import Finetune

OF_A_MOSAIC = 4
_SHARES = 10_000
"""A side of an image for what is cut out of it: its sides are changed alike, whatever their proportions."""
_GAP = 4  # pixels between the images of a contact sheet


@dataclass(frozen=True, eq=False)
class BoxedPictures(Columns):
    """Images in the model's size and normalisation, and their boxes; `augment` changes both together.

    Batches have `pixel_values`, as those of `Pictures`, and twice the same boxes: as `targets`, which the model takes,
    and as `labels`, which losses do: `(batch, most, 6) float32`, label, xmin, ymin, xmax, ymax in pixels of the input,
    and whether the box is ignored, with -1 in padding.

    `pictures` are the images as they are kept, of one size, and `boxes` those of the rows, `(rows, most, 6)`, in pixels
    of the files. `encoder` is an `Input` of `tledge.inputs.boxed_image`. A share
    `mosaic` of the images is made of four.
    """

    pictures: Pictures
    boxes: npt.NDArray[np.float32]
    encoder: Any
    augment: Augment | None = None
    mosaic: float = 0.0
    without_mosaic: float = 0.0
    large = True

    @property
    def decodes(self) -> bool:  # type: ignore[override]
        """Whether images are decoded for each batch."""
        return self.pictures.decodes

    def __len__(self) -> int:
        return len(self.pictures)

    def at(self, epochs_left: float) -> BoxedPictures:
        """Without mosaics in the last epochs."""
        return replace(self, mosaic=0.0) if epochs_left <= self.without_mosaic else self

    def on(self, device: torch.device) -> BoxedPictures:
        """Images on the device, if they fit."""
        return replace(self, pictures=self.pictures.on(device))

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The images of these rows as they are kept, their changes, and where their boxes then are."""
        numbers: list[int] = rows.tolist()
        images, targets = self._taken(numbers, seed)
        drawn: dict[str, Tensor] = {}
        if self.augment is None:
            targets = cut(targets, self.encoder.size)
        else:
            kept = np.tile(self._kept_size, (len(numbers), 1))
            seeds = [(seed, row) for row in numbers]
            drawn = self.augment.draw(seeds, kept, np.full_like(kept, _SHARES), self.encoder.size)
            targets = moved(targets, drawn, self._kept_size, self.encoder.size)
        return {"pixels": images, "targets": targets, "labels": targets, **drawn}

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """`pixel_values` in place of the images and their changes."""
        images = self.changed(batch).permute(0, 2, 3, 1)
        return {
            "pixel_values": self.pictures.normalised(images),
            "targets": batch["targets"],
            "labels": batch["labels"],
        }

    def changed(self, batch: dict[str, Tensor]) -> Tensor:
        """The images of a batch that was taken, changed but not normalised: `(batch, 3, height, width) uint8`."""
        if self.augment is None:
            return batch["pixels"].permute(0, 3, 1, 2)
        drawn = {name: batch[name] for name in Augment.NAMES if name in batch}
        return self.augment(batch["pixels"], drawn, self.encoder.size)

    @property
    def _kept_size(self) -> tuple[int, int]:
        return self.pictures.encoder.size

    def _taken(self, rows: list[int], seed: int) -> tuple[Tensor, Tensor]:
        """Images as they are kept, and their boxes there; some of them mosaics."""
        random = np.random.default_rng((seed, len(self)))
        of_four = random.random(len(rows)) < self.mosaic
        others = random.integers(len(self), size=(int(of_four.sum()), OF_A_MOSAIC - 1))
        images, sides = self.pictures.images([*rows, *others.flatten().tolist()])
        targets = self._targets([*rows, *others.flatten().tolist()], sides[:, 2:])
        if not of_four.any():
            return images, targets
        chosen = np.flatnonzero(of_four)
        places = np.concatenate([chosen[:, None], len(rows) + np.arange(others.size).reshape(others.shape)], 1)
        together, theirs = mosaic(images[torch.from_numpy(places.flatten())], targets[places.flatten()])
        images, targets = images[: len(rows)].clone(), targets[: len(rows)]
        images[torch.from_numpy(chosen).to(images.device)] = together
        wide = targets.new_full((len(rows), theirs.shape[1], targets.shape[2]), -1)
        wide[:, : targets.shape[1]] = targets
        wide[chosen] = theirs
        return images, wide

    def _targets(self, rows: Sequence[int], sides: npt.NDArray[np.int64]) -> Tensor:
        """The boxes of some rows in pixels of the images as they are kept."""
        boxes = self.boxes[list(rows)]
        most = max(1, int((boxes[..., 0] >= 0).sum(1).max(initial=0)))
        found = boxes[:, :most].copy()
        way = self.pictures.encoder.way  # type: ignore[attr-defined]
        for each, (height, width) in zip(found, sides.tolist(), strict=True):
            there = each[:, 0] >= 0
            each[there, 1:5] = way.to_input(each[there, 1:5], height, width)
        return torch.from_numpy(found)


@dataclass(frozen=True)
class BoxedPhotos:
    """The rows of a training: those that train are changed at random, as `settings.augmentation` says.

    Images are decoded once, unless `settings.cache` is off.
    """

    train: Rows
    validation: Rows
    encoder: Any
    settings: Finetune
    seed: int
    cache: Path
    progress: Progress

    def whole(self) -> Sets:
        """Pixels and boxes, changed anew for each batch."""
        train, validation = self._sides
        note = "; ".join(dict.fromkeys(each.pictures.note for each in self._sides))
        return Sets(train, validation, note)

    def pooled(self, *_: Any) -> Sets:
        """Not asked for: a detector's features are maps."""
        raise NotImplementedError

    def activated(self, *_: Any) -> Sets:
        """Not asked for, as `pooled`."""
        raise NotImplementedError

    @cached_property
    def _sides(self) -> tuple[BoxedPictures, BoxedPictures]:
        train = boxed(self.train.values, self.train.targets, self.encoder, self.settings)
        validation = boxed(self.validation.values, self.validation.targets, self.encoder, self.settings, changed=False)
        if not self.settings.cache:
            return train, validation
        kept = (
            replace(
                each,
                pictures=each.pictures.keep(
                    self.cache, progress=self.progress, description=f"Decoding the {name} images"
                ),
            )
            for each, name in ((train, TRAINING), (validation, VALIDATION))
        )
        return next(kept), next(kept)


def boxed(
    values: Sequence[Any], targets: npt.NDArray[Any], encoder: Any, settings: Finetune, *, changed: bool = True
) -> BoxedPictures:
    """Images with their boxes as columns; those that train are `changed` as the settings say.

    Args:
        values: images.
        targets: `(rows, most, 6)` in pixels of the upright images, as `BoxedPictures` has them.
        encoder: an `Input` of `tledge.inputs.boxed_image`.
        settings: of the training.
        changed: whether they are to be changed at random.
    """
    augment = Augment(settings.augmentation) if changed else None
    own = encoder.facts
    size = augment.enlarged(own.size) if augment is not None and augment.cuts else own.size
    larger = type(encoder)(replace(own, size=size, resize=size)) if size != own.size else encoder
    return BoxedPictures(
        Pictures(values, larger, threads=threads(settings.workers)),
        np.asarray(targets, np.float32),
        encoder,
        augment,
        settings.augmentation.mosaic if changed else 0.0,
        settings.augmentation.epochs_without_mosaic,
    )


def boxed_sheet(columns: BoxedPictures, rows: Sequence[int], *, n: int = 5, seed: int = 0) -> Image.Image:
    """A grid with a row for each image: as the model sees it in evaluation, and `n` of its changed copies, with boxes.

    Boxes that are ignored are grey.
    """
    plain = replace(columns, augment=None, mosaic=0.0)
    if plain.pictures.encoder is not columns.encoder:
        plain = replace(plain, pictures=replace(plain.pictures, encoder=columns.encoder, kept=None))
    height, width = columns.encoder.size
    sheet = Image.new("RGB", ((n + 1) * (width + _GAP) - _GAP, len(rows) * (height + _GAP) - _GAP), "white")
    for column in range(n + 1):
        each = plain if column == 0 else columns
        batch = each.take(torch.tensor(rows), seed + column)
        for i, image in enumerate(each.changed(batch).permute(0, 2, 3, 1).numpy()):
            drawn = with_boxes(Image.fromarray(image), batch["targets"][i].numpy())
            sheet.paste(drawn, (column * (width + _GAP), i * (height + _GAP)))
    return sheet


def with_boxes(image: Image.Image, targets: npt.NDArray[np.float32]) -> Image.Image:
    """An image on which boxes are drawn, each label in a colour of its own."""
    draw = ImageDraw.Draw(image)
    for label, xmin, ymin, xmax, ymax, ignored in targets[targets[:, 0] >= 0].tolist():
        colour = "gray" if ignored else f"hsl({round(label * 137.5) % 360}, 100%, 50%)"
        draw.rectangle((xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)), outline=colour, width=2)
    return image
