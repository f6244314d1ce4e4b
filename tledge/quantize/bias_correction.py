"""Biases that take back what rounded weights add to the outputs of a layer on average.

Rounding weights `W` to `W'` adds `(W' - W) x` to an output. Over many inputs that is noise around its mean, `(W' - W)
E[x]`, and the mean, the same for every input, is what hurts networks of narrow layers most. So it is taken off the
bias. `E[x]` is the mean of each input channel over calibration rows, in the float32 network; at the border of an image,
where a convolution reads padding, it is a little less, which is neglected.

Source: Nagel, van Baalen, Blankevoort, Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.2, in its empirical form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tledge.overflow import attribute
from tledge.runtime import open_session, session_run

Array = npt.NDArray[Any]
_LAYERS = ("Conv", "Gemm")
"""Operators that have a bias of their own."""


def input_means(source: Path, rows: Iterable[Mapping[str, Array]], scratch: Path) -> dict[str, Array]:
    """The mean of each channel of what layers read, by the tensor's name, `(channels,) float64`.

    Args:
        source: the float32 graph.
        rows: calibration rows, each as the graph's input tensors.
        scratch: a folder to write a graph into that gives the tensors.
    """
    model = onnx.load(source)
    graph = model.graph
    given = {value.name for value in graph.input}
    names = list(dict.fromkeys(node.input[0] for node in graph.node if node.op_type in _LAYERS))
    inner = [name for name in names if name not in given]
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    path = scratch / "layer_inputs.onnx"
    onnx.save(model, path)
    run = session_run(open_session(path)) if inner else lambda row: {}
    sums: dict[str, Array] = {}
    count = 0
    for row in rows:
        found = {**run(row), **row}
        for name in names:
            each = found[name].astype(np.float64)
            mean = each.mean(axis=tuple(axis for axis in range(each.ndim) if axis != 1))
            sums[name] = sums.get(name, 0.0) + mean
        count += 1
    return {name: total / count for name, total in sums.items()}


def correct(path: Path, source: Path, means: Mapping[str, Array]) -> int:
    """Correct the biases of a quantized graph in QDQ form, in its file, and give the number of layers that were.

    Args:
        path: the quantized graph, whose layers have the names that they have in `source`.
        source: the float32 graph.
        means: what `input_means` gave of it.
    """
    model, original = onnx.load(path), onnx.load(source)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    weights = {tensor.name: tensor for tensor in original.graph.initializer}
    layers = {node.name: node for node in original.graph.node if node.op_type in _LAYERS}
    corrected = 0
    for node in model.graph.node:
        layer = layers.get(node.name)
        read = [each for name in node.input[1:3] if (each := makers.get(name)) and each.op_type == "DequantizeLinear"]
        if layer is None or len(read) < 2:
            continue  # it is in float, or has no bias
        rounded, bias = read
        if layer.input[1] not in weights or rounded.input[0] not in stored or bias.input[0] not in stored:
            continue
        codes, scales, zeros = (numpy_helper.to_array(stored[name]).astype(np.float64) for name in rounded.input)
        axis = attribute(rounded, "axis", 1) % codes.ndim
        others = tuple(i for i in range(codes.ndim) if i != axis)
        # A scale and a zero point for each output, or one of each.
        scales, zeros = (np.expand_dims(each, others) if each.size > 1 else each for each in (scales, zeros))
        off = (codes - zeros) * scales - numpy_helper.to_array(weights[layer.input[1]])
        shift = _shift(off, means[layer.input[0]], node)
        steps, step = (numpy_helper.to_array(stored[name]).astype(np.float64) for name in bias.input[:2])
        new = np.rint(steps - shift / step)
        if np.abs(new).max(initial=0) < np.iinfo(np.int32).max:
            stored[bias.input[0]].CopyFrom(numpy_helper.from_array(new.astype(np.int32), bias.input[0]))
            corrected += 1
    onnx.save(model, path)
    return corrected


def _shift(off: Array, mean: Array, node: Any) -> Array:
    """What weights that are `off` add to each output on average, `(outputs,) float64`."""
    if node.op_type == "Gemm":
        return off @ mean if attribute(node, "transB", 0) else mean @ off
    groups = attribute(node, "group", 1)
    by_channel = off.sum(axis=tuple(range(2, off.ndim))).reshape(groups, -1, off.shape[1])
    return np.einsum("goc,gc->go", by_channel, mean.reshape(groups, -1)).reshape(-1)
