"""Another head on a graph whose head compares directions: its last nodes replaced, whatever scheme made the graph.

Such a head divides feature vectors by their length and multiplies them with a vector for each label. What comes behind
the division is one layer, in whichever form a scheme left it, and becomes a new one in float32, of some thousand
numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tledge.artifacts import Graph
from tledge.errors import BundleError
from tledge.quantize.run import describe

OUTPUT = "logits"
DIVISION = "Div"
FEATURES = "unit_features"
WEIGHT = "relabelled.weight"


def with_head(source: Path, target: Path, weight: npt.NDArray[np.float32]) -> Graph:
    """Write a copy of a graph with another head, and tell what it takes and gives.

    Args:
        source: a graph whose output `logits` is of feature vectors of length 1.
        target: the new file.
        weight: a vector for each label, times its scale, `(labels, n_features)`.

    Raises:
        BundleError: the graph has no such head.
    """
    model = _without_head(source)
    graph = model.graph
    graph.node.append(helper.make_node("MatMul", [FEATURES, WEIGHT], [OUTPUT], name="relabelled"))
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight.T), WEIGHT))
    [output] = [value for value in graph.output if value.name == OUTPUT]
    output.type.tensor_type.shape.dim[1].dim_value = len(weight)
    onnx.save(model, target)
    return describe(target)


def features_graph(source: Path, target: Path) -> None:
    """Write a copy of a graph without its head, whose output `unit_features`, `(batch, n_features)`, has length 1.

    Raises:
        BundleError: the graph has no such head.
    """
    model = _without_head(source)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch_size", None]))
    onnx.save(model, target)


def _without_head(source: Path) -> onnx.ModelProto:
    """The graph of a file whose last vectors are those of length 1, in float32, under the name `unit_features`."""
    model = onnx.load(source)
    unit = _unit(model.graph, source)
    _cut(model.graph, OUTPUT, unit)
    # What halves the weights leaves the vectors in float16; of vectors in float32 nothing becomes of a cast.
    model.graph.node.append(helper.make_node("Cast", [unit], [FEATURES], name="unit_cast", to=TensorProto.FLOAT))
    return model


def _unit(graph: onnx.GraphProto, path: Path) -> str:
    """The name of the vectors of length 1: what the division nearest to the logits gave."""
    makers = {output: node for node in graph.node for output in node.output}
    level = [OUTPUT]
    seen: set[str] = set()
    while level:
        nodes = [makers[name] for name in level if name in makers]
        found = [node.output[0] for node in nodes if node.op_type == DIVISION]
        if found:
            return str(found[0])
        seen.update(level)
        level = [name for node in nodes for name in node.input if name not in seen]
    raise BundleError(f"{path.name} has no head that compares directions; expected a bundle of the strategy zero_shot")


def _cut(graph: onnx.GraphProto, output: str, unit: str) -> None:
    """Take off what nothing but an output needs that stands behind some vectors, and constants of nobody."""
    makers = {name: node for node in graph.node for name in node.output}
    needed: set[str] = set()
    waiting = [unit, *(value.name for value in graph.output if value.name != output)]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        waiting += list(makers[name].input) if name in makers else []
    kept = [node for node in graph.node if needed & set(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.value_info[:]
