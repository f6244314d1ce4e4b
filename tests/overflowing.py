"""A tiny bundle whose int8 graph has a product of uint8 and int8, which may overflow; its answers are the same."""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tledge import overflow
from tledge.artifacts import Processor

AVX2 = Processor("a cpu", "x86_64", ("avx2",), "x86_64 AVX2 without VNNI")
VNNI = Processor("a cpu", "x86_64", ("avx2", "avx512f", "avx512_vnni"), "x86_64 AVX512-VNNI")


def add_product(path, weight):
    """Add 0 times a product of two uint8 with int8 weights of this size to the logits of a graph."""
    model = onnx.load(path)
    graph = model.graph
    last = next(node for node in graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "answers"
    n_labels = graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    stored = {
        "small": np.full((1, 2), 255, np.uint8),
        "codes": np.full((2, n_labels), weight, np.int8),
        "nothing": np.float32(0),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    graph.node.extend(
        [
            helper.make_node("MatMulInteger", ["small", "codes"], ["sums"], name="product"),
            helper.make_node("Cast", ["sums"], ["sums_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["sums_float", "nothing"], ["zeros"]),
            helper.make_node("Add", ["answers", "zeros"], ["logits"]),
        ]
    )
    onnx.save(model, path)


def write(tiny, folder, weight, *, processor=AVX2, **changes):
    """A bundle as `tiny.write` makes one; `changes` are of its int8 variant."""
    (fp32, fp32_file), (int8, int8_file) = tiny.variants
    add_product(int8_file, weight)
    graph = dataclasses.replace(int8.graph, size_bytes=int8_file.stat().st_size)
    facts = {"graph": graph, "overflow": overflow.check(int8_file), "processor": processor}
    int8 = dataclasses.replace(int8, **(facts | changes))
    fp32 = dataclasses.replace(fp32, processor=processor)
    tiny.write(folder, variants=[(fp32, fp32_file), (int8, int8_file)])
    return folder
