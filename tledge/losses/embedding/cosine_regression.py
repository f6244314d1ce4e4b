"""Cosine regression: the cosine of two texts is to be their score (Reimers and Gurevych 2019)."""

from __future__ import annotations

from torch import Tensor

from tledge.losses.embedding import cosines, share


def loss(embeddings: Tensor, targets: Tensor, *, n_items: int | float | Tensor | None = None) -> Tensor:
    """The mean over rows of the squared difference of cosine and score.

    Args:
        embeddings: `(batch, 2, size)`, float.
        targets: scores between -1 and 1, `(batch,) float32`.
        n_items: as in the package.
    """
    return (cosines(embeddings) - targets.float()).square().mean() * share(embeddings, n_items)
