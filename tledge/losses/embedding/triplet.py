"""Triplet loss (Schroff et al. 2015) of cosines: the like text is to be nearer than the other one by a margin."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from tledge.losses.embedding import normalized, share

MARGIN = 0.5
"""By how much the distance, 1 minus the cosine, is to be larger."""


def loss(embeddings: Tensor, targets: Tensor, *, n_items: int | float | Tensor | None = None) -> Tensor:  # noqa: ARG001
    """The mean over rows of what lacks to the margin.

    Args:
        embeddings: of a text, one that is like it and one that is not, `(batch, 3, size)`, float.
        targets: not looked at.
        n_items: as in the package.
    """
    vectors = normalized(embeddings)
    near, far = ((vectors[:, 0] * vectors[:, i]).sum(dim=-1) for i in (1, 2))
    return functional.relu(far - near + MARGIN).mean() * share(embeddings, n_items)
