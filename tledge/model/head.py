"""The small task layer on a backbone, and the scale of what it estimates."""

from __future__ import annotations

import copy
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional


class Rescale(nn.Module):
    """Standardised numbers to the target's own unit: `x * std + mean`, elementwise.

    A head starts near zero and learns at the same pace whatever the unit; `folded` puts the scale into its last layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float, std: float) -> None:
        """Keep both as buffers; a deviation of 0 (all targets are the same) counts as 1."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std) or 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of the same shape, in the target's unit."""
        return x * self.std + self.mean


class UnitLength(nn.Module):
    """Feature vectors divided by their length, so that a linear layer on them compares directions."""

    def forward(self, features: Tensor) -> Tensor:
        """Vectors of the same shape, `(..., n_features)`, of length 1."""
        return functional.normalize(features, dim=-1)


def new_head(
    n_features: int,
    n_labels: int,
    *,
    dropout_prob: float,
    hidden_size: int | None,
    target_scale: tuple[float, float] | None = None,
    normalize: bool = False,
) -> nn.Module:
    """A fresh head, `(batch, n_features)` to `(batch, n_labels)`; the dropout on its input is not part of it.

    Args:
        n_features: width of a feature vector.
        n_labels: outputs.
        dropout_prob: dropout after the hidden layer, in training.
        hidden_size: width of one hidden tanh layer; `None` for a linear head.
        target_scale: mean and standard deviation of the numbers to estimate; `None` for logits.
        normalize: whether features are made vectors of length 1 first.
    """
    if hidden_size is None:
        layers: list[nn.Module] = [nn.Linear(n_features, n_labels)]
    else:
        first, last = nn.Linear(n_features, hidden_size), nn.Linear(hidden_size, n_labels)
        layers = [first, nn.Tanh(), nn.Dropout(dropout_prob), last]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    if normalize:
        layers.insert(0, UnitLength())
    if target_scale is not None:
        layers.append(Rescale(*target_scale))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def set_linear(head: nn.Module, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> None:
    """Give the one linear layer of a head its weights.

    Args:
        head: of `new_head` without a hidden layer.
        weight: `(labels, n_features) float32`.
        bias: `(labels,) float32`.
    """
    [layer] = [each for each in head.modules() if isinstance(each, nn.Linear)]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))


def folded(head: nn.Module) -> nn.Module:
    """A copy of a head without its `Rescale`, whose last layer gives the target's unit by itself; else the head."""
    if not isinstance(head, nn.Sequential) or not isinstance(head[-1], Rescale):
        return head
    *layers, scale = copy.deepcopy(head)
    last = layers[-1]
    assert isinstance(last, nn.Linear) and isinstance(scale, Rescale)
    with torch.no_grad():
        last.weight.mul_(scale.std)
        last.bias.mul_(scale.std).add_(scale.mean)
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def put_before_head(classifier: nn.Module, linear: nn.Linear) -> None:
    """Let a head give for features what it gave for their image in a linear map, which is folded into it.

    Args:
        classifier: whose `classifier` is a linear layer, or a sequence that begins with one.
        linear: `(n_features, n_features)`.
    """
    head = classifier.classifier
    first = head[0] if isinstance(head, nn.Sequential) else head
    assert isinstance(first, nn.Linear)
    linear = copy.deepcopy(linear).to(first.weight.device)
    with torch.no_grad():
        first.bias.add_(first.weight @ linear.bias)
        first.weight.copy_(first.weight @ linear.weight)
