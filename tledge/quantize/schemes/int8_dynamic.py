"""Dynamic int8: weights stored as int8 with a scale for each output channel, activations quantized as they come.

Matrix products and embedding tables are quantized; everything between stays in float32.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

SUFFIX = "int8"
CALIBRATES = False

OPERATORS = [
    "MatMul",
    "Gemm",
    "Gather",
]  # Gather, or the embedding stays float32: half of a small model's size


def apply(source: Path, target: Path) -> None:
    """Write the int8 variant of the graph at `source` to `target`."""
    model = onnx.load(source)
    # A fresh export's shapes of inner values disagree with onnx's own inference; they are inferred anew.
    del model.graph.value_info[:]
    quantize_dynamic(model, target, op_types_to_quantize=OPERATORS, per_channel=True, weight_type=QuantType.QInt8)
