"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

Halves the size. On CPUs it is usually no faster, since onnxruntime casts back to float32 where it has no kernel.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

SUFFIX = "fp16"
CALIBRATES = False


def apply(source: Path, target: Path) -> None:
    """Write the float16 variant of the graph at `source` to `target`."""
    model = onnx.load(source)
    del model.graph.value_info[:]
    # Bytes of pixels are made numbers in float32, whatever comes after.
    preprocessing = [node.name for node in model.graph.node if node.name.startswith("preprocess/")]
    onnx.save(convert_float_to_float16(model, keep_io_types=True, node_block_list=preprocessing), target)
