"""Dynamic int8: weights stored as int8 with a scale for each output channel, activations quantized as they come.

Matrix products and embedding tables are quantized; everything between stays in float32. The tables of a language model
have a scale for each row, and one that is also the output layer's is stored once for both: a row of the embedding is an
output channel of the product.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from tledge.quantize import overflow_fix as fix
from tledge.quantize.tables import Table, drop, replace, store, tables

SUFFIX = "int8"
CALIBRATES = False
TAKES_OVERFLOW_FIX = True

OPERATORS = [
    "MatMul",
    "Gemm",
    "Gather",
]  # Gather, or the embedding stays float32: half of a small model's size


def apply(source: Path, target: Path, *, overflow_fix: str = "pairs") -> None:
    """Write the int8 variant of the graph at `source` to `target`.

    Args:
        source: the fp32 graph.
        target: the variant's file.
        overflow_fix: how weights are kept from overflowing, as `tledge.quantize.overflow_fix` explains.
    """
    model = onnx.load(source)
    # A fresh export's shapes of inner values disagree with onnx's own inference; they are inferred anew.
    del model.graph.value_info[:]
    made = _quantize_tables(model)
    quantize_dynamic(
        model,
        target,
        op_types_to_quantize=OPERATORS,
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=made,
    )
    fix.apply(target, overflow_fix, original=source)


def _quantize_tables(model: onnx.ModelProto) -> list[str]:
    """Store tables in int8 where onnxruntime's quantizer would share none or give all rows one scale.

    Gives the names of the new nodes, which are not to be quantized again.
    """
    graph = model.graph
    has_cache = any(value.name.startswith("past_key_values.") for value in graph.input)
    made: list[str] = []
    for table in tables(model):
        if not has_cache and not table.products:
            continue
        scales = np.maximum(np.abs(table.array).max(1), np.finfo(np.float32).tiny) / np.float32(127)
        codes = np.clip(np.round(table.array / scales[:, None]), -127, 127).astype(np.int8)
        rows, scale = store(graph, f"{table.name}_quantized", codes), store(graph, f"{table.name}_scale", scales)
        new = _new_nodes(graph, table, rows, scale)
        drop(graph, [table.name])
        made += new
    return made


def _new_nodes(graph: onnx.GraphProto, table: Table, rows: str, scale: str) -> list[str]:
    made = []
    last = store(graph, f"{table.name}_last", np.array([-1]))
    for i, node in enumerate((*table.lookups, *table.products)):
        new = _lookup(node, rows, scale, last) if node.op_type == "Gather" else _product(node, rows, scale)
        for j, each in enumerate(new):
            each.name = f"{table.name}_int8_{i}_{j}"
            made.append(each.name)
        replace(graph, node, new)
    return made


def _lookup(node: onnx.NodeProto, rows: str, scale: str, last: str) -> list[onnx.NodeProto]:
    """Rows in int8 times their scales."""
    output = node.output[0]
    return [
        helper.make_node("Gather", [rows, node.input[1]], [f"{output}_int8"]),
        helper.make_node("Cast", [f"{output}_int8"], [f"{output}_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scale, node.input[1]], [f"{output}_scales"]),
        helper.make_node("Unsqueeze", [f"{output}_scales", last], [f"{output}_columns"]),
        helper.make_node("Mul", [f"{output}_float", f"{output}_columns"], [output]),
    ]


def _product(node: onnx.NodeProto, rows: str, scale: str) -> list[onnx.NodeProto]:
    """A product with the transposed rows, in the form that onnxruntime fuses to one operator."""
    output = node.output[0]
    bias = list(node.input[2:])
    product = f"{output}_product" if bias else output
    quantized = [f"{output}_input", f"{output}_input_scale", f"{output}_input_zero"]
    new = [
        helper.make_node("DynamicQuantizeLinear", [node.input[0]], quantized),
        helper.make_node("Transpose", [rows], [f"{output}_weights"], perm=[1, 0]),
        helper.make_node("MatMulInteger", [quantized[0], f"{output}_weights", quantized[2]], [f"{output}_int32"]),
        helper.make_node("Cast", [f"{output}_int32"], [f"{output}_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [quantized[1], scale], [f"{output}_scale"]),
        helper.make_node("Mul", [f"{output}_float", f"{output}_scale"], [product]),
    ]
    return [*new, helper.make_node("Add", [product, *bias], [output])] if bias else new
