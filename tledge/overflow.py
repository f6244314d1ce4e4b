"""Which int8 products of a graph could overflow 16 bits, and so answer otherwise on another processor.

On x86 without VNNI instructions onnxruntime multiplies uint8 activations with int8 weights by `vpmaddubsw`, which adds
the products of two neighbours along the summed axis, 2k and 2k + 1, in a signed number of 16 bits and clips what does
not fit. An activation is at most 255. So two weights `p` and `q` are safe for every activation exactly when

    255 * max(p, q, p + q, 0) <= 32767   and   255 * min(p, q, p + q, 0) >= -32768.

Weights of 8 bits alone always are (255 * 127 = 32385, 255 * -128 = -32640), as are two of opposite signs. Two of the
same sign are safe when `|p + q| <= 128`, since 255 * 128 = 32640 and 255 * 129 = 32895. The others are counted here.

The summed axis of a convolution runs over (height, width, input channel) of one group, in this order: that is how
onnxruntime packs weights. Kernels of depthwise convolutions, those of int8 or uint8 on both sides, and those that take
the weights first, as `ConvInteger` does, add in 32 bits. But int8 activations between a QuantizeLinear and a
DequantizeLinear count as uint8: on x86 onnxruntime makes uint8 of them, where nothing else reads them.
Reference for the instruction: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW.

Needs numpy alone: the same check runs where a graph is made and on a device, whatever the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import graph_file
from tledge.artifacts import Overflow
from tledge.errors import BundleError
from tledge.graph_file import INT8, UINT8

Array = npt.NDArray[Any]

LARGEST_PAIR = 128
"""The largest magnitude that two neighbouring weights of the same sign may sum to."""
MATMUL, TRANSPOSED, CONV = "matmul", "transposed", "conv"
"""How stored weights lie: `(..., inputs, outputs)`, `(outputs, inputs)`, `(outputs, inputs of a group, *kernel)`."""
MEND = (
    "mend a run with: tledge run RUN --set quantize.overflow_fix=pairs, and a graph of another tool with: tledge "
    "quantize FILE.onnx --overflow-fix pairs"
)
_SHOWN = 8
"""Layers that are named at most."""
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class _Operator:
    """Where the inputs of an operator are that computes in integers; `None` where it has no such input."""

    activation: int
    weight: int
    weight_scale: int | None = None
    weight_zero: int | None = None
    activation_scale: int | None = None
    activation_zero: int | None = None
    bias: int | None = None
    is_conv: bool = False
    is_dynamic: bool = False
    """Rounds its float32 input to uint8 itself."""


_CONV = _Operator(0, 3, 4, 5, 1, 2, 8, is_conv=True)
_OPERATORS = {
    ("", "MatMulInteger"): [_Operator(0, 1, weight_zero=3, activation_zero=2)],
    ("", "QLinearMatMul"): [_Operator(0, 3, 4, 5, 1, 2)],
    ("", "QLinearConv"): [_CONV],
    (_MICROSOFT, "QLinearConv"): [_CONV],
    (_MICROSOFT, "QGemm"): [_Operator(0, 3, 4, 5, 1, 2, 6)],
    (_MICROSOFT, "MatMulIntegerToFloat"): [_Operator(0, 1, 3, 5, 2, 4)],
    (_MICROSOFT, "DynamicQuantizeMatMul"): [_Operator(0, 1, 2, 3, is_dynamic=True)],
    (_MICROSOFT, "QAttention"): [_Operator(0, 1, 4, 7, 3, 6)],
    (_MICROSOFT, "DynamicQuantizeLSTM"): [
        _Operator(0, 1, 8, 9, is_dynamic=True),
        _Operator(0, 2, 10, 11, is_dynamic=True),
    ],
}
_FLOAT_PRODUCTS = {"MatMul": False, "Gemm": False, "Conv": True}
"""Operators between DequantizeLinear nodes that runtimes compute in integers; whether they are convolutions."""
_MOVING = ("Dropout", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that onnxruntime takes a DequantizeLinear of activations past, so that what follows is in integers too."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where a node reads a tensor."""

    node: Any
    index: int

    @property
    def name(self) -> str:
        """The tensor's name; empty where the node has no such input."""
        return str(self.node.input[self.index]) if self.index < len(self.node.input) else ""


@dataclass(frozen=True, slots=True)
class Product:
    """One product of uint8 activations with int8 weights.

    `weight` is where the weights are read, by the product itself or by their DequantizeLinear, and `scale`, `zero`,
    `bias` and `activation_scale` are where what belongs to them is; `None` where the graph has none there. `tensor` is
    what is stored, `None` for weights that are computed, and `layout` how it lies. `rounding` is the QuantizeLinear
    that makes int8 of stored float32 weights at load, if there is one.
    """

    node: Any
    layout: str
    tensor: Any
    weight: Slot
    scale: Slot | None = None
    zero: Slot | None = None
    bias: Slot | None = None
    activation_scale: Slot | None = None
    rounding: Any = None

    @property
    def name(self) -> str:
        """What the layer is called: its node, or what it computes."""
        return str(self.node.name or self.node.output[0])


