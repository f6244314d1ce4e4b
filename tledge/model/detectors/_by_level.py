"""Layers that all levels of a pyramid share, each level with batch statistics of its own."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ByLevel(nn.Module):
    """A convolution, a batch norm for each level, and ReLU.

    The levels of a pyramid differ in their statistics. Where one batch norm serves them all, it trains on each level's
    own and is evaluated with a mixture that fits none; with one for each they agree, and fold into the convolution.
    """

    def __init__(self, inputs: int, outputs: int, levels: int, *, groups: int = 1, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(levels))
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor, level: int) -> Tensor:
        """`(batch, outputs, height, width)` of the features of a level, `(batch, inputs, height, width)`."""
        norm = self.norms[level]
        return torch.relu(norm(self.conv(features)))


class FoldedByLevel(nn.Module):
    """The same in eval mode: one convolution for each level, and ReLU."""

    def __init__(self, shared: ByLevel) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            fuse_conv_bn_eval(shared.conv, norm)  # type: ignore[arg-type]
            for norm in shared.norms
        )

    def forward(self, features: Tensor, level: int) -> Tensor:
        """As `ByLevel`."""
        conv = self.convs[level]
        return torch.relu(conv(features))


def folded(model: nn.Module) -> nn.Module:
    """A copy of a detector in eval mode, for export: what its levels share is one convolution for each of them."""
    result = copy.deepcopy(model).eval()
    for name, module in list(result.named_modules()):
        if isinstance(module, ByLevel):
            parent, _, last = name.rpartition(".")
            setattr(result.get_submodule(parent), last, FoldedByLevel(module))
    return result
