"""Mean squared error: the loss for estimating a number."""

from __future__ import annotations

from torch import Tensor


def loss(
    logits: Tensor,
    targets: Tensor,
    *,
    label_weights: Tensor | None = None,
    label_smoothing: float = 0.0,  # noqa: ARG001
    n_items: int | Tensor | None = None,
) -> Tensor:
    """The mean over rows of the squared difference.

    Args:
        logits: `(batch, 1)`, float.
        targets: `(batch,) float32`.
        label_weights: `(1,) float32`, what each difference is multiplied by first; the inverse of the targets' standard
            deviation makes the loss free of their unit.
        label_smoothing: has no meaning for numbers and is left alone.
        n_items: what the sum is divided by; the batch's rows when `None`.
    """
    weight = 1.0 if label_weights is None else label_weights.to(logits.device)
    difference = (logits.float().squeeze(-1) - targets.float()) * weight
    return difference.square().sum() / (targets.shape[0] if n_items is None else n_items)
