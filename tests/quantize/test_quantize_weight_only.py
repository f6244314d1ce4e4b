import logging
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge.quantize import weight_only
from tledge.quantize.schemes import int8_dynamic
from tledge.runtime import open_session, session_run

RNG = np.random.default_rng(0)


def unpacked(packed, scales, zero_points, width):
    """What packed weights stand for, `(outputs, width)`, computed by hand from the format's description."""
    if packed.shape[-1] == 32:  # one value a byte
        found = (packed.astype(np.float32) - zero_points[..., None]) * scales[..., None]
        return found.reshape(len(packed), -1)[:, :width]
    low, high = packed & 0xF, packed >> 4
    codes = np.stack([low, high], -1).reshape(*packed.shape[:2], -1).astype(np.float32)
    zeros = np.stack([zero_points & 0xF, zero_points >> 4], -1).reshape(len(packed), -1)[:, : packed.shape[1]]
    return ((codes - zeros[..., None]) * scales[..., None]).reshape(len(packed), -1)[:, :width]


def save(path, nodes, weights, inputs, outputs):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def quantized(path, bits=4):
    target = path.with_name("model_few.onnx")
    weight_only.apply(path, target, bits=bits)
    model = onnx.load(target)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return model, stored, session_run(open_session(target))


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("outputs", "width"), [(7, 64), (3, 96), (5, 50)])
def test_packed_weights_are_near_and_of_few_bits(outputs, width, symmetric, bits):
    weights = normal(outputs, width)
    packed, scales, zero_points = weight_only.pack(weights, bits=bits, symmetric=symmetric)
    blocks = -(-width // 32)
    assert packed.shape == (outputs, blocks, 4 * bits) and packed.dtype == np.uint8
    assert scales.shape == (outputs, blocks) and scales.dtype == np.float32
    assert zero_points.shape == (outputs, -(-blocks * bits // 8))
    off = np.abs(unpacked(packed, scales, zero_points, width) - weights)
    step = np.repeat(np.abs(scales), 32, axis=1)[:, :width]
    assert (off <= step * 1.01).all()  # half a step, and one at the end that a range of even size cannot reach
    assert step.max() < (0.8 if bits == 4 else 0.05), "the largest of 32 normal numbers is seldom beyond 4"
    if symmetric:
        assert set(zero_points.flatten()) == {0x88 if bits == 4 else 0x80}


def test_zero_points_make_products_more_exact():
    """Why products have zero points: the weights' squared error is smaller, of plain and of lopsided weights."""
    for weights in (normal(64, 512), normal(64, 512) ** 2):
        errors = {
            symmetric: np.mean((unpacked(*weight_only.pack(weights, bits=4, symmetric=symmetric), 512) - weights) ** 2)
            for symmetric in (True, False)
        }
        assert errors[False] < 0.95 * errors[True]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("width", "level"), [(64, 4), (64, 1), (40, 4), (40, 1), (33, 1)])
def test_products_compute_with_what_is_packed_whatever_their_width(width, level, bits, tmp_path, monkeypatch):
    """`MatMul`, and `Gemm` of both kinds with a bias; at level 1 in float32, at level 4 with inputs rounded to int8."""
    monkeypatch.setattr(weight_only, "ACCURACY_LEVEL", level)
    weights = {"plain": normal(width, 24), "gemm": normal(width, 24), "across": normal(24, width), "bias": normal(24)}
    nodes = [
        helper.make_node("MatMul", ["x", "plain"], ["a"]),
        helper.make_node("Gemm", ["x", "gemm", "bias"], ["b"]),
        helper.make_node("Gemm", ["x", "across", "bias"], ["c"], transB=1),
    ]
    path = tmp_path / "model.onnx"
    save(path, nodes, weights, {"x": (TensorProto.FLOAT, ["n", width])}, {name: ["n", 24] for name in "abc"})
    model, stored, run = quantized(path, bits)
    assert [node.op_type for node in model.graph.node] == ["MatMulNBits", "MatMulNBits", "Add", "MatMulNBits", "Add"]
    assert set(stored) >= {f"plain_q{bits}", "bias"} and not {"plain", "gemm", "across"} & set(stored)
    x = normal(5, width)
    outputs = run({"x": x})
    bias = weights["bias"]
    for name, kind, added in (("plain", "a", 0), ("gemm", "b", bias), ("across_transposed", "c", bias)):
        rows = unpacked(*(stored[f"{name}_{part}"] for part in (f"q{bits}", "scales", "zero_points")), width)
        expected = x @ rows.T + added
        assert np.abs(outputs[kind] - expected).max() < (1e-4 if level == 1 else 0.02 * np.abs(expected).max())


def test_one_row_with_huge_inputs_does_not_spoil_the_others(tmp_path):
    """As it does where all rows of a run share one scale."""
    path = tmp_path / "model.onnx"
    weights = normal(64, 24)
    save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}, {"x": (TensorProto.FLOAT, ["n", 64])},
         {"y": ["n", 24]})  # fmt: skip
    x = normal(5, 64)
    x[0] *= 1000
    int8_dynamic.apply(path, tmp_path / "dynamic.onnx")
    shared_scale = session_run(open_session(tmp_path / "dynamic.onnx"))
    _, _, run = quantized(path, bits=8)
    off = [np.abs(each({"x": x})["y"][1:] - x[1:] @ weights).max() for each in (run, shared_scale)]
    assert off[0] < 0.3 < 3 < off[1]


