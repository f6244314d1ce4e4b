"""The ladder of fine-tuning: which module trains on which data, in one or two phases, for each strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tledge.model import boundary, features
from tledge.model.backbones.transformers import weights_digest
from tledge.model.classifier import TextClassifier
from tledge.model.freeze import freeze
from tledge.progress import Progress
from tledge.recipe.schema import Finetune

PROBE_EPOCHS = 40
FINETUNE_EPOCHS = 3
PROBE_LEARNING_RATE = 3e-3
FINETUNE_LEARNING_RATE = 5e-5


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts and their targets, `(rows,) int64` or `(rows, labels) float32`."""

    texts: Sequence[str]
    targets: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Phase:
    """One training: a module whose forward gives `{"logits": ...}`, its data, and what the optimizer needs.

    `train` and `validation` give ready batches: a list of row numbers in, a dict of tensors with `labels` out.
    `groups` are optimizer parameter groups with their learning rates.
    """

    name: str
    module: nn.Module
    train: Dataset[Any]
    validation: Dataset[Any]
    epochs: float
    groups: list[dict[str, Any]]
    note: str


class _Batches(Dataset[Any]):
    """Rows fetched a batch at a time: the loader hands `__getitems__` all row numbers of a batch."""

    def __init__(self, fetch: Callable[[list[int]], dict[str, Tensor]], targets: npt.NDArray[Any]) -> None:
        self._fetch = fetch
        self._targets = torch.from_numpy(np.array(targets))

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        return {**self._fetch(rows), "labels": self._targets[rows]}


class _Probe(nn.Module):
    """The head of a classifier alone, on pooled features `(batch, hidden)`."""

    def __init__(self, model: TextClassifier) -> None:
        super().__init__()
        self.dropout = model.dropout
        self.classifier = model.classifier

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.classifier(self.dropout(features))}


def phases(
    model: TextClassifier,
    encoder: features.Encoder,
    train: Rows,
    validation: Rows,
    settings: Finetune,
    *,
    cache: Path,
    progress: Progress,
) -> Iterator[Phase]:
    """The phases of a strategy, each prepared when the one before it has been trained.

    Args:
        model: trained in place, phase by phase.
        encoder: texts to tensors.
        train: rows that train.
        validation: rows that are scored after each epoch.
        settings: the recipe's `finetune`.
        cache: folder of cached features.
        progress: shown while the backbone runs over the rows.

    Raises:
        ModelError: the freeze setting names nothing in this backbone.
    """
    run = _Ladder(model, encoder, train, validation, settings, cache, progress)
    if settings.strategy == "probe":
        yield run.probe(settings.epochs or PROBE_EPOCHS)
    elif settings.strategy == "probe_then_full":
        yield run.probe(settings.probe_epochs)
        yield run.finetune("full")
    else:
        yield from run.finetuned(settings.strategy)


