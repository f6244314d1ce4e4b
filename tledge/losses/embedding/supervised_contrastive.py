"""Supervised contrastive loss (Khosla et al. 2020): texts with the same label are to be near each other."""

from __future__ import annotations

import torch
from torch import Tensor

from tledge.losses.embedding import SCALE, normalized, share


def loss(embeddings: Tensor, targets: Tensor, *, n_items: int | float | Tensor | None = None) -> Tensor:
    """The mean over rows of the negative log-likelihood of the texts with the same label among all others of the batch.

    A row whose label no other row of the batch has counts 0.

    Args:
        embeddings: `(batch, 1, size)`, float.
        targets: numbers of labels, `(batch,) int64`.
        n_items: as in the package.
    """
    vectors = normalized(embeddings[:, 0])
    own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    scores = (SCALE * vectors @ vectors.T).masked_fill(own, -torch.inf)
    same = (targets[:, None] == targets[None, :]) & ~own
    log_likelihood = scores.log_softmax(dim=1).masked_fill(~same, 0.0)
    each = -log_likelihood.sum(dim=1) / same.sum(dim=1).clamp(min=1)
    return each.mean() * share(embeddings, n_items)
