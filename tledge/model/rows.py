"""Where training takes its batches from: the rows themselves, or what a frozen part of the model made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tledge.model import features, image_features
from tledge.model.batches import Batches
from tledge.model.features import Compute
from tledge.model.images import Augment, ImageEncoder, Images
from tledge.progress import Progress
from tledge.recipe.schema import Augmentation

TRAINING, VALIDATION = "training", "validation"


@dataclass(frozen=True, slots=True)
class Rows:
    """Values and their targets: texts or images, and what the task's `targets` gives, one for each."""

    values: Sequence[Any]
    targets: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sets:
    """Batches that train and batches that are scored, and a line about them for the report."""

    train: Batches
    validation: Batches
    note: str


class Source(Protocol):
    """The rows of one training in the forms that the ladder asks for.

    `decodes` says whether the rows themselves are images, whose reading takes longer than a small head's step.
    """

    @property
    def decodes(self) -> bool: ...

    def whole(self) -> Sets:
        """The model's own inputs, made anew for each batch."""

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """`features`, `(batch, n_features) float32`, that `compute` gave once."""

    def activated(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """`activations`, `(batch, ...) float32`, that `compute` gave once, with the inputs that are still needed."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows of texts."""

    train: Rows
    validation: Rows
    encoder: features.Encoder
    n_features: int
    cache: Path
    progress: Progress
    decodes: bool = False

    def whole(self) -> Sets:
        """Tensors of texts, padded to the longest of their batch."""
        train, validation = (
            Batches(partial(_encoded, self.encoder, rows.values), rows.targets)
            for rows in (self.train, self.validation)
        )
        return Sets(train, validation, "")

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One feature vector for each text."""
        train, validation = (
            self._cached(compute, rows, identity, f"Backbone over the {name} rows", False, device)
            for rows, name in ((self.train, TRAINING), (self.validation, VALIDATION))
        )
        return Sets(
            Batches(partial(_vectors, train), self.train.targets),
            Batches(partial(_vectors, validation), self.validation.targets),
            "features kept in the cache",
        )

    def activated(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One vector for each token, and the texts' own tensors."""
        train, validation = (
            Batches(
                partial(
                    _tokens,
                    self.encoder,
                    rows.values,
                    self._cached(compute, rows, identity, f"Frozen blocks over the {name} rows", True, device),
                ),
                rows.targets,
            )
            for rows, name in ((self.train, TRAINING), (self.validation, VALIDATION))
        )
        return Sets(train, validation, "")

    def _cached(
        self, compute: Compute, rows: Rows, identity: str, description: str, per_token: bool, device: torch.device
    ) -> features.Features:
        return features.cached(
            compute,
            self.encoder,
            rows.values,
            identity=identity,
            hidden_size=self.n_features,
            per_token=per_token,
            folder=self.cache,
            progress=self.progress,
            description=description,
            device=device,
        )


@dataclass(frozen=True, slots=True)
class Photos:
    """Rows of images: those that train are changed by `augment`, where there is one, and the others never."""

    train: Rows
    validation: Rows
    encoder: ImageEncoder
    augment: Augment | None
    settings: Augmentation
    seed: int
    cache: Path
    progress: Progress
    decodes: bool = True

    def whole(self) -> Sets:
        """Pixels, read and changed anew for each batch."""
        train, validation = self._images()
        return Sets(Batches(train.batch, self.train.targets), Batches(validation.batch, self.validation.targets), "")

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One feature vector for each image: each time that of one of its views."""
        return self._cached(compute, identity, "Backbone", "features", device)

    def activated(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """What the frozen blocks gave for each image: each time for one of its views."""
        return self._cached(compute, identity, "Frozen blocks", "activations", device)

    def _cached(self, compute: Compute, identity: str, who: str, what: str, device: torch.device) -> Sets:
        found = [
            image_features.cached(
                compute,
                images,
                identity=identity,
                half=what == "activations",
                folder=self.cache,
                progress=self.progress,
                description=f"{who} over the {name} images",
                device=device,
            )
            for images, name in zip(self._images(), (TRAINING, VALIDATION), strict=True)
        ]
        train, validation = (
            Batches(partial(_view, what, each), rows.targets)
            for each, rows in zip(found, (self.train, self.validation), strict=True)
        )
        views = "" if self.augment is None else f" of {self.settings.views} views of each training image"
        return Sets(train, validation, f"{what}{views} kept in the cache")

    def _images(self) -> tuple[Images, Images]:
        plain = Images(self.validation.values, self.encoder)
        if self.augment is None:
            return Images(self.train.values, self.encoder), plain
        changes = self.settings.model_dump_json(exclude={"views", "mixup", "cutmix"})
        changed = Images(self.train.values, self.encoder, self.augment, changes, self.settings.views, self.seed)
        return changed, plain


def _encoded(encoder: features.Encoder, values: Sequence[Any], rows: list[int]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in encoder.encode([values[i] for i in rows]).items()}


def _vectors(found: features.Features, rows: list[int]) -> dict[str, Tensor]:
    return {"features": torch.from_numpy(found.vectors[rows])}


def _view(name: str, found: image_features.ImageFeatures, rows: list[int]) -> dict[str, Tensor]:
    return {name: found.take(rows)}


def _tokens(
    encoder: features.Encoder, values: Sequence[Any], found: features.Features, rows: list[int]
) -> dict[str, Tensor]:
    """Activations scattered to the places of their tokens, and zeros where texts are padded."""
    encoded = encoder.encode([values[i] for i in rows])
    mask = encoded["attention_mask"].astype(bool)
    hidden = np.zeros((*mask.shape, found.vectors.shape[1]), np.float32)
    for row, number in enumerate(rows):
        hidden[row, mask[row]] = found.vectors[found.offsets[number] : found.offsets[number + 1]]
    return {"activations": torch.from_numpy(hidden)} | {n: torch.from_numpy(a) for n, a in encoded.items()}
