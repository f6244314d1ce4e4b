"""The end of a detector's graph, where candidates become detections, taken off and put on again.

Its nodes' names begin with `nms/`. They compare and sort, which no integer kernel does, and how far a graph is off
shows in candidates: behind them a change of one may be a detection more or less.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import helper

PREFIX = "nms/"
"""How the names of the nodes of suppression begin."""
DECODE = "decode/"
"""How those begin that make boxes of a detector's outputs."""
CHOOSING = "enc_"
"""How modules of transformers begin that choose the places which queries start from."""


def behind_layers(model: onnx.ModelProto, layers: Collection[str]) -> list[str]:
    """The names of a detector's nodes behind its last layers, through which no layer is reached, and of its queries'.

    There the levels of a pyramid become one tensor. Their outputs differ by orders of magnitude, such as the distances
    to the sides of small and of large objects, so that one scale for all takes most of the steps from some.

    Args:
        model: a graph; one that does not decode boxes has no such nodes.
        layers: the operators of layers.
    """
    if not any(node.name.startswith(DECODE) for node in model.graph.node):
        return []
    before: set[str] = set()
    behind = [*_queries(model)]
    for node in reversed(model.graph.node):
        if node.op_type in layers or before.intersection(node.output):
            before.update(node.input)
        else:
            behind.append(node.name)
    return behind


def _queries(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that choose, refine and answer queries, where a detector has a decoder of such.

    They are few, their boxes are refined from layer to layer, and a rounded score chooses other places to look into.
    """
    reached: set[str] = set()
    found = []
    for node in model.graph.node:
        modules = node.name.rpartition("/")[0].split(".")
        if "decoder" in modules or reached.intersection(node.input):
            reached.update(node.output)
            found.append(node.name)
        elif any(each.startswith(CHOOSING) for each in modules):
            found.append(node.name)
    return found


def take_off(model: onnx.ModelProto) -> None:
    """Leave what gives candidates, whose tensors become the outputs; a graph without suppression stays as it is."""
    graph = model.graph
    end = _end(model)
    if not end:
        return
    made = {name for node in end for name in node.output}
    stored = {tensor.name for tensor in graph.initializer}
    read = dict.fromkeys(name for node in end for name in node.input if name)
    for node in end:
        graph.node.remove(node)
    outputs = [name for name in read if name not in made | stored]
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs)
    _drop_unread(graph)


def put_on(path: Path, *, like: Path) -> None:
    """Give a stored graph the end of another one, in place; a graph without suppression stays as it is."""
    original = onnx.load(like)
    end = _end(original)
    if not end:
        return
    model = onnx.load(path)
    read = {name for node in end for name in node.input}
    model.graph.node.extend(end)
    model.graph.initializer.extend(tensor for tensor in original.graph.initializer if tensor.name in read)
    del model.graph.output[:]
    model.graph.output.extend(original.graph.output)
    onnx.save(model, path)


def _end(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.name.startswith(PREFIX)]


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    for tensor in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(tensor)
