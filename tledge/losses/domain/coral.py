"""The distance of two domains' covariances: Deep CORAL (Sun and Saenko 2016)."""

from __future__ import annotations

import torch
from torch import Tensor


def loss(source: Tensor, target: Tensor) -> Tensor:
    """The squared Frobenius distance of the covariances, divided by four times the squared number of features.

    Args:
        source: `(rows, features)`, float; two rows or more.
        target: `(other rows, features)`, float.
    """
    width = source.shape[1]
    return (covariance(source) - covariance(target)).square().sum() / (4 * width**2)


def covariance(features: Tensor) -> Tensor:
    """The unbiased covariance of features `(rows, features)`, `(features, features) float32`."""
    centred = features.float() - features.float().mean(0)
    return centred.T @ centred / max(1, len(features) - 1)


def recolouring(source: Tensor, target: Tensor, *, ridge: float = 1.0) -> tuple[Tensor, Tensor]:
    """The affine map that gives source features the mean and covariance of the target's: CORAL in closed form.

    Source features are whitened and then coloured, as `x @ matrix + shift`. The paper adds an identity to both
    covariances of standardised features; here it is `ridge` times the source's mean variance, whatever the unit.

    Args:
        source: `(rows, features) float32`.
        target: `(other rows, features) float32`.
        ridge: how much of the source's mean variance is added to each variance.

    Returns:
        The matrix, `(features, features) float32`, and the shift, `(features,) float32`.
    """
    of_source, of_target = covariance(source).double(), covariance(target).double()
    added = ridge * of_source.diagonal().mean() * torch.eye(len(of_source), dtype=torch.float64)
    matrix = _power(of_source + added, -0.5) @ _power(of_target + added, 0.5)
    shift = target.double().mean(0) - source.double().mean(0) @ matrix
    return matrix.float(), shift.float()


def _power(symmetric: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * values.clamp(min=1e-12) ** exponent) @ vectors.T
