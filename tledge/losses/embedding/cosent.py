"""CoSENT (Su 2022): of two pairs, the one with the higher score is to have the higher cosine, on any scale."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tledge.losses.embedding import SCALE, cosines, share


def loss(embeddings: Tensor, targets: Tensor, *, n_items: int | float | Tensor | None = None) -> Tensor:
    """The logarithm of 1 and the sum of `exp(scale * (cosine of the lower - cosine of the higher))` of all such pairs.

    Args:
        embeddings: `(batch, 2, size)`, float.
        targets: scores of any scale, `(batch,) float32`.
        n_items: as in the package.
    """
    found = SCALE * cosines(embeddings)
    lower = targets[:, None] < targets[None, :]
    apart = (found[:, None] - found[None, :]).masked_fill(~lower, -torch.inf).flatten()
    return torch.logsumexp(functional.pad(apart, (1, 0)), dim=0) * share(embeddings, n_items)
