"""Shape arithmetic: the nodes of a graph that reckon with the shapes of tensors, and never read what is in them.

Reckoning how many texts of how many tokens there are takes a few integers, which onnxruntime leaves on the CPU on
purpose: the program around the graph needs them there to make room for tensors, and no row waits for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tledge import graph_file
from tledge.runtime.assignment import Assigned

SMALL = 100
"""Elements of a tensor at most that shapes are reckoned with; a shape has as many as its tensor has dimensions."""

Key = tuple[str, str]
"""Operator type and name of a node, by which a session's nodes are found in the file. Names may be empty."""
Sizes = Callable[[Sequence[str]], dict[str, int]]
"""Gives the number of elements of tensors by name, as far as it is the same in every run."""

_MEASURES = frozenset({"Shape", "Size"})
"""ONNX operators whose outputs depend on the shape of their input alone."""


def shape_arithmetic(model: Any, nodes: Iterable[Assigned], sizes: Sizes) -> list[Assigned]:
    """Those of some nodes that do shape arithmetic.

    Such a node depends on shapes and constants alone, and what it reads and gives, constants aside, are small tensors,
    at most `SMALL` elements in every run. It is found in the file by its operator type and name: of nodes that share
    both, all have to. A node that onnxruntime made, or that is in a branch or the body of a loop, is none.

    Args:
        model: Of `graph_file.load`.
        nodes: Of `assigned_nodes`.
        sizes: Of tensors of the model's graph.
    """
    found = _from_shapes(model)
    asked = [node for node in nodes if node[1:] in found]
    tensors = {node[1:]: [name for each in found[node[1:]] for name in each] for node in asked}
    known = sizes(sorted({name for names in tensors.values() for name in names})) if tensors else {}
    return [node for node in asked if all(known.get(name, SMALL + 1) <= SMALL for name in tensors[node[1:]])]


def _from_shapes(model: Any) -> dict[Key, list[list[str]]]:
    """Nodes that depend on shapes and constants alone: the tensors that each gives, and reads of other nodes."""
    graph, *inner = graph_file.graphs(model)
    constants = {"", *(tensor.name for tensor in graph.initializer)}
    reckoned: set[str] = set()
    found: dict[Key, list[list[str]]] = defaultdict(list)
    others = {_key(node) for each in inner for node in each.node}
    for node in graph.node:  # ONNX wants them in an order in which inputs come first
        measures = node.op_type in _MEASURES and node.domain in ("", "ai.onnx")
        read = set() if measures else set(node.input) - constants
        if not read <= reckoned or any(part.HasField("g") or part.graphs for part in node.attribute):
            others.add(_key(node))
            continue
        (reckoned if node.input else constants).update(node.output)
        found[_key(node)].append([name for name in (*sorted(read), *node.output) if name])
    return {key: tensors for key, tensors in found.items() if key not in others}


def _key(node: Any) -> Key:
    return node.op_type, node.name
