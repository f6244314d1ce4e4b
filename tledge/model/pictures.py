"""Images of rows as batches: read, changed at random where they train, and made the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tledge.batches import Columns
from tledge.model.images import Augment, ImageEncoder


@dataclass(frozen=True, eq=False)
class Pictures(Columns):
    """Images that are read for each batch; `augment` changes them, the same each time for the same seed and row."""

    values: Sequence[Any]
    encoder: ImageEncoder
    augment: Augment | None = None
    prefix: str = ""
    decodes = True

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """`pixel_values`, as the encoder gives them."""
        images = [self._image(row, seed) for row in rows.tolist()]
        return {self.prefix + name: torch.from_numpy(array) for name, array in self.encoder.normalise(images).items()}

    def _image(self, row: int, seed: int) -> Any:
        if self.augment is None:
            return self.encoder.fit(self.encoder.decode(self.values[row]))
        return self.augment(self.values[row], int(np.random.SeedSequence((seed, row)).generate_state(1)[0]))
