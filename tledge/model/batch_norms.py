"""Make a network with random weights usable: its batch norms get the statistics of real images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def update_batch_norms(
    module: nn.Module, batches: Iterable[Mapping[str, Any]], device: torch.device | None = None
) -> int:
    """How many batch norms of a module were given the statistics of these batches, as a plain mean over them.

    With the ones that they start with, a deep random network gives features of 1e-9 or 1e12. No weight is trained, and
    a module without batch norms takes no batch.

    Args:
        module: a backbone; left in eval mode where it was.
        batches: its inputs, tensors or arrays, such as `pixel_values`, `(batch, 3, height, width) float32`.
        device: where it runs; by default where it is.
    """
    norms = _found(module)
    module.eval()
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    home = next(module.parameters()).device
    device = device or home
    module.to(device)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches instead of a moving one
        norm.train()
    try:
        with torch.no_grad():
            for batch in batches:
                module(*(torch.as_tensor(value).to(device) for value in batch.values()))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.to(home).eval()
    return len(norms)


def count_batch_norms(module: nn.Module) -> int:
    """How many batch norms of a module keep statistics."""
    return len(_found(module))


def _found(module: nn.Module) -> list[_BatchNorm]:
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
