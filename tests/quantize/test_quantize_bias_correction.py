"""What rounded weights add to outputs on average is taken off the biases."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge.quantize import bias_correction
from tledge.quantize.schemes import int8_static
from tledge.runtime import open_session, session_run

RNG = np.random.default_rng(0)
ROWS = [{"x": RNG.uniform(0, 2, (1, 6, 9, 9)).astype(np.float32)} for _ in range(24)]


def network(path, kind):
    """A convolution, plain, grouped or depthwise, or a linear layer, on positive inputs."""
    if kind.startswith("Gemm"):
        turned = int(kind == "Gemm transposed")
        weights, nodes = RNG.standard_t(2, (5, 6) if turned else (6, 5)).astype(np.float32), [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["mean"]),
            helper.make_node("Gemm", ["mean", "w", "b"], ["y"], name="layer", transB=turned),
        ]  # fmt: skip
    else:
        groups = {"Conv": 1, "grouped": 2, "depthwise": 6}[kind]
        weights = RNG.standard_t(2, (12, 6 // groups, 3, 3)).astype(np.float32)
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="layer", group=groups)]
    n_outputs = 5 if kind.startswith("Gemm") else len(weights)
    stored = {"w": weights, "b": RNG.normal(size=n_outputs).astype(np.float32)}
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def mean_error(path, source):
    """The mean difference of each output channel from fp32's, over the rows."""
    ours, theirs = (session_run(open_session(each)) for each in (path, source))
    off = np.concatenate([ours(row)["y"] - theirs(row)["y"] for row in ROWS])
    return np.abs(off.mean(axis=tuple(axis for axis in range(off.ndim) if axis != 1)))


@pytest.mark.parametrize("kind", ["Conv", "grouped", "depthwise", "Gemm", "Gemm transposed"])
def test_outputs_are_right_on_average(kind, tmp_path):
    source = network(tmp_path / "model.onnx", kind)
    found = {}
    for corrected in (False, True):
        target = tmp_path / f"{corrected}.onnx"
        int8_static.apply(source, target, calibration=lambda: iter(ROWS), bias_correction=corrected)
        found[corrected] = mean_error(target, source)
    assert found[True].mean() < 0.35 * found[False].mean()


def test_means_are_those_of_the_channels(tmp_path):
    source = network(tmp_path / "model.onnx", "Conv")
    means = bias_correction.input_means(source, ROWS, tmp_path)
    assert list(means) == ["x"]
    np.testing.assert_allclose(means["x"], np.concatenate([row["x"] for row in ROWS]).mean((0, 2, 3)), rtol=1e-6)


def test_nothing_but_biases_changes(tmp_path):
    source = network(tmp_path / "model.onnx", "Conv")
    graphs = {}
    for corrected in (False, True):
        int8_static.apply(source, tmp_path / "q.onnx", calibration=lambda: iter(ROWS), bias_correction=corrected)
        model = onnx.load(tmp_path / "q.onnx")
        graphs[corrected] = (
            [node.SerializeToString() for node in model.graph.node],
            {t.name: numpy_helper.to_array(t) for t in model.graph.initializer},
        )
    assert graphs[False][0] == graphs[True][0]
    changed = [name for name, array in graphs[False][1].items() if not np.array_equal(array, graphs[True][1][name])]
    assert changed == ["b_quantized"]
