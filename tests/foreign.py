"""ONNX files as others export them, tiny."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ANY = ("batch_size", "sequence_length")


def save(path, nodes, taken, given, stored=()):
    """A graph: nodes as `(operator, inputs, outputs)` or made already, values as `(name, type, shape)`."""
    made = [node if isinstance(node, onnx.NodeProto) else helper.make_node(*node) for node in nodes]
    weights = [numpy_helper.from_array(array, name) for name, array in dict(stored).items()]
    values = [[helper.make_tensor_value_info(*each) for each in side] for side in (taken, given)]
    graph = helper.make_graph(made, "foreign", *values, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def table(rows, seed=0):
    """A table of so many rows, `(rows, 8) float32`."""
    return np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)


def image(path, batch="batch"):
    """A graph of images whose batch may be fixed."""
    nodes = [("Flatten", ["x"], ["f"]), ("MatMul", ["f", "w"], ["y"])]
    return save(path, nodes, [("x", 1, [batch, 3, 4, 4])], [("y", 1, [batch, 2])], {"w": np.ones((48, 2), np.float32)})


def text(path, shape=ANY, *, kind=TensorProto.INT64, segments=2):
    """A graph of texts with a table of segments; its batch and its length may be fixed."""
    nodes = [
        ("Gather", ["words", "input_ids"], ["a"]),
        ("Gather", ["kinds", "token_type_ids"], ["b"]),
        ("Add", ["a", "b"], ["y"]),
    ]
    taken = [(name, kind, shape) for name in ("input_ids", "attention_mask", "token_type_ids")]
    return save(path, nodes, taken, [("y", 1, [*shape, 8])], {"words": table(50), "kinds": table(segments)})
