"""The losses of vectors of texts, one file an idea, found by name.

Each is a pure function

    loss(embeddings, targets, *, n_items=None) -> scalar tensor

where `embeddings` are those of the texts of each row, `(batch, texts, size)` float, and `targets` are what the form of
the rows gives (`tledge.tasks`: scores, label numbers or numbers of texts). `n_items` is the number of rows of the whole
optimizer step, which the sum over the batch is divided by; `None` means this batch's own rows. What a row is compared
with are the rows of its own batch: with gradients of several batches summed, there are no more negatives than in one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SCALE = 20.0
"""What cosines are multiplied by where they become logits, as sentence-transformers does: a temperature of 0.05."""


def normalized(embeddings: Tensor) -> Tensor:
    """Vectors of length 1, float32, of vectors `(..., size)`."""
    return functional.normalize(embeddings.float(), dim=-1)


def cosines(embeddings: Tensor) -> Tensor:
    """The cosine of the first two texts of each row, `(batch,) float32`, of `(batch, texts, size)`."""
    vectors = normalized(embeddings)
    return (vectors[:, 0] * vectors[:, 1]).sum(dim=-1)


def share(embeddings: Tensor, n_items: int | float | Tensor | None) -> float | Tensor:
    """The part that a batch's mean has in that of the whole step."""
    return 1.0 if n_items is None else torch.tensor(len(embeddings), device=embeddings.device) / n_items
