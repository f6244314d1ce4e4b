"""Where training takes its batches from: the rows themselves, or what a frozen part of the model made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from tledge.batches import Augment, Beside, Columns, TokenVectors, Values, Views, tokenized
from tledge.model import features, image_features
from tledge.model.features import Compute
from tledge.model.pictures import Pictures, threads
from tledge.progress import Progress, silent
from tledge.recipe.schema import Finetune

TRAINING, VALIDATION = "training", "validation"
PIXELS_LATER = ("probe_then_full", "gradual")
"""Strategies that begin on features and go on with the images themselves, which are then decoded once for both."""


@dataclass(frozen=True)
class Rows:
    """Values and their targets: texts or images, and what the task's `targets` gives, one for each.

    `per_token` says whether the frozen backbone's features are one vector for each token, and not for each row;
    `counted` are the labels that a loss counts.
    """

    values: Sequence[Any]
    targets: npt.NDArray[Any]

    per_token = False

    @property
    def counted(self) -> npt.NDArray[Any]:
        """All targets."""
        return self.targets

    def labels(self) -> Columns:
        """The targets as `labels`."""
        return Values({"labels": torch.from_numpy(np.array(self.targets))})

    def columns(self, encoder: Any, **settings: Any) -> Columns:
        """What a model reads of the values, as `read` makes it."""
        return read(encoder, self.values, **settings)

    def joined(self, outputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """The outputs of the values from those of the rows of a training, which are the same."""
        return dict(outputs)


@dataclass(frozen=True)
class KeptRows(Rows):
    """Rows of several trainings: texts are tokenized once for all of them."""

    made: dict[str, Columns] = field(default_factory=dict)

    def columns(self, encoder: Any, **settings: Any) -> Columns:
        """What a model reads of the values, made where it was not before."""
        if encoder.identity not in self.made:
            self.made[encoder.identity] = super().columns(encoder, **settings)
        return self.made[encoder.identity]


def read(
    encoder: Any,
    values: Sequence[Any],
    *,
    progress: Progress = silent,
    name: str = TRAINING,
    augment: Augment | None = None,
    prefix: str = "",
    cache: Path | None = None,
    workers: int | None = None,
) -> Columns:
    """What a model reads of some values: texts are tokenized here, once, and images decoded once where they are kept.

    Args:
        encoder: an `Input` of `tledge.inputs`.
        values: texts, or what else it takes; a column on disk will do.
        progress: shown by texts or images.
        name: of the rows, for the progress bar.
        augment: changes an image at random.
        prefix: what the names of a batch's tensors begin with.
        cache: keeps decoded images; `None` for images that are decoded for each batch.
        workers: threads that decode; see the recipe's key.
    """
    if not encoder.decodes:
        return tokenized(encoder, values, progress=progress, description=f"Tokenizing the {name} texts", prefix=prefix)
    pictures = Pictures(values, encoder, augment, prefix, threads(workers))
    if cache is None:
        return pictures
    return pictures.keep(cache, progress=progress, description=f"Decoding the {name} images")


@dataclass(frozen=True, slots=True)
class Sets:
    """Rows that train and rows that are scored, with `labels`, and a line about them for the report.

    `others` are further rows by name, in the same form and without `labels`.
    """

    train: Columns
    validation: Columns
    note: str
    others: Mapping[str, Columns] = field(default_factory=dict)


class Source(Protocol):
    """The rows of one training in the forms that the strategies ask for."""

    def whole(self) -> Sets:
        """The model's own inputs."""

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """`features`, `(batch, n_features) float32`, that `compute` gave once."""

    def activated(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """`activations`, `(batch, ...) float32`, that `compute` gave once, with the inputs that are still needed."""


@dataclass(frozen=True)
class Texts:
    """Rows of texts, which are tokenized once for all that is made of them."""

    train: Rows
    validation: Rows
    encoder: Any
    n_features: int
    cache: Path
    progress: Progress
    others: Mapping[str, Rows] = field(default_factory=dict)

    def whole(self) -> Sets:
        """Tensors of texts, padded to the longest of their batch."""
        return self._sets([tokens for _, _, tokens in self._sides], "")

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One feature vector for each text, or token; rows meet in the same batches as the texts themselves."""
        found: list[Columns] = [
            TokenVectors("features", each.vectors, each.offsets, tokens.pads_left)
            if rows.per_token
            else Values({"features": each.vectors}, tokens.lengths)
            for (rows, each), (_, _, tokens) in zip(
                self._cached(compute, identity, "Backbone", self.train.per_token, device), self._sides, strict=True
            )
        ]
        return self._sets(found, "features kept in the cache")

    def activated(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One vector for each token, and the texts' own tensors."""
        found = [
            Beside(TokenVectors("activations", each.vectors, each.offsets, tokens.pads_left), tokens)
            for (_, each), (_, _, tokens) in zip(
                self._cached(compute, identity, "Frozen blocks", True, device), self._sides, strict=True
            )
        ]
        return self._sets(found, "")

    def _sets(self, columns: Sequence[Columns], note: str) -> Sets:
        """The columns of all sides, those that train and are scored with their labels."""
        return sets_of(columns, self.train, self.validation, self.others, note)

    @cached_property
    def _sides(self) -> tuple[tuple[Rows, str, Any], ...]:
        """Rows that train, rows that are scored, and others, each with their name and tokens."""
        named = {TRAINING: self.train, VALIDATION: self.validation, **self.others}
        return tuple(
            (rows, name, rows.columns(self.encoder, progress=self.progress, name=name)) for name, rows in named.items()
        )

    def _cached(
        self, compute: Compute, identity: str, who: str, per_token: bool, device: torch.device
    ) -> list[tuple[Rows, features.Features]]:
        return [
            (
                rows,
                features.cached(
                    compute,
                    tokens,
                    rows.values,
                    identity=f"{identity} {self.encoder.identity}",
                    hidden_size=self.n_features,
                    per_token=per_token,
                    folder=self.cache,
                    progress=self.progress,
                    description=f"{who} over the {name} rows",
                    device=device,
                ),
            )
            for rows, name, tokens in self._sides
        ]


@dataclass(frozen=True)
class Photos:
    """Rows of images: those that train are changed at random, as `settings.augmentation` says, and the others never.

    Images are decoded once for all that is made of them, unless `settings.cache` is off.
    """

    train: Rows
    validation: Rows
    encoder: Any
    settings: Finetune
    seed: int
    cache: Path
    progress: Progress
    others: Mapping[str, Rows] = field(default_factory=dict)

    def whole(self) -> Sets:
        """Pixels, changed anew for each batch."""
        note = "; ".join(dict.fromkeys(each.note for each in self._kept))
        return sets_of(self._kept, self.train, self.validation, self.others, note)

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One feature vector for each image: each time that of one of its views."""
        return self._cached(compute, identity, "Backbone", "features", device)

    def activated(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """What the frozen blocks gave for each image: each time for one of its views."""
        return self._cached(compute, identity, "Frozen blocks", "activations", device)

    def _cached(self, compute: Compute, identity: str, who: str, what: str, device: torch.device) -> Sets:
        views = self.settings.augmentation.views
        sides = []
        for number, (pictures, _, name) in enumerate(self._sides):
            found = image_features.cached(
                compute,
                pictures,
                partial(self._opened, number),
                views=1 if pictures.augment is None else views,
                seed=self.seed,
                identity=identity,
                half=what == "activations",
                folder=self.cache,
                progress=self.progress,
                description=f"{who} over the {name} images",
                device=device,
            )
            sides.append(Views(what, found.vectors))
        of_views = "" if self._sides[0][0].augment is None else f" of {views} views of each training image"
        note = f"{what}{of_views} kept in the cache"
        return sets_of(sides, self.train, self.validation, self.others, note)

    def _opened(self, number: int) -> Pictures:
        """Images of which features are made: read while the backbone runs, unless their pixels are needed later too."""
        return self._kept[number] if self.settings.strategy in PIXELS_LATER else self._sides[number][0]

    @cached_property
    def _sides(self) -> tuple[tuple[Pictures, Rows, str], ...]:
        """Images that train, that are scored, and others, not kept yet, each with their rows and their name."""
        n_threads, changes = threads(self.settings.workers), Augment.of(self.settings.augmentation)
        return (
            (Pictures(self.train.values, self.encoder, changes, threads=n_threads), self.train, TRAINING),
            (Pictures(self.validation.values, self.encoder, threads=n_threads), self.validation, VALIDATION),
            *(
                (Pictures(rows.values, self.encoder, threads=n_threads), rows, name)
                for name, rows in self.others.items()
            ),
        )

    @cached_property
    def _kept(self) -> tuple[Pictures, ...]:
        """The same images decoded once, unless the recipe says otherwise."""
        if not self.settings.cache:
            return tuple(pictures for pictures, _, _ in self._sides)
        return tuple(
            pictures.keep(self.cache, progress=self.progress, description=f"Decoding the {name} images")
            for pictures, _, name in self._sides
        )


def sets_of(columns: Sequence[Columns], train: Rows, validation: Rows, others: Mapping[str, Rows], note: str) -> Sets:
    """The columns of rows that train, rows that are scored and others, in this order, the first two with `labels`."""
    return Sets(
        Beside(columns[0], train.labels()),
        Beside(columns[1], validation.labels()),
        note,
        dict(zip(others, columns[2:], strict=True)),
    )
