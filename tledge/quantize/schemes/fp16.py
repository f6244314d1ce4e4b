"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

Halves the size. On CPUs it is usually no faster, since onnxruntime casts back to float32 where it has no kernel.
Left in float32 is what half precision has no room for: angles of rotary positions, since beyond 2048 it does not even
count, and the squares of root-mean-square norms, which pass its largest number.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import onnx
from onnx import TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16

SUFFIX = "fp16"
CALIBRATES = False
TAKES_OVERFLOW_FIX = False

LARGEST = 32768.0
"""Half of half precision's range: masks are this low at most, so that what is added to one does not overflow."""


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
            nodes[-1].output[0], TensorProto.FLOAT, ["batch_size", 3, None, None]
        )
        graph.input[0].CopyFrom(pixels)
    model = convert_float_to_float16(
        model, keep_io_types=True, max_finite_val=LARGEST, node_block_list=needing_float32(model.graph)
    )
    _join_casts(model.graph)
    if nodes:
        model.graph.input[0].CopyFrom(taken)
        model.graph.initializer.extend(constants)
        for node in reversed(nodes):
            model.graph.node.insert(0, node)
    onnx.save(model, target)


def needing_float32(graph: onnx.GraphProto) -> list[str]:
    """The nodes that stay in float32: up to angles, and from the square to the division of root-mean-square norms."""
    makers = {output: node for node in graph.node for output in node.output}
    kept: dict[str, None] = {}

    def keep_up_to(node: onnx.NodeProto, first: str) -> None:
        kept[node.name] = None
        for name in node.input:
            before = makers.get(name)
            if before is not None and before.name not in kept and node.op_type != first:
                keep_up_to(before, first)

    for node in graph.node:
        if node.op_type in ("Cos", "Sin"):
            keep_up_to(node, "Cast")
        elif node.op_type == "Sqrt":
            keep_up_to(node, "Pow")
            kept |= {other.name: None for other in graph.node if node.output[0] in other.input}
    return list(kept)


def _join_casts(graph: onnx.GraphProto) -> None:
    """Let nodes in float32 pass values to each other as they are, and cast each value once.

    The converter puts a cast in front of and behind each node that stays in float32: two such nodes in a row would
    round in between, and two that read one value would have two casts of one name. It also appends casts at the end.
    """
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    other = [node for node in graph.node if node.op_type != "Cast"]
    full = {}
    for name, node in casts.items():
        before = casts.get(node.input[0])
        if _to(node) == TensorProto.FLOAT and before is not None and _to(before) == TensorProto.FLOAT16:
            full[name] = before.input[0]
    for node in (*other, *casts.values()):
        node.input[:] = [full.get(name, name) for name in node.input]
    read = {name for node in (*other, *casts.values()) for name in node.input} | {v.name for v in graph.output}
    nodes = _sorted([*other, *(node for name, node in casts.items() if name in read)])
    del graph.node[:]
    graph.node.extend(nodes)


def _sorted(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes with each after those that it reads from."""
    makers = {output: i for i, node in enumerate(nodes) for output in node.output}
    sorter = TopologicalSorter({i: {makers[n] for n in node.input if n in makers} for i, node in enumerate(nodes)})
    return [nodes[i] for i in sorter.static_order()]


def _to(cast: onnx.NodeProto) -> int:
    return next(attribute.i for attribute in cast.attribute if attribute.name == "to")
