"""Optimizer parameter groups: which parameters learn at which rate, and which decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from tledge.model.blocks import Block, levels
from tledge.model.protocol import Classifier


def groups_of(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay, and biases and norms without it, as is usual for transformers; only of what trains."""
    chosen = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in chosen if p.ndim > 1], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in chosen if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def groups_by_block(
    model: Classifier, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """The backbone's groups: each block learns at `layer_decay` times the rate of the block above it.

    What comes after the blocks learns at the rate of the last one, and what comes before them (embeddings, a class
    token) as a block of its own at the bottom.
    """
    return groups_by_level(model.backbone, model.blocks, learning_rate, weight_decay, layer_decay)


def groups_by_level(
    module: nn.Module,
    blocks: Callable[[], Sequence[Block]],
    learning_rate: float,
    weight_decay: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """The groups of `groups_by_block`, of any module whose blocks are found where they matter."""
    if layer_decay == 1:
        return groups_of(module.parameters(), learning_rate, weight_decay)
    found = blocks()
    level = levels(module, found)
    by_distance: dict[int, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        by_distance.setdefault(max(0, len(found) - 1 - level[name]), []).append(parameter)
    return [
        group
        for distance, parameters in sorted(by_distance.items())
        for group in groups_of(parameters, learning_rate * layer_decay**distance, weight_decay)
    ]
