"""Graphs of one integer product, in every form that one is written in, and what int64 arithmetic says they give."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
FORMS = ("MatMulInteger", "QLinearMatMul", "QGemm", "QLinearConv", "qdq MatMul", "qdq Gemm", "qdq Conv")


def model(form, weights, *, weight_scale, x_zero=0, group=1, strides=(1, 1), pads=0, y_scale=1.0, bias=None):
    """A model from `x`, of the type of `x_zero` or uint8, to `y`.

    `weights` are int8: `(inputs, outputs)`, of `QGemm` and `qdq Gemm` `(outputs, inputs)`, of a convolution `(outputs,
    inputs of a group, height, width)`. The activations' scale is 1, `bias` in steps of the weights' scale.
    """
    x_zero = np.asarray(x_zero, getattr(x_zero, "dtype", np.uint8))
    scale = np.asarray(weight_scale, np.float32)
    stored = {
        "w": weights,
        "ws": scale,
        "wz": np.zeros(scale.shape, np.int8),
        "xs": np.float32(1),
        "xz": x_zero,
        "ys": np.float32(y_scale),
        "yz": x_zero.dtype.type(128 if x_zero.dtype == np.uint8 else 0),
    }
    conv = {"group": group, "strides": list(strides), "pads": [pads] * 4}
    x_shape = ["batch", weights.shape[1] * group, None, None] if "Conv" in form else ["batch", None]
    kind_of_x = out = TensorProto.UINT8 if x_zero.dtype == np.uint8 else TensorProto.INT8
    if form == "MatMulInteger":
        out = TensorProto.FLOAT
        nodes = [
            helper.make_node("MatMulInteger", ["x", "w", "xz"], ["sums"], name="product"),
            helper.make_node("Cast", ["sums"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "ws"], ["y"]),
        ]
    elif form in ("QLinearMatMul", "QGemm", "QLinearConv"):
        inputs = ["x", "xs", "xz", "w", "ws", "wz"]
        after = {"QGemm": [*(["b"] if bias is not None else [""]), "ys", "yz"]}.get(form, ["ys", "yz"])
        if form == "QLinearConv" and bias is not None:
            after.append("b")
        facts = {"QGemm": {"domain": MICROSOFT, "transB": 1}, "QLinearConv": conv}.get(form, {})
        nodes = [helper.make_node(form, [*inputs, *after], ["y"], name="product", **facts)]
        if bias is not None:
            stored["b"] = bias
    else:
        kind = form.removeprefix("qdq ")
        axis = {"MatMul": 1}.get(kind, 0)
        facts = {"Gemm": {"transB": 1}, "Conv": conv}.get(kind, {})
        inputs = ["x_float", "w_float"]
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["x_float"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["w_float"], axis=axis),
        ]
        if bias is not None:
            stored |= {"b": bias, "bs": scale, "bz": np.zeros(scale.shape, np.int32)}
            nodes.append(helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["b_float"], axis=0))
            inputs.append("b_float")
        nodes += [
            helper.make_node(kind, inputs, ["y_float"], name="product", **facts),
            helper.make_node("QuantizeLinear", ["y_float", "ys", "yz"], ["y"]),
        ]
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", kind_of_x, x_shape)],
        [helper.make_tensor_value_info("y", out, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items() if name in read],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def sums(form, x, weights, *, x_zero=0, group=1, strides=(1, 1), pads=0):
    """The integer sums of the product, int64."""
    x, weights = x.astype(np.int64) - x_zero, weights.astype(np.int64)
    if "Conv" not in form:
        return x @ (weights.T if "Gemm" in form else weights)
    x = np.pad(x, ((0, 0), (0, 0), (pads, pads), (pads, pads)))
    n_out, n_in, height, width = weights.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(2, 3))[
        :, :, :: strides[0], :: strides[1]
    ]
    per = n_out // group
    parts = [
        np.einsum("bchwij,ocij->bohw", windows[:, g * n_in : (g + 1) * n_in], weights[g * per : (g + 1) * per])
        for g in range(group)
    ]
    return np.concatenate(parts, axis=1)
