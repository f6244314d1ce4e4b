"""The tables of a graph: rows that are looked up by number, which an output layer may share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Table:
    """A stored matrix, `(rows, width) float32`, with the `Gather` nodes that look rows up and the products with all.

    A product is a `Gemm` with the transposed table; one that has any is tied.
    """

    name: str
    array: Array
    lookups: tuple[onnx.NodeProto, ...]
    products: tuple[onnx.NodeProto, ...]


def tables(model: onnx.ModelProto) -> list[Table]:
    """The tables that nothing but look-ups and products reads."""
    found = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
            continue
        readers = [node for node in model.graph.node if tensor.name in node.input]
        lookups = tuple(node for node in readers if _looks_up(node, tensor.name))
        products = tuple(node for node in readers if is_product(node, tensor.name, transposed=True))
        if lookups and len(lookups) + len(products) == len(readers):
            found.append(Table(tensor.name, numpy_helper.to_array(tensor), lookups, products))
    return found


def is_product(node: onnx.NodeProto, weight: str, *, transposed: bool) -> bool:
    """Whether a node is a `Gemm` of plain inputs with a weight, transposed or not, plus maybe a bias."""
    facts = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    beta = facts.get("beta", 1.0) if len(node.input) > 2 else 1.0  # it is the bias's factor
    plain = facts.get("alpha", 1.0) == 1.0 and beta == 1.0 and not facts.get("transA", 0)
    reads = node.op_type == "Gemm" and list(node.input).count(weight) == 1 and node.input[1] == weight
    return reads and plain and bool(facts.get("transB", 0)) == transposed


def replace(graph: onnx.GraphProto, node: onnx.NodeProto, new: Iterable[onnx.NodeProto]) -> None:
    """Put nodes in the place of one."""
    at = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, each in enumerate(new):
        graph.node.insert(at + offset, each)


def drop(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Remove stored tensors."""
    for tensor in [tensor for tensor in graph.initializer if tensor.name in names]:
        graph.initializer.remove(tensor)


def store(graph: onnx.GraphProto, name: str, array: npt.NDArray[np.generic]) -> str:
    """Store a tensor and give its name."""
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _looks_up(node: onnx.NodeProto, table: str) -> bool:
    if node.op_type != "Gather" or node.input[0] != table:
        return False
    return all(onnx.helper.get_attribute_value(each) == 0 for each in node.attribute if each.name == "axis")
