"""A checkpoint in torch eager behind the same seam as a graph: the reference for parity, scores and latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from tledge.evaluate import Run

Array = npt.NDArray[Any]


def torch_run(model: nn.Module, *, threads: int | None = None) -> Run:
    """One pass of a model in torch eager, on the CPU, without gradients.

    `threads` is set for the process at each call, since torch's thread pool is the process's own.
    """
    model = model.cpu().eval()

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        if threads is not None and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            outputs = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return run
