"""Multiple negatives ranking (Henderson et al. 2017): of all second texts of a batch, find one's own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tledge.losses.embedding import SCALE, normalized, share


def loss(embeddings: Tensor, targets: Tensor, *, n_items: int | float | Tensor | None = None) -> Tensor:
    """The mean over rows of the cross entropy of the scaled cosines of a first text with all texts that could be its.

    These are the second texts of all rows, and where there are third ones (hard negatives), those of all rows too.
    What is known to be no negative is left out: a text that is the row's own once more, or that another row of the same
    first text has.

    Args:
        embeddings: `(batch, 2 or more, size)`, float.
        targets: numbers of the texts, the same for the same text, `(batch, texts) int64`.
        n_items: as in the package.
    """
    vectors = normalized(embeddings)
    candidates = vectors[:, 1:].transpose(0, 1).flatten(0, 1)
    scores = SCALE * vectors[:, 0] @ candidates.T
    scores = scores.masked_fill(_alike(targets.to(scores.device)), -torch.inf)
    own = torch.arange(len(scores), device=scores.device)
    return functional.cross_entropy(scores, own) * share(embeddings, n_items)


def _alike(targets: Tensor) -> Tensor:
    """Which candidates, beside its own, are answers to a row's first text, `(batch, batch * (texts - 1)) bool`."""
    rows = len(targets)
    candidates = targets[:, 1:].transpose(0, 1).flatten()
    same_query = targets[:, 0][:, None] == targets[:, 0][None, :]
    answers = targets[:, 1][None, :, None] == candidates[None, None, :]  # (1, batch, candidates)
    alike = (same_query[:, :, None] & answers).any(dim=1)
    alike[torch.arange(rows, device=targets.device), torch.arange(rows, device=targets.device)] = False
    return alike
