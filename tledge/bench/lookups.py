"""Which inputs of a graph look rows up in stored tables, read from its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tledge import graph_file

_SAME_VALUES = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose output has the values of their first input, in another shape or type."""
_SAME_ROWS = frozenset({"Cast", "DequantizeLinear", "Identity"})
"""Operators whose output has as many rows as their first input."""
_READERS = {
    "Gather": ((1, 0),),
    "GatherBlockQuantized": ((1, 0),),
    "EmbedLayerNormalization": ((0, 2), (1, 4), (8, 3)),
    "QEmbedLayerNormalization": ((0, 2), (1, 4)),
}
"""Of operators that look rows up, which input has the indices and which one is the table."""
_AXES = ("axis", "gather_axis")


def table_rows(path: Path) -> dict[str, int]:
    """Of each input that looks rows up in stored tables the rows of the smallest one, by the input's name.

    Only what indexes a table as it is counts, or in another shape or type; not what is computed of it.

    Raises:
        BundleError: the file cannot be read or is no ONNX model.
    """
    model = graph_file.load(path)
    nodes = [node for graph in graph_file.graphs(model) for node in graph.node]  # the outer graph's come first
    shapes = {tensor.name: tuple(tensor.dims) for graph in graph_file.graphs(model) for tensor in graph.initializer}
    sources = {value.name: value.name for value in model.graph.input}
    found: dict[str, int] = {}
    for node in nodes:
        first = node.input[0] if node.input else ""
        if node.op_type == "Constant":
            shapes.update((node.output[0], tuple(each.t.dims)) for each in node.attribute if each.name == "value")
        if node.op_type in _SAME_ROWS and first in shapes:
            shapes[node.output[0]] = shapes[first]
        if node.op_type in _SAME_VALUES and first in sources:
            sources[node.output[0]] = sources[first]
        for indices, shape in _looked_up(node, shapes):
            if indices in sources and shape:
                name, rows = sources[indices], shape[_axis(node)]
                found[name] = min(rows, found.get(name, rows))
    return found


def _looked_up(node: Any, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names of a node's indices, each with the shape of its table, of those tables that are stored."""
    for indices, table in _READERS.get(node.op_type, ()):
        if max(indices, table) < len(node.input) and node.input[table] in shapes:
            yield node.input[indices], shapes[node.input[table]]


def _axis(node: Any) -> int:
    return next((int(each.i) for each in node.attribute if each.name in _AXES), 0)