@dataclass(frozen=True, slots=True)
class _Ladder:
    model: TextClassifier
    encoder: features.Encoder
    train: Rows
    validation: Rows
    settings: Finetune
    cache: Path
    progress: Progress

    def probe(self, epochs: float) -> Phase:
        """The head on features of the whole frozen backbone."""
        freeze(self.model.backbone, "probe")
        head_rate = self.settings.head_learning_rate or (
            self.settings.learning_rate if self.settings.strategy == "probe" else None
        )
        groups = _groups(self.model.classifier, head_rate or PROBE_LEARNING_RATE, self.settings.weight_decay)
        if not self.settings.cache:
            return Phase(
                "probe",
                self.model,
                self._texts(self.train),
                self._texts(self.validation),
                epochs,
                groups,
                "the frozen backbone runs in every epoch",
            )
        self.model.eval()
        data = [
            self._features(rows, name) for rows, name in ((self.train, "training"), (self.validation, "validation"))
        ]
        sets = [
            _Batches(partial(_take, found), rows.targets)
            for found, rows in zip(data, (self.train, self.validation), strict=True)
        ]
        note = f"features {'reused from' if data[0].reused else 'kept in'} the cache"
        return Phase("probe", _Probe(self.model), sets[0], sets[1], epochs, groups, note)

    def finetuned(self, strategy: str) -> Iterator[Phase]:
        """`partial` or `full`; on cached activations where whole blocks are frozen and the recipe allows it."""
        plan = freeze(self.model.backbone, strategy, self.settings.unfreeze)
        level = plan.boundary if self.settings.cache else None
        if not level or boundary.trains_below(self.model, level):
            yield self.finetune(strategy)
            return
        above, sets = self._above(level)
        try:
            yield Phase(
                strategy,
                above,
                sets[0],
                sets[1],
                self.settings.epochs or FINETUNE_EPOCHS,
                self._groups(),
                f"activations of the {level} frozen blocks are cached",
            )
        finally:
            above.restore()

    def finetune(self, strategy: str) -> Phase:
        """Head and unfrozen parameters, on texts."""
        freeze(self.model.backbone, strategy, self.settings.unfreeze)
        return Phase(
            strategy,
            self.model,
            self._texts(self.train),
            self._texts(self.validation),
            self.settings.epochs or FINETUNE_EPOCHS,
            self._groups(),
            "the whole model runs in every epoch",
        )

    def _groups(self) -> list[dict[str, Any]]:
        rate = self.settings.learning_rate or FINETUNE_LEARNING_RATE
        head_rate = self.settings.head_learning_rate or 10 * rate
        decay = self.settings.weight_decay
        return _groups(self.model.backbone, rate, decay) + _groups(self.model.classifier, head_rate, decay)

    def _texts(self, rows: Rows) -> _Batches:
        def fetch(numbers: list[int]) -> dict[str, Tensor]:
            encoded = self.encoder.encode([rows.texts[i] for i in numbers])
            return {name: torch.from_numpy(array) for name, array in encoded.items()}

        return _Batches(fetch, rows.targets)

    def _features(self, rows: Rows, name: str) -> features.Features:
        identity = f"{weights_digest(self.model.backbone)} {self.model.pooling}"
        return self._cached(lambda x: self.model.features(**x), rows, identity, f"Backbone over the {name} rows", False)

    def _above(self, level: int) -> tuple[boundary.AboveBoundary, list[_Batches]]:
        self.model.eval()
        identity = f"{weights_digest(self.model.backbone)} block {level}"
        compute = lambda x: boundary.activations(self.model, level, x)  # noqa: E731
        pairs = ((self.train, "training"), (self.validation, "validation"))
        cached = [
            self._cached(compute, rows, identity, f"Frozen blocks over the {name} rows", True) for rows, name in pairs
        ]
        sets = [self._activated(rows, data) for (rows, _), data in zip(pairs, cached, strict=True)]
        return boundary.AboveBoundary(self.model, level), sets

    def _activated(self, rows: Rows, data: features.Features) -> _Batches:
        def fetch(numbers: list[int]) -> dict[str, Tensor]:
            encoded = self.encoder.encode([rows.texts[i] for i in numbers])
            mask = encoded["attention_mask"].astype(bool)
            hidden = np.zeros((*mask.shape, data.vectors.shape[1]), np.float32)
            for row, number in enumerate(numbers):
                hidden[row, mask[row]] = data.vectors[data.offsets[number] : data.offsets[number + 1]]
            return {"activations": torch.from_numpy(hidden)} | {n: torch.from_numpy(a) for n, a in encoded.items()}

        return _Batches(fetch, rows.targets)

    def _cached(
        self, compute: features.Compute, rows: Rows, identity: str, description: str, per_token: bool
    ) -> features.Features:
        parameter = next(self.model.parameters())
        device = torch.device("cuda") if torch.cuda.is_available() else parameter.device
        self.model.to(device)
        return features.cached(
            compute,
            self.encoder,
            rows.texts,
            identity=identity,
            hidden_size=self.model.config.hidden_size,
            per_token=per_token,
            folder=self.cache,
            progress=self.progress,
            description=description,
            device=device,
        )


def _take(found: features.Features, rows: list[int]) -> dict[str, Tensor]:
    return {"features": torch.from_numpy(found.vectors[rows])}


def _groups(module: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay, and biases and norms without it, as is usual for transformers."""
    chosen = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in chosen if p.ndim > 1], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in chosen if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
