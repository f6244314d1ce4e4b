"""Cross-entropy of the first and the last token of an answer (Devlin et al. 2019, section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def loss(
    logits: Tensor,
    targets: Tensor,
    *,
    label_weights: Tensor | None = None,  # noqa: ARG001
    label_smoothing: float = 0.0,
    n_items: int | Tensor | None = None,
) -> Tensor:
    """The mean over rows of the negative log-probabilities of the right start and of the right end, each halved.

    Args:
        logits: `(batch, sequence, 2)`, float: of each token to be the first, and to be the last one.
        targets: `(batch, 5) int64`: the places of the right start, of the right end, of what stands for no answer and
            of the context's first token, and how many tokens that has; a place below zero is counted from the end.
        label_weights: not used: answers have no labels.
        label_smoothing: the share of the target that is spread evenly over the tokens that an answer may begin or end
            with, in [0, 1).
        n_items: what the sum is divided by, five of them a row; those of the batch when `None`.
    """
    allowed = candidates(targets, logits.shape[1])
    total = logits.new_zeros((), dtype=torch.float32)
    for part in range(2):
        log_p = logits[..., part].float().masked_fill(~allowed, -torch.inf).log_softmax(dim=1)
        right = log_p.gather(1, targets[:, part : part + 1] % logits.shape[1])[:, 0]
        evenly = log_p.masked_fill(~allowed, 0).sum(dim=1) / allowed.sum(dim=1)
        total = total - ((1 - label_smoothing) * right + label_smoothing * evenly).sum()
    n_elements = targets.numel() if n_items is None else n_items
    return total / 2 * targets.shape[1] / n_elements


def candidates(targets: Tensor, sequence: int) -> Tensor:
    """The tokens that an answer may begin or end with, or that stand for none, `(batch, sequence) bool`.

    Args:
        targets: those of `loss`.
        sequence: the tokens of a row.
    """
    places = torch.arange(sequence, device=targets.device)
    none, first = (targets[:, i : i + 1] % sequence for i in (2, 3))
    return ((places >= first) & (places < first + targets[:, 4:5])) | (places == none)
