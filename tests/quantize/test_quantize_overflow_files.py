"""int8 files that other tools made: every product that could overflow is found, and mended to exact arithmetic."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from tledge import overflow
from tledge.errors import QuantizeError
from tledge.quantize import overflow_fix
from tledge.runtime import open_session

INPUTS, HIDDEN, OUTPUTS = 48, 32, 12


class Rows(CalibrationDataReader):
    def __init__(self, rows):
        self._rows = iter(rows)

    def get_next(self):
        return next(self._rows, None)


def rng():
    return np.random.default_rng(0)


def save(path, nodes, stored, x_shape, *, x_type=TensorProto.FLOAT, y_type=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", x_type, x_shape)],
        [helper.make_tensor_value_info("y", y_type, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def network(path):
    """Two layers whose weights are nearly all of one sign, so that sums overflow."""
    random = rng()
    stored = {
        "w1": random.uniform(-0.2, 1, (INPUTS, HIDDEN)).astype(np.float32) / INPUTS,
        "b1": random.standard_normal(HIDDEN).astype(np.float32) / 10,
        "w2": random.uniform(-0.2, 1, (OUTPUTS, HIDDEN)).astype(np.float32) / HIDDEN,
        "b2": random.standard_normal(OUTPUTS).astype(np.float32) / 10,
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], name="first"),
        helper.make_node("Add", ["m", "b1"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["h"], name="relu"),
        helper.make_node("Gemm", ["h", "w2", "b2"], ["y"], name="last", transB=1),
    ]
    return save(path, nodes, stored, ["batch", INPUTS])


def convolutions(path):
    random = rng()
    stored = {
        "w1": random.uniform(-0.2, 1, (16, 4, 3, 3)).astype(np.float32) / 36,
        "b1": random.standard_normal(16).astype(np.float32) / 10,
        "w2": random.uniform(-1, 1, (16, 1, 3, 3)).astype(np.float32) / 9,
        "b2": random.standard_normal(16).astype(np.float32) / 10,
        "w3": random.uniform(-0.2, 1, (8, 4, 1, 1)).astype(np.float32) / 4,
        "b3": random.standard_normal(8).astype(np.float32) / 10,
    }
    stored["w1"][3] = 0  # pruned: only its bias is left
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["h1"], name="relu"),
        helper.make_node("Conv", ["h1", "w2", "b2"], ["c2"], name="depthwise", group=16),
        helper.make_node("Relu", ["c2"], ["h2"], name="relu2"),
        helper.make_node("Conv", ["h2", "w3", "b3"], ["y"], name="last", group=4),
    ]
    return save(path, nodes, stored, ["batch", 4, 8, 8])


def float_rows(shape, count=24):
    random = rng()
    return [{"x": random.uniform(0, 1, (1, *shape)).astype(np.float32)} for _ in range(count)]


def outputs(path, rows, *, exact=False):
    session = open_session(path, exact=exact)
    return np.concatenate([session.run(None, row)[0] for row in rows])


def assert_mended(path, target, rows, *, products):
    """That a file could overflow, that its mended copy cannot, and that the copy's outputs are nearly the file's."""
    before = overflow.check(path)
    assert (before.products, before.possible, before.n_unknown) == (products, True, 0)
    overflow_fix.mend_file(path, target, "pairs")
    after = overflow.check(target)
    assert (after.products, after.pairs, after.possible) == (products, before.pairs, False)
    exact = outputs(target, rows, exact=True)
    np.testing.assert_array_equal(outputs(target, rows), exact)
    wanted = outputs(path, rows, exact=True).astype(np.float64)
    assert np.sqrt(np.mean((exact - wanted) ** 2)) < 0.05 * np.ptp(wanted)
    return exact


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("symmetric", [True, False])
def test_dynamic_quantization_is_mended(tmp_path, per_channel, symmetric):
    path = tmp_path / "int8.onnx"
    quantize_dynamic(
        network(tmp_path / "fp32.onnx"), path, per_channel=per_channel, weight_type=QuantType.QInt8,
        extra_options={"WeightSymmetric": symmetric},
    )  # fmt: skip
    assert_mended(path, tmp_path / "mended.onnx", float_rows((INPUTS,)), products=2)


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("symmetric", [True, False])
def test_static_quantization_of_matrices_is_mended(tmp_path, form, per_channel, symmetric):
    path, rows = tmp_path / "int8.onnx", float_rows((INPUTS,))
    quantize_static(
        network(tmp_path / "fp32.onnx"), path, Rows(rows), quant_format=form, per_channel=per_channel,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, extra_options={"WeightSymmetric": symmetric},
    )  # fmt: skip
    assert_mended(path, tmp_path / "mended.onnx", rows, products=2)


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("per_channel", [False, True])
def test_static_quantization_of_convolutions_is_mended_and_keeps_the_bias_of_a_pruned_channel(
    tmp_path, form, per_channel
):
    path, rows = tmp_path / "int8.onnx", float_rows((4, 8, 8))
    quantize_static(
        convolutions(tmp_path / "fp32.onnx"), path, Rows(rows), quant_format=form, per_channel=per_channel,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    assert_mended(path, tmp_path / "mended.onnx", rows, products=2)


@pytest.mark.parametrize("fix", ["pairs", "reduce_range"])
def test_the_bias_of_an_output_without_weights_stays_what_it_is(tmp_path, fix):
    weights = np.full((2, 8), 120, np.int8)
    weights[1] = 0
    stored = {
        "w": weights, "ws": np.array([0.01, 0.02], np.float32), "wz": np.zeros(2, np.int8), "xs": np.float32(0.5),
        "xz": np.uint8(0), "b": np.array([100, 3000], np.int32), "ys": np.float32(1), "yz": np.uint8(0),
    }  # fmt: skip
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"]
    nodes = [helper.make_node("QGemm", inputs, ["y"], domain="com.microsoft", transB=1)]
    path = save(tmp_path / "int8.onnx", nodes, stored, ["batch", 8], x_type=TensorProto.UINT8, y_type=TensorProto.UINT8)
    overflow_fix.apply(path, fix)
    assert outputs(path, [{"x": np.zeros((1, 8), np.uint8)}])[0, 1] == 30


def test_a_graph_that_the_runtime_saved_with_its_fused_operators_is_mended(tmp_path):
    plain, path = tmp_path / "int8.onnx", tmp_path / "fused.onnx"
    quantize_dynamic(network(tmp_path / "fp32.onnx"), plain, per_channel=True, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(plain, options, providers=["CPUExecutionProvider"])
    assert {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} & {n.op_type for n in onnx.load(path).graph.node}
    before = overflow.check(path)
    overflow_fix.mend_file(path, tmp_path / "mended.onnx", "pairs")
    rows = float_rows((INPUTS,))
    assert (before.products, before.possible, overflow.check(tmp_path / "mended.onnx").possible) == (2, True, False)
    np.testing.assert_array_equal(
        outputs(tmp_path / "mended.onnx", rows), outputs(tmp_path / "mended.onnx", rows, exact=True)
    )


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("per_channel", [False, True])
def test_an_lstm_is_mended(tmp_path, directions, per_channel):
    random, hidden = rng(), 16
    stored = {
        "w": random.uniform(-0.2, 1, (directions, 4 * hidden, INPUTS)).astype(np.float32) / INPUTS,
        "r": random.uniform(-0.2, 1, (directions, 4 * hidden, hidden)).astype(np.float32) / hidden,
    }
    direction = "bidirectional" if directions == 2 else "forward"
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="lstm", hidden_size=hidden, direction=direction)]
    path = tmp_path / "int8.onnx"
    source = save(tmp_path / "fp32.onnx", nodes, stored, [5, 1, INPUTS])
    quantize_dynamic(source, path, per_channel=per_channel, weight_type=QuantType.QInt8)
    rows = [{"x": rng().uniform(0, 1, (5, 1, INPUTS)).astype(np.float32)}]
    assert_mended(path, tmp_path / "mended.onnx", rows, products=2)


def qdq_product(path, between=(), *, x_shape=("batch", 64), weights=None, first=(), constant=False):
    """uint8 `x`, dequantized and moved, times dequantized int8 weights that almost all pairs of overflow."""
    weights = rng().integers(100, 128, (64, 32)).astype(np.int8) if weights is None else weights
    stored = {
        "w": weights, "ws": np.float32(0.01), "wz": np.int8(0), "xs": np.float32(1), "xz": np.uint8(0),
        "shape": np.array([-1, 64]), "axis": np.array([0]), "zero": np.array([0]), "end": np.array([4]),
    }  # fmt: skip
    moved = between[-1].output[0] if between else "x_float"
    name = first[-1].output[0] if first else "w"
    if constant:
        first = [helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(stored.pop("w")))]
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["x_float"]),
        *between,
        *first,
        helper.make_node("DequantizeLinear", [name, "ws", "wz"], ["w_float"]),
        helper.make_node("MatMul", [moved, "w_float"], ["y"], name="product"),
    ]
    read = {name for node in nodes for name in node.input}
    kept = {name: array for name, array in stored.items() if name in read}
    return save(path, nodes, kept, list(x_shape), x_type=TensorProto.UINT8)


@pytest.mark.parametrize(
    ("operator", "more", "facts", "x_shape"),
    [
        ("Reshape", ["shape"], {}, (2, 2, 64)),
        ("Transpose", [], {"perm": [1, 0]}, (64, 4)),
        ("Squeeze", ["axis"], {}, (1, 4, 64)),
        ("Unsqueeze", ["axis"], {}, (4, 64)),
        ("Slice", ["zero", "end", "axis"], {}, (5, 64)),
        ("Identity", [], {}, (4, 64)),
        ("Dropout", [], {}, (4, 64)),
        ("MaxPool", [], {"kernel_shape": [1, 1]}, (1, 1, 4, 64)),
    ],
)
def test_a_product_is_found_behind_a_node_that_only_moves_its_activations(tmp_path, operator, more, facts, x_shape):
    between = [helper.make_node(operator, ["x_float", *more], ["moved"], **facts)]
    path = qdq_product(tmp_path / "int8.onnx", between, x_shape=x_shape)
    rows = [{"x": rng().integers(200, 256, x_shape).astype(np.uint8)}]
    assert_mended(path, tmp_path / "mended.onnx", rows, products=1)


def test_signed_activations_count_where_the_runtime_makes_unsigned_ones_of_them(tmp_path):
    path, rows = tmp_path / "int8.onnx", float_rows((INPUTS,))
    quantize_static(
        network(tmp_path / "fp32.onnx"), path, Rows(rows), per_channel=True, activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8, extra_options={"ActivationSymmetric": True},
    )  # fmt: skip
    assert_mended(path, tmp_path / "mended.onnx", rows, products=2)


def test_signed_numbers_on_both_sides_never_overflow(tmp_path):
    weights = rng().integers(100, 128, (64, 32)).astype(np.int8)
    nodes = [helper.make_node("MatMulInteger", ["x", "w", "xz"], ["y"])]
    stored = {"w": weights, "xz": np.int8(-128)}
    path = save(tmp_path / "int8.onnx", nodes, stored, ["batch", 64], x_type=TensorProto.INT8, y_type=TensorProto.INT32)
    x = rng().integers(100, 128, (4, 64)).astype(np.int8)
    np.testing.assert_array_equal(outputs(path, [{"x": x}]), (x.astype(np.int64) + 128) @ weights.astype(np.int64))
    assert not overflow.check(path).products


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_two_operands_that_are_computed_alike_are_no_product(tmp_path, kind):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["f"]),
        helper.make_node("Transpose", ["f"], ["t"]),
        helper.make_node("MatMul", ["f", "t"], ["y"]),
    ]
    path = save(tmp_path / "int8.onnx", nodes, {"s": np.float32(0.1), "z": kind(0)}, [4, 8])
    assert not overflow.check(path).products


def test_weights_in_a_constant_or_behind_an_identity_are_mended(tmp_path):
    rows = [{"x": rng().integers(200, 256, (4, 64)).astype(np.uint8)}]
    constant = qdq_product(tmp_path / "constant.onnx", constant=True)
    assert_mended(constant, tmp_path / "mended.onnx", rows, products=1)
    passed = qdq_product(tmp_path / "passed.onnx", first=[helper.make_node("Identity", ["w"], ["same"])])
    assert_mended(passed, tmp_path / "mended2.onnx", rows, products=1)


def test_a_vector_of_weights_is_one_output(tmp_path):
    path = qdq_product(tmp_path / "int8.onnx", weights=rng().integers(100, 128, 64).astype(np.int8))
    rows = [{"x": rng().integers(200, 256, (4, 64)).astype(np.uint8)}]
    assert overflow.check(path).pairs == 32
    assert_mended(path, tmp_path / "mended.onnx", rows, products=1)


@pytest.mark.parametrize("per_channel", [False, True])
def test_float_weights_that_are_rounded_at_load_are_mended(tmp_path, per_channel):
    path, rows = tmp_path / "int8.onnx", float_rows((INPUTS,))
    quantize_static(
        network(tmp_path / "fp32.onnx"), path, Rows(rows), per_channel=per_channel, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, extra_options={"AddQDQPairToWeight": True},
    )  # fmt: skip
    assert_mended(path, tmp_path / "mended.onnx", rows, products=2)


def test_a_convolution_that_takes_its_weights_first_never_overflows(tmp_path):
    weights = rng().integers(100, 128, (8, 16, 3, 3)).astype(np.int8)
    nodes = [helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"])]
    stored = {"w": weights, "xz": np.uint8(0), "wz": np.int8(0)}
    path = save(
        tmp_path / "int8.onnx", nodes, stored, [1, 16, 3, 3], x_type=TensorProto.UINT8, y_type=TensorProto.INT32
    )
    x = rng().integers(200, 256, (1, 16, 3, 3)).astype(np.uint8)
    sums = np.einsum("ochw,bchw->bo", weights.astype(np.int64), x.astype(np.int64))
    np.testing.assert_array_equal(outputs(path, [{"x": x}])[:, :, 0, 0], sums)
    assert not overflow.check(path).products


def test_weights_with_a_scale_for_each_input_are_refused(tmp_path):
    path = qdq_product(tmp_path / "int8.onnx", weights=rng().integers(100, 128, (64, 64)).astype(np.int8))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("ws", "wz"):
            value = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.full(64, value), tensor.name))
    model.graph.node[1].attribute.append(helper.make_attribute("axis", 0))
    with pytest.raises(QuantizeError, match="product: its weights have a scale for each input"):
        overflow_fix.mend(model, "pairs")


def test_a_scale_that_weights_and_activations_share_changes_for_the_weights_alone(tmp_path):
    path = qdq_product(tmp_path / "int8.onnx")
    model = onnx.load(path)
    model.graph.node[0].input[1] = "ws"  # equal numbers are often stored once
    assert overflow_fix.mend(model, "pairs") == 1
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert stored[model.graph.node[0].input[1]] == np.float32(0.01)
    assert stored[model.graph.node[1].input[1]] > 0.015
