"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

Halves the size. On CPUs it is usually no faster, since onnxruntime casts back to float32 where it has no kernel.
"""

from __future__ import annotations

import copy
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

SUFFIX = "fp16"
CALIBRATES = False


def apply(source: Path, target: Path) -> None:
    """Write the float16 variant of the graph at `source` to `target`.

    Nodes of preprocessing are taken off before and put back as they were: they count and scale in float32.
    """
    model = onnx.load(source)
    del model.graph.value_info[:]
    graph = model.graph
    taken = copy.deepcopy(graph.input[0])
    nodes = [node for node in graph.node if node.name.startswith("preprocess/")]
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    if nodes:
        for node in nodes:
            graph.node.remove(node)
        for tensor in constants:
            graph.initializer.remove(tensor)
        pixels = onnx.helper.make_tensor_value_info(
            nodes[-1].output[0], onnx.TensorProto.FLOAT, ["batch", 3, None, None]
        )
        graph.input[0].CopyFrom(pixels)
    model = convert_float_to_float16(model, keep_io_types=True)
    if nodes:
        model.graph.input[0].CopyFrom(taken)
        model.graph.initializer.extend(constants)
        for node in reversed(nodes):
            model.graph.node.insert(0, node)
    onnx.save(model, target)
