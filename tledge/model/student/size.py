"""How large a model is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

BYTES_OF_FP32 = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters, shared ones counted once, and the bytes that they take in float32."""

    parameters: int
    size_bytes: int


def describe(model: nn.Module) -> Size:
    """How large a model is; one without weights (on torch's device `meta`) will do."""
    parameters = sum(p.numel() for p in model.parameters())
    return Size(parameters, BYTES_OF_FP32 * parameters)
