"""Mended weights give what exact arithmetic gives, on whatever processor this runs, and lose as little as they can."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from integer_graphs import FORMS, model, sums
from onnx import TensorProto, helper, numpy_helper

from tledge import overflow
from tledge.errors import BundleError, QuantizeError
from tledge.quantize import overflow_fix
from tledge.quantize.schemes import int8_dynamic

STEP = 2.0**-6


def run(made, x, **options):
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    for key, value in options.items():
        settings.add_session_config_entry(f"session.{key}", value)
    session = onnxruntime.InferenceSession(made.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def stored(made, name):
    return next(numpy_helper.to_array(t) for t in made.graph.initializer if t.name == name)


def store(made, name, array):
    next(t for t in made.graph.initializer if t.name == name).CopyFrom(numpy_helper.from_array(array, name))


def random_case(form, rng):
    """Shape of the weights, what else the form needs, and a shape of inputs."""
    rows = int(rng.choice([1, 2, 3, 5, 8, 17, 32]))
    if "Conv" in form:
        group, kernel = int(rng.choice([1, 1, 2, 4])), int(rng.choice([1, 2, 3, 5]))
        n_in, n_out = int(rng.integers(1, 13)), group * int(rng.integers(1, 9))
        facts = {"group": group, "strides": tuple(rng.choice([1, 2], 2).tolist()), "pads": int(rng.integers(0, 3))}
        height, width = (kernel + rng.integers(0, 5, 2)).tolist()
        return (n_out, n_in, kernel, kernel), facts, (min(rows, 3), n_in * group, height, width)
    n_in, n_out = int(rng.integers(1, 300)), int(rng.integers(1, 70))
    return ((n_out, n_in) if "Gemm" in form else (n_in, n_out)), {}, (rows, n_in)


def random_weights(shape, rng):
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(-127, 128, shape).astype(np.int8)
    if kind == 1:
        return rng.choice([-127, 127], shape).astype(np.int8)
    return np.clip(np.rint(rng.standard_t(3, shape) * 30), -127, 127).astype(np.int8)


@pytest.mark.parametrize("fix", ["pairs", "reduce_range"])
@pytest.mark.parametrize("form", FORMS)
def test_mended_products_equal_int64_arithmetic(form, fix):
    rng = np.random.default_rng(FORMS.index(form))
    for i in range(40):
        shape, facts, x_shape = random_case(form, rng)
        n_out = shape[1] if "MatMul" in form else shape[0]
        scale = np.full(n_out if i % 2 else (), STEP, np.float32)
        zero = int(rng.integers(0, 256))
        made = model(form, random_weights(shape, rng), weight_scale=scale, x_zero=zero, y_scale=16.0, **facts)
        overflow_fix.mend(made, fix)
        assert overflow.count(made, None).overflowing == 0
        assert stored(made, "ws").shape == scale.shape
        # A scale that is a power of two makes float32 exact, so that what is left is the integer sums.
        store(made, "ws", scale)
        worst = np.where(rng.random(x_shape) < 0.7, 255, rng.integers(0, 256, x_shape)).astype(np.uint8)
        exact = sums(form, worst, stored(made, "w"), x_zero=zero, **facts) * STEP
        expected = exact if form == "MatMulInteger" else np.clip(np.rint(exact / 16) + 128, 0, 255)
        np.testing.assert_array_equal(run(made, worst), expected)


@pytest.mark.parametrize("form", ["QLinearMatMul", "QLinearConv", "qdq MatMul", "qdq Conv"])
def test_signed_activations_are_exact_as_they_are(form):
    rng = np.random.default_rng(1)
    for _ in range(10):
        shape, facts, x_shape = random_case(form, rng)
        weights = rng.choice([-127, 127], shape).astype(np.int8)
        scale = np.full(shape[0] if "Conv" in form else shape[1], STEP, np.float32)
        made = model(form, weights, weight_scale=scale, x_zero=np.int8(0), y_scale=16.0, **facts)
        x = rng.choice([-128, 127], x_shape).astype(np.int8)
        expected = np.clip(np.rint(sums(form, x, weights, **facts) * STEP / 16), -128, 127)
        np.testing.assert_array_equal(run(made, x), expected)


@pytest.mark.parametrize("fix", ["pairs", "reduce_range"])
@pytest.mark.parametrize("per_output", [False, True])
@pytest.mark.parametrize("inputs", [1, 2, 7, 64, 385])
def test_codes_are_safe_and_near_the_weights(fix, per_output, inputs):
    rng = np.random.default_rng(inputs)
    weights = (rng.standard_t(3, (20, inputs)) * 0.1).astype(np.float32)
    groups = np.arange(20) if per_output else np.zeros(20, np.intp)
    own = (np.abs(weights).max(1) if per_output else np.abs(weights).max(keepdims=True).reshape(1)) / 127
    codes, scales = overflow_fix.safe(weights, own.astype(np.float32), groups, fix=fix)
    assert codes.dtype == np.int8
    assert scales.shape == own.shape
    assert not overflow.overflowing(codes).any()
    off = np.abs(codes * scales[groups][:, None] - weights)
    even = inputs // 2 * 2
    at_border = np.zeros(weights.shape, bool)
    sums_of_pairs = np.abs(codes[:, 0:even:2].astype(int) + codes[:, 1:even:2])
    at_border[:, 0:even:2] = at_border[:, 1:even:2] = sums_of_pairs == 128
    at_border |= np.abs(codes.astype(int)) >= 127
    assert np.all(off[~at_border] <= 0.5001 * np.broadcast_to(scales[groups][:, None], off.shape)[~at_border])


def test_pairs_lose_far_less_than_seven_bits():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(200, 384)).astype(np.float32)
    own = (np.abs(weights).max(1) / 127).astype(np.float32)

    def error(codes, scales):
        return float(np.sum((codes * scales[:, None] - weights) ** 2))

    plain = error(np.rint(weights / own[:, None]), own)
    pairs, reduced = (
        error(*overflow_fix.safe(weights, own, np.arange(200), fix=fix)) for fix in ("pairs", "reduce_range")
    )
    assert plain < pairs < 1.6 * plain
    assert reduced > 3 * plain


def test_outputs_of_zeros_are_kept():
    codes, scales = overflow_fix.safe(
        np.zeros((2, 4), np.float32), np.full(2, 1e-38, np.float32), np.arange(2), fix="pairs"
    )
    assert not codes.any()
    assert np.all(np.isfinite(scales))


@pytest.mark.parametrize("form", ["QGemm", "QLinearConv", "qdq Gemm", "qdq Conv"])
def test_a_bias_follows_its_scale(form):
    rng = np.random.default_rng(3)
    shape = (5, 8, 1, 1) if "Conv" in form else (5, 8)
    weights = np.full(shape, 127, np.int8)
    bias = rng.integers(-30000, 30000, 5).astype(np.int32)
    made = model(form, weights, weight_scale=np.full(5, STEP), y_scale=32.0, bias=bias)
    overflow_fix.mend(made, "pairs")
    scale = stored(made, "ws")
    np.testing.assert_allclose(stored(made, "b") * scale, bias * STEP, atol=STEP)
    assert np.all(scale > STEP)
    if form.startswith("qdq"):
        np.testing.assert_array_equal(stored(made, "bs"), scale)
    x = rng.integers(0, 256, (3, 8, 2, 2) if "Conv" in form else (3, 8)).astype(np.uint8)
    real = sums(form, x, weights) * STEP + (bias * STEP).reshape((5, 1, 1) if "Conv" in form else 5)
    expected = np.clip(np.rint(real / 32) + 128, 0, 255)
    assert np.abs(run(made, x).astype(int) - expected).max() <= 1


def test_weights_of_nobody_in_danger_are_left_as_they_are():
    made = model("QGemm", np.array([[100, -90], [64, 64]], np.int8), weight_scale=np.ones(2))
    before = made.SerializeToString()
    assert overflow_fix.mend(made, "pairs") == 0
    assert made.SerializeToString() == before


def test_a_scale_that_others_read_stays_theirs():
    made = model("QLinearMatMul", np.full((6, 3), 127, np.int8), weight_scale=1.0)
    made.graph.node.append(helper.make_node("Identity", ["ws"], ["scale_again"]))
    assert overflow_fix.mend(made, "pairs") == 1
    assert stored(made, "ws") == 1
    product = next(node for node in made.graph.node if node.name == "product")
    assert product.input[4] != "ws"
    assert stored(made, product.input[4]) > 1.9


def test_weights_with_a_zero_point_become_symmetric():
    made = model("QLinearMatMul", np.full((6, 3), 100, np.int8), weight_scale=np.ones(3, np.float32))
    store(made, "wz", np.full(3, -20, np.int8))
    overflow_fix.mend(made, "pairs")
    assert not stored(made, "wz").any()
    np.testing.assert_allclose(stored(made, "w") * stored(made, "ws"), 120, atol=2)


def test_float32_weights_that_are_rounded_at_load_are_stored_as_int8():
    made = model("qdq Gemm", np.array([[100, 90], [1, 2]], np.int8), weight_scale=np.full(2, 0.5, np.float32))
    store(made, "w", np.array([[50.1, 45.2], [0.5, 1.0]], np.float32))
    made.graph.node.insert(0, helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["w8"], axis=0))
    next(n for n in made.graph.node if n.output[0] == "w_float").input[0] = "w8"
    assert overflow_fix.mend(made, "pairs") == 1
    assert [n.op_type for n in made.graph.node].count("QuantizeLinear") == 1  # the output's
    assert stored(made, "w_quantized").dtype == np.int8
    np.testing.assert_allclose(
        stored(made, "w_quantized") * stored(made, "ws")[:, None], [[50.1, 45.2], [0.5, 1]], atol=0.6
    )
    assert overflow.count(made, None).overflowing == 0


def test_int8_numbers_that_are_computed_are_refused():
    made = model("QLinearMatMul", np.zeros((6, 3), np.int8), weight_scale=1.0)
    made.graph.initializer.remove(next(t for t in made.graph.initializer if t.name == "w"))
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, [6, 3]))
    with pytest.raises(QuantizeError, match="product: its int8 operand is computed"):
        overflow_fix.mend(made, "pairs")


def test_weights_that_are_read_in_another_way_are_refused():
    made = model("MatMulInteger", np.full((6, 3), 127, np.int8), weight_scale=1.0)
    made.graph.node.append(helper.make_node("Cast", ["w"], ["other"], name="other", to=TensorProto.FLOAT))
    with pytest.raises(QuantizeError, match="other reads its weights too"):
        overflow_fix.mend(made, "pairs")


def test_a_scale_that_is_not_found_is_refused():
    made = model("MatMulInteger", np.full((6, 3), 127, np.int8), weight_scale=1.0)
    del made.graph.node[1:]
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("sums", TensorProto.INT32, None))
    with pytest.raises(QuantizeError, match="the scale of its weights is not found"):
        overflow_fix.mend(made, "pairs")


@pytest.fixture
def tied(tmp_path):
    """A table that is looked up and is the output layer too, `(batch, sequence) int64` to `(batch, sequence, 40)`."""
    rng = np.random.default_rng(0)
    table = (rng.standard_t(3, (40, 32)) * 0.2).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Reshape", ["words", "flat"], ["rows"]),
        helper.make_node("Gemm", ["rows", "table"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tied",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([-1, 32]), "flat")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    return tmp_path / "m.onnx", table


def test_a_tied_table_is_mended_once_for_both(tied, tmp_path):
    path, table = tied
    target = tmp_path / "int8.onnx"
    int8_dynamic.apply(path, target)
    made = onnx.load(target)
    codes, scale = stored(made, "table_quantized"), stored(made, "table_scale")
    assert not overflow.overflowing(codes).any()
    np.testing.assert_allclose(codes * scale[:, None], table, atol=1.2 * float(scale.max()))
    ids = np.arange(40).reshape(2, 20)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    expected = table[ids.reshape(-1)] @ table.T
    got = session.run(None, {"ids": ids})[0]
    assert np.sqrt(np.mean((got - expected) ** 2)) < 0.03 * expected.std()


def test_dynamic_rounds_from_the_float32_weights(tied, tmp_path):
    path, table = tied
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    int8_dynamic.apply(path, once)
    int8_dynamic.apply(path, twice, overflow_fix="none")
    assert overflow.check(twice).possible
    overflow_fix.mend_file(twice, twice, "pairs")
    errors = []
    for file in (once, twice):
        made = onnx.load(file)
        errors.append(np.sum((stored(made, "table_quantized") * stored(made, "table_scale")[:, None] - table) ** 2))
    assert errors[0] < errors[1]


def test_a_file_with_weights_beside_it_is_mended(tmp_path):
    made = model("QLinearMatMul", np.full((60, 30), 127, np.int8), weight_scale=1.0)
    onnx.save(copy.deepcopy(made), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "elsewhere").mkdir()
    overflow_fix.mend_file(tmp_path / "m.onnx", tmp_path / "elsewhere" / "mended.onnx", "pairs")
    assert {p.name for p in (tmp_path / "elsewhere").iterdir()} == {"mended.onnx", "mended.onnx.data"}
    assert overflow.check(tmp_path / "elsewhere" / "mended.onnx").overflowing == 0
    assert overflow.check(tmp_path / "m.onnx").overflowing == 30 * 30
    onnxruntime.InferenceSession(tmp_path / "elsewhere" / "mended.onnx", providers=["CPUExecutionProvider"])


def test_a_file_whose_weights_are_missing_is_told_in_one_line(tmp_path):
    made = model("QLinearMatMul", np.full((60, 30), 127, np.int8), weight_scale=1.0)
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(BundleError, match=r"w\.bin"):
        overflow_fix.mend_file(tmp_path / "m.onnx", tmp_path / "mended.onnx", "pairs")
    assert not (tmp_path / "mended.onnx").exists()
