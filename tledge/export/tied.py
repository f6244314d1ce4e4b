"""Weights that a graph uses twice, stored once: the embedding table that is also the output layer's."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir
from onnx_ir import AttrFloat32, AttrInt64, Node


def store_weights_once(program: onnx_ir.Model) -> int:
    """Let output layers read the embedding's own table; gives how many do.

    A tied table is used by a `Gather` as it is and by a product in transposed form, of which the exporter stores a copy
    or which it computes at each run. `Gemm` takes the one table, and runtimes pack it at load like any other weights.
    Other weights that pass a `Transpose` are stored transposed, since quantizers look at stored weights alone.
    """
    graph = program.graph
    tables = [
        node.inputs[0]
        for node in graph
        if node.op_type == "Gather" and node.inputs[0].is_initializer() and len(node.inputs[0].shape) == 2
    ]
    shared = 0
    for node in list(graph):
        if node.op_type != "MatMul":
            continue
        weight = node.inputs[1]
        source = _transposed_from(weight)
        table = source if any(source is each for each in tables) else _equal_table(weight, tables)
        if table is not None:
            _as_gemm(graph, node, table)
            shared += 1
        elif source is not None:
            node.replace_input_with(1, _transposed(graph, source))
        _drop_unused(graph, weight)
    return shared


def _transposed_from(weight: onnx_ir.Value) -> onnx_ir.Value | None:
    """The stored matrix that a value is the transpose of."""
    node = weight.producer()
    if node is None or node.op_type != "Transpose" or not node.inputs[0].is_initializer():
        return None
    return node.inputs[0] if len(node.inputs[0].shape) == 2 else None


def _equal_table(weight: onnx_ir.Value, tables: Iterable[onnx_ir.Value]) -> onnx_ir.Value | None:
    """The table that a stored matrix is a transposed copy of."""
    if not weight.is_initializer() or len(weight.shape) != 2:
        return None
    for table in tables:
        same_shape = tuple(table.shape) == tuple(weight.shape)[::-1]
        if same_shape and np.array_equal(table.const_value.numpy().T, weight.const_value.numpy()):
            return table
    return None


def _as_gemm(graph: onnx_ir.Graph, product: Node, table: onnx_ir.Value) -> None:
    """Compute a product with the transpose of a table, `(rows, width)`, as `Gemm`, which takes matrices only.

    There is no bias for `beta` to count; where it is 1, onnxruntime's quantizer transposes the table for everyone.
    """
    rows, width = (int(size) for size in table.shape)
    name = product.name or f"{product.outputs[0].name}.product"
    source = product.inputs[0]
    leading = Node("", "Shape", [source], [AttrInt64("start", 0), AttrInt64("end", -1)])
    flat = Node("", "Reshape", [source, _constant(graph, f"{name}.flat", [-1, width])])
    gemm = Node("", "Gemm", [flat.outputs[0], table], [AttrInt64("transB", 1), AttrFloat32("beta", 0.0)])
    shape = Node("", "Concat", [leading.outputs[0], _constant(graph, f"{name}.rows", [rows])], [AttrInt64("axis", 0)])
    for node in (leading, flat, gemm, shape):
        node.name = f"{name}.{node.op_type.lower()}"
        node.outputs[0].name = f"{node.name}.output"
    graph.insert_before(product, [leading, flat, gemm, shape])
    product.op_type = "Reshape"
    product.replace_input_with(0, gemm.outputs[0])
    product.replace_input_with(1, shape.outputs[0])


def _transposed(graph: onnx_ir.Graph, source: onnx_ir.Value) -> onnx_ir.Value:
    name = f"{source.name}.transposed"
    if name not in graph.initializers:
        _store(graph, name, np.ascontiguousarray(source.const_value.numpy().T))
    return graph.initializers[name]


def _constant(graph: onnx_ir.Graph, name: str, sizes: list[int]) -> onnx_ir.Value:
    return _store(graph, name, np.asarray(sizes, np.int64))


def _store(graph: onnx_ir.Graph, name: str, array: np.ndarray) -> onnx_ir.Value:
    tensor = onnx_ir.tensor(array, name=name)
    value = onnx_ir.Value(
        name=name, const_value=tensor, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype)
    )
    graph.register_initializer(value)
    return value


def _drop_unused(graph: onnx_ir.Graph, value: onnx_ir.Value) -> None:
    """Remove a value that nobody reads any more, and what was computed or stored for it alone."""
    if value.uses() or value.is_graph_output():
        return
    node = value.producer()
    if node is None:
        graph.initializers.pop(value.name, None)
        return
    sources = list(node.inputs)
    graph.remove(node, safe=True)
    for source in sources:
        _drop_unused(graph, source)