@dataclass(slots=True)
class View:
    """A graph's tensors and makers by name, those of the graphs around it included."""

    graph: Any
    stored: dict[str, Any] = field(default_factory=dict)
    makers: dict[str, Any] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Any, outer: View | None = None) -> View:
        """Of a graph that is inside another one, or alone."""
        view = cls(graph)
        if outer is not None:
            view.stored, view.makers, view.types = dict(outer.stored), dict(outer.makers), dict(outer.types)
        view.stored |= {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            view.makers |= dict.fromkeys(node.output, node)
            if node.op_type == "Constant":
                view.stored.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
        view.types |= {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)} | {
            name: tensor.data_type for name, tensor in view.stored.items()
        }
        return view

    def maker(self, name: str, *kinds: str) -> Any:
        """The node that makes a tensor, if it is one of these kinds."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def dequantizer(self, name: str) -> Any:
        """The DequantizeLinear that activations come from, directly or past nodes that only move numbers."""
        for _ in range(len(self.makers) + 1):  # a damaged graph may have a circle
            node = self.maker(name, "DequantizeLinear", *_MOVING)
            if node is None or node.op_type == "DequantizeLinear":
                return node
            name = node.input[0]
        return None


def check(path: Path) -> Overflow:
    """How many pairs of neighbouring weights in a graph's file could overflow.

    Raises:
        BundleError: the file cannot be read or is no ONNX model.
    """
    return count(graph_file.load(path), path.parent)


def count(model: Any, folder: Path) -> Overflow:
    """The same of a model that is loaded; `folder` is where its weights' files lie."""
    pairs = over = products = 0
    layers: dict[str, int] = {}
    unknown = []
    for view in views(model):
        for product in find(view):
            products += 1
            if product.tensor is None:
                unknown.append(product.name)
                continue
            rows = rows_of(codes(product, view, folder), product.layout)
            pairs += rows.shape[0] * (rows.shape[1] // 2)
            found = int(overflowing(rows).sum())
            over += found
            if found:
                layers[product.name] = found
    worst = sorted(layers, key=lambda name: -layers[name])
    return Overflow(products, pairs, over, tuple(worst[:_SHOWN]), tuple(unknown[:_SHOWN]), len(layers), len(unknown))


def overflowing(rows: Array) -> npt.NDArray[np.bool_]:
    """Which pairs could overflow, `(outputs, pairs) bool`, of int8 weights `(outputs, inputs)`; see the module."""
    even = rows.shape[1] // 2 * 2  # a last weight without a neighbour is multiplied with 0
    sums = rows[:, 0:even:2].astype(np.int16) + rows[:, 1:even:2]
    return np.abs(sums) > LARGEST_PAIR


def rows_of(weights: Array, layout: str) -> Array:
    """Weights as `(outputs, inputs)`, inputs in the order in which products are summed."""
    if layout == CONV:
        return np.moveaxis(weights, 1, -1).reshape(weights.shape[0], -1)
    if layout == MATMUL:
        columns = weights[:, None] if weights.ndim == 1 else weights
        return np.swapaxes(columns, -1, -2).reshape(-1, columns.shape[-2])
    return weights


def from_rows(rows: Array, shape: tuple[int, ...], layout: str) -> Array:
    """What `rows_of` gave, as weights of that shape again."""
    if layout == CONV:
        return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    if layout == MATMUL and len(shape) > 1:
        return np.swapaxes(rows.reshape(*shape[:-2], shape[-1], shape[-2]), -1, -2)
    return rows.reshape(shape)


def codes(product: Product, view: View, folder: Path) -> Array:
    """The int8 weights of a product as stored, or as its QuantizeLinear rounds them."""
    stored = graph_file.array(product.tensor, folder)
    if product.rounding is None:
        return stored
    scale, zero = (_value(view, slot, folder) for slot in (product.scale, product.zero))
    if scale is None:
        raise BundleError(f"the scale of the weights of {product.name} is not stored")
    axis = attribute(product.rounding, "axis", 1)
    along = tuple(-1 if i == axis % stored.ndim else 1 for i in range(stored.ndim))
    scale, zero = (each.reshape(along) if each is not None and each.size > 1 else each for each in (scale, zero))
    rounded = np.rint(stored / scale) + (0 if zero is None else zero)
    return np.clip(rounded, -128, 127).astype(np.int8)


def views(model: Any) -> Iterator[View]:
    """The graph of a model and those inside its nodes."""
    waiting = [View.of(model.graph)]
    while waiting:
        view = waiting.pop()
        yield view
        for node in view.graph.node:
            for attribute in node.attribute:
                inner = [attribute.g] if attribute.HasField("g") else []
                waiting += [View.of(graph, view) for graph in (*inner, *attribute.graphs)]


def find(view: View) -> Iterator[Product]:
    """The products of uint8 activations with int8 weights in a graph."""
    for node in view.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        for operator in _OPERATORS.get((domain, node.op_type), []):
            yield from _integer(view, node, operator)
        if domain == "" and node.op_type in _FLOAT_PRODUCTS:
            yield from _dequantized(view, node)


def _integer(view: View, node: Any, operator: _Operator) -> Iterator[Product]:
    """A product that an operator of its own computes in integers."""
    weight = Slot(node, operator.weight)
    slot = {
        name: None if index is None or not Slot(node, index).name else Slot(node, index)
        for name, index in (
            ("scale", operator.weight_scale),
            ("zero", operator.weight_zero),
            ("activation_scale", operator.activation_scale),
            ("bias", operator.bias),
        )
    }
    zero = None if operator.activation_zero is None else Slot(node, operator.activation_zero)
    if not operator.is_dynamic and _type(view, Slot(node, operator.activation), zero) != UINT8:
        return
    if _type(view, weight, slot["zero"]) not in (INT8, 0):
        return
    transposed = bool(attribute(node, "transB", 0))
    yield from _product(view, node, weight, transposed=transposed, is_conv=operator.is_conv, **slot)


def _dequantized(view: View, node: Any) -> Iterator[Product]:
    """A float product between DequantizeLinear nodes, which runtimes compute in integers."""
    before = view.dequantizer(node.input[0])
    turned = view.maker(node.input[1], "Transpose")
    after = view.maker(turned.input[0] if turned is not None else node.input[1], "DequantizeLinear")
    if before is None or after is None or attribute(after, "block_size", 0):
        return
    types = [_type(view, Slot(each, 0), Slot(each, 2)) for each in (before, after)]
    is_signed = types[0] == INT8 and view.maker(before.input[0], "QuantizeLinear") is not None
    if types[1] != INT8 or not (types[0] == UINT8 or is_signed):
        return
    bias = view.maker(node.input[2], "DequantizeLinear") if len(node.input) > 2 else None
    found = _product(
        view,
        node,
        Slot(after, 0),
        transposed=bool(attribute(node, "transB", 0)) != (turned is not None),
        is_conv=_FLOAT_PRODUCTS[node.op_type],
        scale=Slot(after, 1),
        zero=Slot(after, 2) if Slot(after, 2).name else None,
        activation_scale=Slot(before, 1),
        bias=None if bias is None else Slot(bias, 0),
    )
    # Of two int8 operands that are computed both become uint8.
    yield from (each for each in found if each.tensor is not None or not is_signed)


def _product(
    view: View, node: Any, weight: Slot, *, transposed: bool, is_conv: bool, **places: Slot | None
) -> Iterator[Product]:
    name, rounding = weight.name, None
    for _ in range(len(view.makers)):  # a damaged graph may have a circle
        passed = view.maker(name, "Transpose", "Identity")
        if passed is None:
            break
        name, transposed = passed.input[0], transposed != (passed.op_type == "Transpose")
    if (rounding := view.maker(name, "QuantizeLinear")) is not None:
        name = rounding.input[0]
    tensor = view.stored.get(name)
    if is_conv and tensor is not None and tensor.dims[1] == 1 and tensor.dims[0] == attribute(node, "group", 1):
        return  # depthwise
    layout = CONV if is_conv else TRANSPOSED if transposed else MATMUL
    yield Product(node, layout, tensor, weight, rounding=rounding, **places)


def _type(view: View, slot: Slot, zero: Slot | None) -> int:
    """The element type of a quantized tensor, such as `UINT8`; 0 where nothing tells.

    Its zero point has the same type, and so has what nodes that only move numbers take.
    """
    name = slot.name
    for _ in range(len(view.makers) + 1):  # a damaged graph may have a circle
        known = view.types.get(zero.name if zero is not None and zero.name else name, 0)
        node = view.makers.get(name)
        if known or node is None or not node.input:
            return known
        if node.op_type == "DynamicQuantizeLinear":
            return UINT8
        if node.op_type == "QuantizeLinear":
            return view.types.get(Slot(node, 2).name, 0) or attribute(node, "output_dtype", 0) or UINT8
        name, zero = node.input[0], None
    return 0


def _value(view: View, slot: Slot | None, folder: Path) -> Array | None:
    if slot is None or slot.name not in view.stored:
        return None
    return graph_file.array(view.stored[slot.name], folder)


def attribute(node: Any, name: str, default: int) -> int:
    """A node's attribute of whole numbers."""
    return next((int(each.i) for each in node.attribute if each.name == name), default)


def told(found: Overflow) -> str:
    """What was found, in words for a report."""
    if not found.products:
        return "no product of uint8 and int8"
    if not found.possible:
        return f"none of {found.pairs:,} pairs of int8 weights can overflow"
    parts = []
    if found.overflowing:
        layers = f"{found.n_layers} layer" + ("s" if found.n_layers != 1 else "")
        parts.append(f"{found.overflowing:,} of {found.pairs:,} pairs of int8 weights can overflow, in {layers}")
    if found.n_unknown:
        parts.append(f"{found.n_unknown} products with int8 numbers that are computed may overflow")
    return "; ".join(parts)
