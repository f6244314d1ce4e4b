"""Means over the tokens of a row that are not padding."""

from __future__ import annotations

from torch import Tensor


def mean_of_tokens(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of each row, `(batch,)`, of values `(batch, sequence)` where `mask` is 1, or of all without one."""
    if mask is None:
        return values.mean(dim=1)
    kept = mask.to(values.dtype)
    return (values * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
