import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge.export.tied import store_weights_once

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(50, 8)).astype(np.float32)
OTHER = RNG.normal(size=(50, 8)).astype(np.float32)


def program(head, *, transposed_in_graph):
    """Embedding and output layer, `head` being its weights, `(50, 8)`; stored transposed, or transposed by a node."""
    weights = {"table": TABLE}
    nodes = [helper.make_node("Gather", ["table", "ids"], ["words"])]
    if transposed_in_graph:
        name = "table" if head is TABLE else "head"
        weights[name] = head
        nodes.append(helper.make_node("Transpose", [name], ["across"], perm=[1, 0]))
    else:
        weights["across"] = np.ascontiguousarray(head.T)
    nodes.append(helper.make_node("MatMul", ["words", "across"], ["logits"], name="head"))
    graph = helper.make_graph(
        nodes,
        "language",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", 50])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def logits(model, ids):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": ids})[0]


@pytest.mark.parametrize("transposed_in_graph", [True, False])
@pytest.mark.parametrize("head", [TABLE, OTHER], ids=["tied", "untied"])
def test_each_weight_is_stored_once_and_nothing_is_transposed_at_run_time(head, transposed_in_graph):
    before = program(head, transposed_in_graph=transposed_in_graph)
    changed = onnx_ir.from_proto(before)
    assert store_weights_once(changed) == (head is TABLE)
    after = onnx_ir.to_proto(changed)
    onnx.checker.check_model(after, full_check=True)
    kinds = [node.op_type for node in after.graph.node]
    assert "Transpose" not in kinds
    assert ("Gemm" in kinds) == (head is TABLE)
    matrices = [numpy_helper.to_array(t) for t in after.graph.initializer if len(t.dims) == 2]
    assert len(matrices) == (1 if head is TABLE else 2)
    for ids in ([[3]], [[1, 2, 3], [4, 4, 49]]):
        np.testing.assert_allclose(logits(after, np.array(ids)), logits(before, np.array(ids)), atol=1e-5)
