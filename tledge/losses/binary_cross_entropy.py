"""Binary cross-entropy on logits, each label a yes-or-no question of its own: the loss for several labels a row."""

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
    """The mean over rows and labels of the negative log-probability of the target.

    Args:
        logits: `(batch, labels)`, float.
        targets: `(batch, labels) float32`, ones and zeros.
        label_weights: `(labels,) float32`, weighs the positive part of each label.
        label_smoothing: moves targets from 0 and 1 towards 0.5 by this share, in [0, 1).
        n_items: what the sum is divided by; rows times labels of the batch when `None`.
    """
    smooth = targets.float() * (1 - label_smoothing) + 0.5 * label_smoothing
    weight = None if label_weights is None else label_weights.to(logits.device)
    total = F.binary_cross_entropy_with_logits(logits.float(), smooth, pos_weight=weight, reduction="sum")
    return total / (targets.numel() if n_items is None else n_items)
