"""Fixtures: one tiny graph, and what it takes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def tiny_model():
    """y = relu(x @ w), x of shape (batch, 64)."""
    weight = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def tiny_graph(tiny_model, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(tiny_model, path)
    return path


@pytest.fixture
def feeds():
    return {"x": np.ones((2, 64), dtype=np.float32), "unused": np.zeros(1, dtype=np.int64)}
