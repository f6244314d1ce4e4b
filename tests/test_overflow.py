"""Which int8 weights could overflow 16 bits is told from the file alone, on every processor."""

import itertools

import numpy as np
import onnx
import pytest
from integer_graphs import FORMS, model
from onnx import TensorProto, helper, numpy_helper

from tledge import overflow
from tledge.artifacts import Overflow
from tledge.errors import BundleError


def rows_to(form, rows):
    """Weights `(outputs, inputs)` as a form stores them."""
    if "Conv" in form:
        return rows[:, :, None, None]
    return rows if "Gemm" in form else rows.T


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channelwise", [False, True])
def test_a_graph_made_to_overflow_is_found(form, channelwise, tmp_path):
    rows = np.zeros((3, 6), np.int8)
    rows[1, 2:4] = 100, 90
    scale = np.ones(3) if channelwise else 1.0
    onnx.save(model(form, rows_to(form, rows), weight_scale=scale), tmp_path / "model.onnx")
    assert overflow.check(tmp_path / "model.onnx") == Overflow(1, 9, 1, ("product",), (), 1, 0)


@pytest.mark.parametrize(
    ("pair", "safe"),
    [
        *[((64, 64), True), ((127, 1), True), ((65, 64), False), ((127, 2), False)],
        *[((-64, -64), True), ((-128, 0), True), ((-65, -64), False), ((-128, -1), False), ((127, -128), True)],
    ],
)
def test_the_border_is_that_of_16_bits(pair, safe):
    sums = [a * pair[0] + b * pair[1] for a, b in itertools.product((0, 255), repeat=2)]
    assert (max(sums) <= 32767 and min(sums) >= -32768) == safe
    assert overflow.overflowing(np.array([pair], np.int8)).any() == (not safe)


@pytest.mark.parametrize("form", FORMS)
def test_neighbours_are_those_of_the_summed_axis(form):
    rows = np.zeros((2, 8), np.int8)
    rows[0, [1, 2]] = rows[1, [0, 3]] = 120  # near each other, but in two pairs
    assert overflow.count(model(form, rows_to(form, rows), weight_scale=1.0), None).overflowing == 0
    rows[0, [4, 5]] = 120
    assert overflow.count(model(form, rows_to(form, rows), weight_scale=1.0), None).overflowing == 1


def test_a_convolution_is_summed_by_place_then_channel():
    weights = np.zeros((1, 2, 1, 2), np.int8)
    weights[0, :, 0, 0] = 120  # both channels of one place
    assert overflow.count(model("QLinearConv", weights, weight_scale=1.0), None).overflowing == 1
    weights[:] = 0
    weights[0, 0, 0, :] = 120  # both places of one channel
    assert overflow.count(model("QLinearConv", weights, weight_scale=1.0), None).overflowing == 0


def test_a_last_weight_without_a_neighbour_is_safe():
    weights = np.full((1, 3), 0, np.int8)
    weights[0, 2] = -128
    assert overflow.count(model("QGemm", weights, weight_scale=1.0), None) == Overflow(1, 1)


@pytest.mark.parametrize("form", ["QLinearMatMul", "QLinearConv", "qdq MatMul", "qdq Conv"])
def test_signed_activations_are_not_counted(form):
    rows = np.full((3, 6), 127, np.int8)
    assert overflow.count(model(form, rows_to(form, rows), weight_scale=1.0, x_zero=np.int8(0)), None) == Overflow()


def test_depthwise_convolutions_are_not_counted():
    weights = np.full((4, 1, 3, 3), 127, np.int8)
    assert overflow.count(model("QLinearConv", weights, weight_scale=1.0, group=4), None) == Overflow()
    twice = np.full((8, 1, 3, 3), 127, np.int8)  # two outputs of each input go another way
    assert overflow.count(model("QLinearConv", twice, weight_scale=1.0, group=4), None).overflowing == 32


def test_unsigned_weights_are_not_counted():
    made = model("QLinearMatMul", np.full((6, 3), 127, np.int8), weight_scale=1.0)
    for tensor in made.graph.initializer:
        if tensor.name in ("w", "wz"):
            values = numpy_helper.to_array(tensor).astype(np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert overflow.count(made, None) == Overflow()


def test_int8_numbers_that_are_computed_are_named():
    made = model("QLinearMatMul", np.zeros((6, 3), np.int8), weight_scale=1.0)
    made.graph.initializer.remove(next(t for t in made.graph.initializer if t.name == "w"))
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, [6, 3]))
    found = overflow.count(made, None)
    assert found == Overflow(1, 0, 0, (), ("product",), 0, 1)
    assert found.possible
    assert overflow.told(found) == "1 products with int8 numbers that are computed may overflow"


def test_graphs_inside_nodes_are_looked_at():
    inner = model("MatMulInteger", np.full((6, 3), 127, np.int8), weight_scale=1.0)
    weights = [t for t in inner.graph.initializer if t.name == "w"]
    branches = []
    for name in ("then", "else"):
        nodes = [helper.make_node("MatMulInteger", ["x", "w"], [f"{name}_y"], name=f"{name}_product")]
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.INT32, None)
        branches.append(helper.make_graph(nodes, name, [], [out]))
    node = helper.make_node("If", ["is"], ["y"], then_branch=branches[0], else_branch=branches[1])
    taken = [
        helper.make_tensor_value_info("is", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 6]),
    ]
    given = [helper.make_tensor_value_info("y", TensorProto.INT32, None)]
    graph = helper.make_graph([node], "outer", taken, given, weights)
    found = overflow.count(helper.make_model(graph), None)
    assert (found.products, found.overflowing) == (2, 18)
    assert set(found.layers) == {"then_product", "else_product"}


def test_float32_weights_that_are_rounded_at_load_are_seen_as_int8():
    made = model("qdq Gemm", np.array([[100, 90]], np.int8), weight_scale=np.float32(0.5))
    tensor = next(t for t in made.graph.initializer if t.name == "w")
    tensor.CopyFrom(numpy_helper.from_array(np.array([[50, 45]], np.float32), "w"))
    made.graph.node.insert(0, helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["w8"]))
    next(n for n in made.graph.node if n.output[0] == "w_float").input[0] = "w8"
    assert overflow.count(made, None).overflowing == 1


def test_words_for_what_was_found():
    assert overflow.told(Overflow()) == "no product of uint8 and int8"
    assert overflow.told(Overflow(2, 3000)) == "none of 3,000 pairs of int8 weights can overflow"
    assert overflow.told(Overflow(2, 3000, 7, ("a",), (), 1)) == (
        "7 of 3,000 pairs of int8 weights can overflow, in 1 layer"
    )


def test_what_is_no_onnx_file_is_told_in_one_line(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"version https://git-lfs")
    with pytest.raises(BundleError, match="is no ONNX file, or damaged"):
        overflow.check(tmp_path / "a.onnx")


def test_a_circle_of_nodes_ends():
    nodes = [
        helper.make_node("Identity", ["b"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("MatMulInteger", ["a", "b"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "circle", [], [helper.make_tensor_value_info("y", TensorProto.INT32, None)])
    assert overflow.count(helper.make_model(graph), None) == Overflow()
