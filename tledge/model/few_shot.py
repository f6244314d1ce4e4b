"""Pairs of a few labelled rows, from which an encoder learns which of them belong together (SetFit)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tledge.batches import Beside, Columns, Values
from tledge.model.backbones.transformers import weights_digest
from tledge.model.features import Compute
from tledge.model.protocol import Classifier
from tledge.model.rows import Rows, Sets
from tledge.precision import training_device
from tledge.progress import Progress
from tledge.recipe.schema import Finetune

LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Row numbers of pairs, `(pairs,) int64` each, and whether both have the same label, `(pairs,) float32`."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    same: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.same)


def draw_pairs(targets: npt.NDArray[Any], per_row: int, *, seed: int) -> Pairs:
    """For each row so many partners with its label and as many with another one, as SetFit draws them.

    Partners are drawn with replacement (Tunstall et al. 2022, where `per_row` is R). A row whose label no other row has
    gets none with its label, since it would be compared with itself.

    Args:
        targets: label numbers, `(rows,) int64`.
        per_row: partners of each kind.
        seed: the same seed gives the same pairs.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(targets))
    parts = []
    for row in rows:
        for same in (True, False):
            others = rows[((targets == targets[row]) == same) & (rows != row)]
            if len(others):
                partners = rng.choice(others, per_row)
                parts.append((np.full(per_row, row), partners, np.full(per_row, same, dtype=np.float32)))
    first, second, alike = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Pairs(first, second, alike)


class PairColumns(Columns):
    """Batches of pairs: the tensors of each row that is in one of them, once, and where the two of each pair stand.

    A batch has the rows' own tensors, `first` and `second`, `(pairs,) int64` places among them, and `labels`.
    """

    def __init__(self, rows: Columns, pairs: Pairs) -> None:
        """Put rows, whose own `labels` are left out, into pairs."""
        self.rows, self.pairs = rows, pairs

    @property
    def decodes(self) -> bool:  # type: ignore[override]
        """Whether the rows do."""
        return self.rows.decodes

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The tensors of some pairs."""
        numbers, pairs = rows.cpu().numpy(), self.pairs
        both = np.concatenate([pairs.first[numbers], pairs.second[numbers]])
        needed, places = np.unique(both, return_inverse=True)
        batch = self.rows.take(torch.from_numpy(needed), seed)
        device = next(iter(batch.values())).device
        first, second = torch.from_numpy(places).to(device).chunk(2)
        labels = torch.from_numpy(pairs.same[numbers]).to(device)
        return {**batch, "first": first, "second": second, LABELS: labels}

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """What is done to the rows."""
        return self.rows.finish(batch, seed)

    def on(self, device: torch.device) -> PairColumns:
        """The rows on the device, if they fit."""
        return PairColumns(self.rows.on(device), self.pairs)


class Twins(nn.Module):
    """A classifier's encoder on the rows of a batch, and the vectors of each pair: `(pairs, 2, n_features)`."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = cast("nn.Module", model)

    def forward(self, first: Tensor, second: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """`{"sentence_embedding": (pairs, 2, n_features)}` of places in the batch, `(pairs,) int64`, and the rows."""
        features = cast("Callable[..., Tensor]", self.model.features)
        vectors = features(**inputs)
        return {"sentence_embedding": torch.stack([vectors[first], vectors[second]], dim=1)}


def paired(sets: Sets, train: Rows, validation: Rows, per_row: int, *, most: int, seed: int) -> Sets:
    """Pairs of the rows that train, and some pairs of the rows that are scored.

    Args:
        sets: the columns of both.
        train: their targets.
        validation: those of the rows that are scored.
        per_row: as in `draw_pairs`.
        most: pairs that are scored.
        seed: of the pairs.
    """
    of_train = draw_pairs(train.targets, per_row, seed=seed)
    some = np.random.default_rng(seed).permutation(len(validation.targets))[: most // 2]
    scored = draw_pairs(validation.targets[some], 1, seed=seed)
    scored = Pairs(some[scored.first], some[scored.second], scored.same)
    return Sets(PairColumns(sets.train, of_train), PairColumns(sets.validation, scored), sets.note)


def features_of(
    model: Classifier, encoder: Any, rows: Rows, *, cache: Path, progress: Progress, settings: Finetune, seed: int
) -> npt.NDArray[Any]:
    """The feature vector of each row, never changed at random, `(rows, n_features) float32`.

    Args:
        model: left in eval mode on the device where training goes.
        encoder: of its inputs.
        rows: texts or images.
        cache: keeps the vectors by the weights and the rows.
        progress: shown by rows.
        settings: the recipe's `finetune`.
        seed: has no effect on rows that are not changed.
    """
    one = Rows(rows.values[:1], rows.targets[:1])  # a source has rows that train, of which none are wanted here
    source = model.source(
        train=one, validation=rows, encoder=encoder, cache=cache, progress=progress, settings=settings, seed=seed
    )
    device = training_device()
    cast("nn.Module", model).to(device)
    model.eval()
    identity = f"{weights_digest(model.backbone)} {getattr(model, 'pooling', '')}"
    found = source.pooled(lambda x: model.features(**x), identity, device).validation
    return np.asarray(found.batch(range(len(found)))["features"].numpy())


@dataclass(frozen=True)
class KnownFeatures:
    """Rows whose feature vectors, `(rows, n_features) float32`, were computed before: a `Source` of those alone."""

    train: Rows
    validation: Rows
    train_vectors: npt.NDArray[Any]
    validation_vectors: npt.NDArray[Any]

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:  # noqa: ARG002
        """The vectors, with the labels."""
        train, validation = (
            Beside(Values({"features": torch.from_numpy(vectors)}), rows.labels())
            for rows, vectors in ((self.train, self.train_vectors), (self.validation, self.validation_vectors))
        )
        return Sets(train, validation, "features kept in the cache")

    def whole(self) -> Sets:
        """Not there: whoever knows vectors alone asks for nothing else."""
        raise AssertionError("only vectors are known")

    activated = pooled


def logits_of(model: Classifier, features: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a classifier's head says of feature vectors `(rows, n_features)`: `(rows, labels) float32`."""
    head = model.classifier.eval()
    device = next(head.parameters()).device
    with torch.no_grad():
        return np.asarray(head(torch.from_numpy(np.ascontiguousarray(features)).to(device)).cpu().numpy())
