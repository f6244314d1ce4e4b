"""Features that hide their domain: a network learns to tell it, and its gradient comes back reversed.

Domain-adversarial training (Ganin et al. 2016).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def loss(source: Tensor, target: Tensor) -> Tensor:
    """The mean of both domains' cross-entropy of a network that tells them apart.

    Args:
        source: `(rows,)`, float: logits that a row is of the target domain.
        target: `(other rows,)`, float.
    """
    as_source = F.binary_cross_entropy_with_logits(source.float(), torch.zeros_like(source, dtype=torch.float32))
    as_target = F.binary_cross_entropy_with_logits(target.float(), torch.ones_like(target, dtype=torch.float32))
    return (as_source + as_target) / 2


def reversed_gradient(features: Tensor, factor: Tensor) -> Tensor:
    """The features as they are, whose gradient is multiplied by minus `factor`, a scalar, on its way back."""
    result: Tensor = _Reversal.apply(features, factor)
    return result


def factor(progress: Tensor) -> Tensor:
    """The reversal's strength at a share of the training, 0 to 1: it rises from 0 to nearly 1 (Ganin et al. 2016)."""
    return 2 / (1 + torch.exp(-10 * progress)) - 1


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return -factor * gradient, None