def test_weights_with_fewer_inputs_than_a_block_stay(tmp_path):
    path = tmp_path / "model.onnx"
    nodes = [helper.make_node("MatMul", ["x", "small"], ["y"]), helper.make_node("MatMul", ["y", "large"], ["z"])]
    weights = {"small": normal(31, 32), "large": normal(32, 8)}
    save(path, nodes, weights, {"x": (TensorProto.FLOAT, ["n", 31])}, {"z": ["n", 8]})
    model, stored, run = quantized(path)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMulNBits"]
    np.testing.assert_array_equal(stored["small"], weights["small"])
    x = normal(4, 31)
    expected = x @ weights["small"] @ weights["large"]
    assert np.abs(run({"x": x})["z"] - expected).max() < 0.2 * np.abs(expected).max()


def test_weights_that_layers_share_are_stored_once(tmp_path):
    path = tmp_path / "model.onnx"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("MatMul", ["y", "w"], ["z"])]
    save(path, nodes, {"w": normal(64, 64)}, {"x": (TensorProto.FLOAT, ["n", 64])}, {"z": ["n", 64]})
    model, stored, _ = quantized(path)
    assert sorted(stored) == ["w_q4", "w_scales", "w_zero_points"]
    assert len(model.graph.initializer) == 3


def table_graph(path, table, *, product):
    nodes = [helper.make_node("Gather", ["table", "ids"], ["words"], axis=0)]
    outputs = {"words": ["batch", "sequence", table.shape[1]]}
    weights = {"table": table}
    if product:
        weights["flat"] = np.array([-1, table.shape[1]])
        nodes.append(helper.make_node("Reshape", ["words", "flat"], ["flattened"]))
        nodes.append(helper.make_node("Gemm", ["flattened", "table"], ["logits"], transB=1))
        outputs["logits"] = ["tokens", len(table)]
    save(path, nodes, weights, {"ids": (TensorProto.INT64, ["batch", "sequence"])}, outputs)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("width", [32, 96])
def test_a_table_is_stored_once_and_looked_up_exactly(width, product, bits, tmp_path):
    """Also with an odd number of blocks in a row."""
    table, path = normal(50, width), tmp_path / "model.onnx"
    table_graph(path, table, product=product)
    _, stored, run = quantized(path, bits)
    assert sorted(name for name in stored if name.startswith("table")) == [
        "table_packed_rows",
        f"table_q{bits}",
        "table_scales",
    ]
    assert path.with_name("model_few.onnx").stat().st_size < path.stat().st_size / (3 if bits == 4 else 2)
    ids = np.array([[0, 3, 49], [7, 7, 1]])
    outputs = run({"ids": ids})
    middle = np.full((50, -(-width // 32 * bits // 8)), 0x88 if bits == 4 else 0x80, np.uint8)
    rows = unpacked(stored[f"table_q{bits}"], stored["table_scales"], middle, width)
    np.testing.assert_allclose(outputs["words"], rows[ids], atol=1e-6)
    if product:
        expected = outputs["words"].reshape(6, width) @ rows.T
        assert np.abs(outputs["logits"] - expected).max() < 0.02 * np.abs(expected).max()


def test_a_table_of_another_width_stays(tmp_path):
    table, path = normal(50, 40), tmp_path / "model.onnx"
    table_graph(path, table, product=True)
    model, _, run = quantized(path)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Gather", "Reshape", "MatMulNBits"]
    ids = np.array([[0, 3, 49]])
    np.testing.assert_array_equal(run({"ids": ids})["words"], table[ids])


def test_a_table_that_something_else_reads_stays(tmp_path):
    table, path = normal(50, 32), tmp_path / "model.onnx"
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Add", ["table", "table"], ["twice"]),
    ]
    outputs = {"words": ["batch", "sequence", 32], "twice": [50, 32]}
    save(path, nodes, {"table": table}, {"ids": (TensorProto.INT64, ["batch", "sequence"])}, outputs)
    model, _, run = quantized(path)
    assert [node.op_type for node in model.graph.node] == ["Gather", "Add"]
    np.testing.assert_array_equal(run({"ids": np.array([[1]])})["twice"], table * 2)


def test_logging_is_left_as_it_was():
    """The quantizer sets up logging for the process that imports it."""
    code = (
        "import logging, numpy as np; from tledge.quantize import weight_only; "
        "weight_only.pack(np.ones((2, 32), np.float32), bits=4, symmetric=True); "
        "print(len(logging.getLogger().handlers), logging.getLogger().level)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["0", str(logging.WARNING)]
    assert not told.stderr


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 2, 17])
@pytest.mark.parametrize("sign", ["same", "random"])
def test_the_largest_numbers_do_not_overflow(bits, rows, sign, tmp_path):
    """Inputs of one magnitude are the largest steps of int8, and weights the largest codes: 16 bits would clip."""
    rng = np.random.default_rng(bits)
    signs = np.ones if sign == "same" else lambda shape: rng.choice([-1.0, 1.0], shape)
    weights = (3 * signs((64, 256))).astype(np.float32)
    codes, scales, zeros = weight_only.pack(weights, bits=bits, symmetric=False)
    product = helper.make_node(
        "MatMulNBits", ["x", "codes", "scales", "zeros"], ["y"], domain="com.microsoft",
        K=256, N=64, bits=bits, block_size=32, accuracy_level=weight_only.ACCURACY_LEVEL,
    )  # fmt: skip
    graph = helper.make_graph(
        [product],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])],
        [
            numpy_helper.from_array(array, name)
            for name, array in (("codes", codes), ("scales", scales), ("zeros", zeros))
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    x = (2 * signs((rows, 256))).astype(np.float32)
    got = session_run(open_session(tmp_path / "m.onnx"))({"x": x})["y"]
    expected = x.astype(np.float64) @ unpacked(codes, scales, zeros, 256).T
    np.testing.assert_allclose(got, expected, atol=1e-3 * 2 * 3 * 256)
