"""The distance of two domains' means in several Gaussian kernels: MK-MMD (Gretton et al. 2012, Long et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, as shares of the mean squared distance of two rows."""


def loss(source: Tensor, target: Tensor) -> Tensor:
    """The squared maximum mean discrepancy, the mean over kernels of its biased estimate, which is never below zero.

    The kernels are `exp(-|x - y|² / (width * d))` with `d` the mean squared distance of two different rows of both
    domains, which is taken as a constant.

    Args:
        source: `(rows, features)`, float.
        target: `(other rows, features)`, float.
    """
    rows = len(source)
    both = torch.cat([source, target]).float()
    squares = both.square().sum(1)
    distances = (squares[:, None] + squares[None] - 2 * both @ both.T).clamp(min=0)
    mean = distances.detach().sum() / (len(both) * (len(both) - 1))
    kernel = torch.stack([torch.exp(-distances / (width * mean).clamp(min=1e-12)) for width in WIDTHS]).mean(0)
    return kernel[:rows, :rows].mean() + kernel[rows:, rows:].mean() - 2 * kernel[:rows, rows:].mean()
