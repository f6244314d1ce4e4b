"""Rows of several texts each: the batches of one column of texts after another, and a model that takes them so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tledge.batches import Beside, Columns
from tledge.model.features import Compute
from tledge.model.rows import Rows, Sets, Texts
from tledge.progress import Progress

LABELS = "labels"


@dataclass(frozen=True, eq=False)
class Numbered(Columns):
    """The columns of the texts of one place, whose names begin with its number; without labels."""

    number: int
    columns: Columns

    @property
    def lengths(self) -> Any:  # type: ignore[override]
        """Those of its texts."""
        return self.columns.lengths

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The tensors of a batch, with the number before their names."""
        found = self.columns.take(rows, seed)
        return {f"{self.number}.{name}": each for name, each in found.items() if name != LABELS}

    def on(self, device: torch.device) -> Numbered:
        """The same on a device, if it fits."""
        return Numbered(self.number, self.columns.on(device))


@dataclass(frozen=True)
class SeveralTexts:
    """Rows of as many texts each as there are `columns`, each of which gives the batches of one of them: a `Source`."""

    columns: tuple[Texts, ...]

    @classmethod
    def of(
        cls, train: Rows, validation: Rows, encoder: Any, n_features: int, cache: Path, progress: Progress
    ) -> SeveralTexts:
        """Rows whose values are tuples of texts."""
        places = range(len(train.values[0]))
        return cls(
            tuple(
                Texts(_column(train, i), _column(validation, i), encoder, n_features, cache, progress) for i in places
            )
        )

    def whole(self) -> Sets:
        """Tensors of texts, padded to the longest of their place in the batch."""
        return self._beside([each.whole() for each in self.columns])

    def pooled(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One feature vector for each text."""
        return self._beside([each.pooled(compute, identity, device) for each in self.columns])

    def activated(self, compute: Compute, identity: str, device: torch.device) -> Sets:
        """One vector for each token, and the texts' own tensors."""
        return self._beside([each.activated(compute, identity, device) for each in self.columns])

    def _beside(self, sets: Sequence[Sets]) -> Sets:
        train = Beside(*(Numbered(i, each.train) for i, each in enumerate(sets)), self.columns[0].train.labels())
        validation = Beside(
            *(Numbered(i, each.validation) for i, each in enumerate(sets)), self.columns[0].validation.labels()
        )
        return Sets(train, validation, sets[0].note)


class EachText(nn.Module):
    """A module run on the texts of one place after another.

    Its forward takes tensors whose names begin with their text's number (`0.input_ids`) and gives `sentence_embedding`,
    `(batch, texts, size)`, of the module's only output, `(batch, size)`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        places: dict[str, dict[str, Tensor]] = {}
        for name, tensor in inputs.items():
            number, _, own = name.partition(".")
            places.setdefault(number, {})[own] = tensor
        vectors = [next(iter(self.module(**own).values())) for own in places.values()]
        return {"sentence_embedding": torch.stack(vectors, dim=1)}


def _column(rows: Rows, place: int) -> Rows:
    return Rows([value[place] for value in rows.values], rows.targets)
