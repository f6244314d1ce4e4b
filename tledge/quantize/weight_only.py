"""Weights in 4 or 8 bits, in blocks of 32 along the input with a scale each; activations stay float32.

Matrix products become onnxruntime's `MatMulNBits`, embedding tables its `GatherBlockQuantized`, and what lies between
stays in float32. Rounding is to the nearest step (no calibration). Blocks of products have a zero point too, which
lowers the squared error of 4-bit weights by about a tenth. Tables have none, since a table without zero points can be
stored once for the look-up and the output layer; onnxruntime 1.23 runs such a graph, and 1.22 does not load it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tledge.quantize.tables import Table, drop, is_product, replace, store, tables

BLOCK = 32
"""Weights with one scale. Smaller blocks are more exact and larger; 32 is what the ecosystem's files use."""
ACCURACY_LEVEL = 4
"""How exactly `MatMulNBits` must compute: at level 4 it may round a product's input to int8, block by block, which lets
CPUs use their integer instructions. Unset, or at level 1, it computes in float32."""
DOMAIN = "com.microsoft"

Array = npt.NDArray[Any]


def apply(source: Path, target: Path, *, bits: int) -> None:
    """Write the variant of the graph at `source` with weights of 4 or 8 bits to `target`.

    Left in float32 are weights with fewer inputs than a block has, which would not get smaller, and tables whose width
    is no multiple of a block, which `GatherBlockQuantized` does not take. A product's last block may be a shorter one.
    """
    model = onnx.load(source)
    # A fresh export's shapes of inner values disagree with onnx's own inference; they are inferred anew.
    del model.graph.value_info[:]
    for table in tables(model):
        if table.array.shape[1] % BLOCK == 0:
            _quantize_table(model.graph, table, bits)
    _quantize_products(model.graph, bits)
    drop(model.graph, _unread(model.graph))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    onnx.save(model, target)


def pack(weights: Array, *, bits: int, symmetric: bool) -> tuple[Array, Array, Array]:
    """Weights of outputs, `(outputs, inputs) float32`, in 4 or 8 bits, as `MatMulNBits` reads them.

    Returns:
        The values, `(outputs, blocks, BLOCK) uint8`, or with 4 bits two a byte, `(outputs, blocks, BLOCK / 2) uint8`;
        scales, `(outputs, blocks) float32`; and zero points, `(outputs, blocks) uint8`, or two a byte, `(outputs,
        blocks / 2 rounded up) uint8`, which are the middle of the range where `symmetric`.
    """
    # Importing the module sets up logging for the whole process.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        DefaultWeightOnlyQuantizer,
    )

    root.handlers[:] = handlers
    root.setLevel(level)
    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=symmetric, bits=bits)
    packed, scales, zero_points = DefaultWeightOnlyQuantizer(config).qbits_block_quant(np.ascontiguousarray(weights.T))
    if symmetric:
        zero_points[:] = {4: 0x88, 8: 0x80}[bits]
    return packed, scales, zero_points


def _quantize_table(graph: onnx.GraphProto, table: Table, bits: int) -> None:
    """Store a table in few bits for its look-ups and products."""
    rows, width = table.array.shape
    packed, scales, _ = pack(table.array, bits=bits, symmetric=True)
    stored = [store(graph, f"{table.name}_q{bits}", packed), store(graph, f"{table.name}_scales", scales)]
    shape = store(graph, f"{table.name}_packed_rows", np.array([rows, width * bits // 8]))
    flat = f"{table.name}_q{bits}_rows"
    # A look-up reads two dimensions where a product reads three; runtimes do this once, at load.
    graph.node.insert(0, helper.make_node("Reshape", [stored[0], shape], [flat], name=f"{flat}_reshape"))
    for node in table.lookups:
        found = helper.make_node(
            "GatherBlockQuantized",
            [flat, node.input[1], stored[1]],
            list(node.output),
            name=f"{node.output[0]}_q{bits}",
            domain=DOMAIN,
            bits=bits,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )
        replace(graph, node, [found])
    for node in table.products:
        replace(graph, node, _product(node, stored, width, rows, bits))


def _quantize_products(graph: onnx.GraphProto, bits: int) -> None:
    """Store the weights of `MatMul` and `Gemm` in few bits, each once, however many nodes read it."""
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
    }
    done: dict[tuple[str, bool], list[str]] = {}
    for node in list(graph.node):
        name = node.input[1] if len(node.input) > 1 else ""
        transposed = name in weights and is_product(node, name, transposed=True)
        plain = name in weights and (node.op_type == "MatMul" or is_product(node, name, transposed=False))
        if not (plain or transposed):
            continue
        outputs = weights[name] if transposed else weights[name].T
        if outputs.shape[1] < BLOCK:
            continue
        if (name, transposed) not in done:
            packed = pack(outputs, bits=bits, symmetric=False)
            parts = zip((f"q{bits}", "scales", "zero_points"), packed, strict=True)
            end = "_transposed" if transposed else ""
            done[name, transposed] = [store(graph, f"{name}{end}_{part}", array) for part, array in parts]
        replace(graph, node, _product(node, done[name, transposed], outputs.shape[1], outputs.shape[0], bits))


def _product(
    node: onnx.NodeProto, stored: Iterable[str], n_inputs: int, n_outputs: int, bits: int
) -> list[onnx.NodeProto]:
    """`MatMulNBits` in the place of `MatMul` or `Gemm`, whose bias is added after it."""
    bias = [name for name in node.input[2:] if name]
    output = f"{node.output[0]}_product" if bias else node.output[0]
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], *stored],
        [output],
        name=f"{node.output[0]}_q{bits}",
        domain=DOMAIN,
        K=n_inputs,
        N=n_outputs,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=ACCURACY_LEVEL,
    )
    if not bias:
        return [product]
    return [product, helper.make_node("Add", [output, *bias], list(node.output), name=f"{node.output[0]}_bias")]


def _unread(graph: onnx.GraphProto) -> list[str]:
    read = {name for node in graph.node for name in node.input}
    return [tensor.name for tensor in graph.initializer if tensor.name not in read]
