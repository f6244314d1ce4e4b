"""In which arithmetic a training runs: the precision that a recipe asks for, on the device that is there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_device() -> torch.device:
    """Where training runs: a GPU where there is one, Apple's included, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolved(setting: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`: what `auto` means on a device, and any other setting as it is.

    `auto` is `bf16` on a CUDA GPU whose arithmetic it is (compute capability 8.0 and later), else `fp32`.
    """
    if setting != "auto":
        return setting
    return "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for the block; nothing for `fp32`."""
    return torch.autocast(device.type, _TYPES[precision]) if precision in _TYPES else nullcontext()
