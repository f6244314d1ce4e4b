"""Cross-entropy with label smoothing (Szegedy et al. 2016) and label weights."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def loss(
    logits: Tensor,
    targets: Tensor,
    *,
    label_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    n_items: int | Tensor | None = None,
) -> Tensor:
    """The mean over rows of the weighted negative log-probability of the target.

    Args:
        logits: `(batch, labels)`, float.
        targets: `(batch,) int64`, label indices, or `(batch, labels) float32`, the share of each label where rows are
            mixed.
        label_weights: `(labels,) float32`; a row counts by the weight of its label, and the mean still divides by the
            number of rows, so that weights that average to one leave the scale of the loss as it is.
        label_smoothing: the share of the target that is spread evenly over all labels, in [0, 1).
        n_items: what the sum is divided by; the batch's rows when `None`.
    """
    weight = None if label_weights is None else label_weights.to(logits.device)
    total = F.cross_entropy(logits.float(), targets, weight=weight, label_smoothing=label_smoothing, reduction="sum")
    return total / (targets.shape[0] if n_items is None else n_items)
