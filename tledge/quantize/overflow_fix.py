"""Weights that cannot overflow: `pairs`, or of 7 bits, in a graph that is quantized already.

Why: see `tledge.overflow`. On x86 without VNNI two neighbouring products of a uint8 activation and an int8 weight are
added in 16 bits, and two weights of the same sign are safe when their magnitudes sum to at most 128.

`pairs` gives each output channel a scale of its own for that. At the quantizer's scale `s` let the largest sum of a
pair be `128 f` steps, or the largest weight `127 f`, with `f` at least 1. With the scale `s f` every pair fits but for
rounding. A smaller scale has finer steps for all weights and a few pairs that do not fit; those are moved to the
nearest numbers that sum to 128, each weight by half of what is too much. So `SCALES` around `s f` are tried, and `s`
itself, and the one with the least squared error of the channel's weights is taken. Nothing else about the graph
changes: the same operators, the same size, the same time, and sums that are equal to exact arithmetic on every
processor.

`reduce_range` is the usual way out: weights of 7 bits, -64 to 64, whose steps are twice as wide.

Weights are rounded anew from the float32 ones where these are at hand, else from the int8 ones, which costs a second
rounding. A layer's bias, stored in steps of its activations' and weights' scales, follows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from tledge import graph_file, overflow
from tledge.errors import BundleError, QuantizeError
from tledge.overflow import LARGEST_PAIR, Product, Slot, View, from_rows, rows_of

Array = npt.NDArray[Any]

PAIRS, REDUCE_RANGE, NONE = "pairs", "reduce_range", "none"
FIXES = (PAIRS, REDUCE_RANGE, NONE)
SCALES = tuple(0.94 + 0.01 * i for i in range(15))
"""The scales that are tried, as shares of the one at which the largest pair of a channel just fits."""
_LARGEST = {PAIRS: 127, REDUCE_RANGE: 64}
_BLOCK = 1 << 22
"""Weights that are looked at at once, which bounds the memory."""


def apply(path: Path, fix: str, *, original: Path | None = None) -> None:
    """Mend the graph in a file.

    Args:
        path: The quantized graph, which is replaced.
        fix: One of `FIXES`; `none` leaves the file as it is.
        original: The float32 graph that it was made of, whose weights have the same names.

    Raises:
        QuantizeError: weights could overflow and cannot be mended; the message names the layer.
    """
    if fix == NONE:
        return
    model = onnx.load(path)
    weights = {} if original is None else _weights(onnx.load(original))
    if mend(model, fix, weights):
        onnx.save(model, path)


def mend_file(path: Path, target: Path, fix: str) -> None:
    """Write a mended copy of a graph, whatever tool made it; weights are rounded from its int8 ones.

    Args:
        path: The quantized graph; weights in files of their own are read too.
        target: The copy; where `path` keeps weights apart, so does the copy, in `NAME.data`.
        fix: `pairs` or `reduce_range`.

    Raises:
        QuantizeError: as for `mend`.
        BundleError: the file is no ONNX model, or its weights are missing.
    """
    apart = bool(graph_file.external_files(path))
    try:
        model = onnx.load(path)
    except Exception as error:  # onnx raises whatever protobuf and its own checks raise
        reason = str(error).strip().partition("\n")[0]
        raise BundleError(f"{path} cannot be read: {reason}") from error
    mend(model, fix)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial")
    if apart:
        data = target.with_name(f"{target.name}.data")
        data.unlink(missing_ok=True)  # onnx adds to the end of what is there
        onnx.save(model, aside, save_as_external_data=True, location=data.name)
    else:
        onnx.save(model, aside)
    os.replace(aside, target)


def mend(model: onnx.ModelProto, fix: str, originals: Mapping[str, Array] | None = None) -> int:
    """Mend a model whose weights are all in memory, and give the number of weights' tensors that were changed.

    Args:
        model: Is changed.
        fix: `pairs` or `reduce_range`.
        originals: Float32 weights by the name that they had before they were quantized.

    Raises:
        QuantizeError: as for `apply`.
    """
    by_tensor: dict[int, tuple[View, list[Product]]] = {}
    views = list(overflow.views(model))  # held, so that a node or tensor is one object throughout
    for view in views:
        for product in overflow.find(view):
            if product.tensor is None:
                raise QuantizeError(
                    f"{product.name}: its int8 operand is computed, not stored, so that no scale can be chosen for it; "
                    "quantize activations to uint8 on both sides, or leave this layer in float"
                )
            by_tensor.setdefault(id(product.tensor), (view, []))[1].append(product)
    nodes = [node for view in views for node in view.graph.node]
    weights = [_Weights(model.graph, view, nodes, products) for view, products in by_tensor.values()]
    return sum(each.mend(fix, originals or {}) for each in weights)


def safe(
    weights: Array, scales: Array, groups: npt.NDArray[np.intp], *, fix: str
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Codes without an overflow, and their scales.

    Args:
        weights: `(outputs, inputs) float32`, inputs in the order in which they are summed.
        scales: `(groups,) float32`, the quantizer's own.
        groups: `(outputs,)`: which scale an output has.
        fix: `pairs` or `reduce_range`.

    Returns:
        `(outputs, inputs) int8` and `(groups,) float32`.
    """
    # No scale is below the quantizer's own: a bias in its steps need not fit into int32 in finer ones.
    needed = np.abs(weights).max(1) / _LARGEST[fix]
    if fix == REDUCE_RANGE:
        scales = np.maximum(scales, np.maximum.reduceat(*_sorted(needed, groups))).astype(np.float32)
        return _rounded(weights, scales[groups], fix), scales
    even = weights.shape[1] // 2 * 2
    sums = np.abs(weights[:, 0:even:2] + weights[:, 1:even:2]).max(1, initial=0)
    needed = np.maximum(needed, sums / LARGEST_PAIR)
    fitting = np.maximum(scales, np.maximum.reduceat(*_sorted(needed, groups)))
    best, least = fitting.astype(np.float32), np.full(len(scales), np.inf)
    for share in (0, *SCALES):
        tried = np.maximum(scales, fitting * share).astype(np.float32)
        each = tried[groups]
        off = _rounded(weights, each, fix) * each[:, None] - weights
        errors = np.add.reduceat(*_sorted(np.einsum("ij,ij->i", off, off), groups))
        better = errors < least
        best[better], least[better] = tried[better], errors[better]
    return _rounded(weights, best[groups], fix), best


def _rounded(weights: Array, scales: Array, fix: str) -> npt.NDArray[np.int8]:
    """The nearest codes that keep the rule, `(outputs, inputs) int8`, with a scale for each output."""
    steps = weights / scales[:, None]
    rounded = np.clip(np.rint(steps), -_LARGEST[fix], _LARGEST[fix]).astype(np.int8)
    over = overflow.overflowing(rounded)
    if over.any():
        rows, pairs = np.nonzero(over)
        first, second = (np.abs(steps[rows, 2 * pairs + i]).astype(np.float64) for i in (0, 1))
        sign = np.sign(rounded[rows, 2 * pairs])
        moved = np.clip(np.rint(first - (first + second - LARGEST_PAIR) / 2), 1, 127)
        rounded[rows, 2 * pairs] = sign * moved
        rounded[rows, 2 * pairs + 1] = sign * (LARGEST_PAIR - moved)
    return rounded


def _sorted(values: Array, groups: npt.NDArray[np.intp]) -> tuple[Array, npt.NDArray[np.intp]]:
    """Values in the order of their groups, and where each group begins."""
    order = np.argsort(groups, kind="stable")
    return values[order], np.searchsorted(groups[order], np.arange(groups.max() + 1))


def _at_least(scales: Array) -> Array:
    """Scales that can be divided by, also of outputs whose weights are all 0."""
    return np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32)


class _Weights:
    """One stored tensor of weights with everything that reads it."""

    def __init__(self, main: onnx.GraphProto, view: View, nodes: list[Any], products: list[Product]) -> None:
        self.main, self.view, self.nodes, self.products = main, view, nodes, products
        self.tensor = products[0].tensor
        # A Constant's tensor often has no name of its own.
        self.name = next(name for name, tensor in view.stored.items() if tensor is self.tensor)

    def mend(self, fix: str, originals: Mapping[str, Array]) -> int:
        """Change codes, scale, zero point and biases; gives 1, or 0 where there was nothing to do."""
        folder = Path()
        codes = overflow.codes(self.products[0], self.view, folder)
        layouts = {product.layout for product in self.products}
        if fix == PAIRS and not any(overflow.overflowing(rows_of(codes, layout)).any() for layout in layouts):
            return 0
        if fix == REDUCE_RANGE and np.abs(codes.astype(np.int16)).max(initial=0) <= _LARGEST[fix]:
            return 0
        if len(layouts) > 1:
            raise QuantizeError(f"{self._layer}: its weights are read by rows and by columns, which no scale serves")
        layout = layouts.pop()
        scale_slots = self._scale_slots()
        scales, zeros = self._stored(scale_slots, "scale"), self._zeros()
        groups = self._groups(codes.shape, layout, scales)
        weights = self._float(codes, scales, zeros, layout, groups, originals)
        rows = np.ascontiguousarray(rows_of(weights, layout), np.float32)
        new_rows, new_scales = _in_blocks(rows, _at_least(scales.reshape(-1)), groups, fix)
        self._write_codes(from_rows(new_rows, codes.shape, layout), scale_slots)
        self._write_biases(new_scales, scales)
        self._replace(scale_slots, new_scales.reshape(scales.shape), "scale")
        zero_slots = [slot for slot in self._zero_slots() if slot.name]
        if zeros.any():
            self._replace(zero_slots, np.zeros_like(zeros), "zero_point")
        return 1

    @property
    def _layer(self) -> str:
        return self.products[0].name

    def _readers(self, name: str) -> list[Slot]:
        return [Slot(node, i) for node in self.nodes for i, read in enumerate(node.input) if name and read == name]

    def _dequantizers(self) -> list[Any]:
        """The DequantizeLinear nodes of these weights, if the graph is in QDQ form."""
        found = {id(p.weight.node): p.weight.node for p in self.products if p.weight.node.op_type == "DequantizeLinear"}
        for slot in self._readers(self.name):
            if slot.node.op_type == "DequantizeLinear" and slot.index == 0:
                found[id(slot.node)] = slot.node
        return list(found.values())

    def _scale_slots(self) -> list[Slot]:
        """Every place that reads the scale of these weights, whether for a product or for a look-up.

        Raises:
            QuantizeError: the scale of a product is not found, or something reads the weights in another way.
        """
        slots = [Slot(node, 1) for node in self._dequantizers()]
        slots += [Slot(p.rounding, 1) for p in self.products if p.rounding is not None]
        for product in self.products:
            if product.weight.node.op_type != "DequantizeLinear":
                slots.append(product.scale or self._multiplied(product))
        names = {slot.name for slot in slots}
        known = {id(slot.node) for slot in slots} | {id(product.node) for product in self.products}
        for slot in self._readers(self.name):
            if id(slot.node) in known or self._only_turns(slot.node, known):
                continue
            looked_up = [
                Slot(node, 0)
                for node in self.nodes
                if node.op_type == slot.node.op_type == "Gather"
                and node.input[0] in names
                and node.input[1] == slot.node.input[1]
            ]
            if not looked_up:
                reader = slot.node.name or slot.node.op_type
                raise QuantizeError(f"{self._layer}: {reader} reads its weights too, in a way that is not known")
            slots += looked_up
        return list({(id(slot.node), slot.index): slot for slot in slots}.values())

    def _only_turns(self, node: Any, known: set[int]) -> bool:
        """Whether a node passes the weights on to products alone."""
        return node.op_type in ("Transpose", "Identity", "QuantizeLinear") and all(
            id(slot.node) in known for slot in self._readers(node.output[0])
        )

    def _multiplied(self, product: Product) -> Slot:
        """Where the scale is multiplied onto the sums of a `MatMulInteger`, alone or times the activations' scale."""
        name, seen = product.node.output[0], 0
        while seen < 4:
            seen += 1
            reader = next((s for s in self._readers(name) if s.node.op_type in ("Cast", "Mul")), None)
            if reader is None:
                break
            for i, other in enumerate(reader.node.input):
                if reader.node.op_type != "Mul" or i == reader.index:
                    continue
                if other in self.view.stored:
                    return Slot(reader.node, i)
                product_of_scales = self.view.maker(other, "Mul")
                for j, part in enumerate(product_of_scales.input if product_of_scales is not None else ()):
                    if part in self.view.stored:
                        return Slot(product_of_scales, j)
            name = reader.node.output[0]
        raise QuantizeError(f"{product.name}: the scale of its weights is not found, so that they cannot be mended")

    def _zero_slots(self) -> list[Slot]:
        slots = [Slot(node, 2) for node in self._dequantizers()]
        slots += [Slot(p.rounding, 2) for p in self.products if p.rounding is not None]
        return slots + [p.zero for p in self.products if p.zero is not None]

    def _zeros(self) -> Array:
        named = [slot for slot in self._zero_slots() if slot.name]
        return self._stored(named, "zero point") if named else np.zeros((), np.int8)

    def _stored(self, slots: Iterable[Slot], what: str) -> Array:
        """The one value that these places read."""
        values = []
        for slot in slots:
            tensor = self.view.stored.get(slot.name)
            if tensor is None:
                raise QuantizeError(
                    f"{self._layer}: the {what} of its weights is computed, so that it cannot be changed"
                )
            values.append(numpy_helper.to_array(tensor))
        if any(value.shape != values[0].shape or not np.array_equal(value, values[0]) for value in values):
            raise QuantizeError(f"{self._layer}: its weights are read with several {what}s, which is not known")
        return values[0]

    def _groups(self, shape: tuple[int, ...], layout: str, scales: Array) -> npt.NDArray[np.intp]:
        """Which scale each row of `rows_of` has."""
        n_rows = rows_of(np.empty(shape, np.bool_), layout).shape[0]
        if scales.size == 1:
            return np.zeros(n_rows, np.intp)
        for node in self._dequantizers():
            axis = overflow.attribute(node, "axis", 1) % len(shape)
            if node.input[0] == self.name and axis != (len(shape) - 1 if layout == overflow.MATMUL else 0):
                raise QuantizeError(f"{self._layer}: its weights have a scale for each input, not for each output")
        if scales.size == n_rows:
            return np.arange(n_rows)
        if layout == overflow.MATMUL and scales.size == shape[-1]:
            return np.arange(n_rows) % shape[-1]
        if layout == overflow.MATMUL and len(shape) == 3 and scales.size == shape[0]:  # the directions of an LSTM
            return np.arange(n_rows) // shape[-1]
        raise QuantizeError(
            f"{self._layer}: weights of shape {shape} with {scales.size} scales; expected one, or one an output"
        )

    def _float(
        self, codes: Array, scales: Array, zeros: Array, layout: str, groups: npt.NDArray[np.intp],
        originals: Mapping[str, Array],
    ) -> Array:  # fmt: skip
        """The weights in float32: the original ones where they are at hand, else what the codes stand for."""
        if self.products[0].rounding is not None:
            return numpy_helper.to_array(self.tensor)
        rows = rows_of(codes, layout).astype(np.float32)
        if zeros.size > 1:
            rows -= zeros.reshape(-1).astype(np.float32)[groups][:, None]
        else:
            rows -= np.float32(zeros.reshape(-1)[0] if zeros.size else 0)
        step = scales.reshape(-1)[groups][:, None]
        rows *= step
        coded = from_rows(rows, codes.shape, layout)
        for end in ("_quantized", ""):
            original = originals.get(self.name.removesuffix(end))
            for turned in () if original is None else (original, original.T):
                # A weight may be beyond the last step, which is then the nearest; nothing else is half a step off.
                if turned.shape != codes.shape:
                    continue
                near = np.abs(rows_of(turned, layout) - rows) <= 0.51 * step
                if np.all(near | (np.abs(rows_of(codes, layout).astype(np.int16)) >= 127)):
                    return turned
        return coded

    def _write_codes(self, new: Array, scale_slots: list[Slot]) -> None:
        """Store the codes under the tensor's name, or in the place of float32 weights and what rounds them."""
        new = np.ascontiguousarray(new, np.int8)
        if self.products[0].rounding is None:
            self.tensor.CopyFrom(numpy_helper.from_array(new, self.tensor.name))
            return
        name = f"{self.name}_quantized"
        self.main.initializer.append(numpy_helper.from_array(new, name))
        for rounding in {id(p.rounding): p.rounding for p in self.products if p.rounding is not None}.values():
            for slot in self._readers(rounding.output[0]):
                slot.node.input[slot.index] = name
            scale_slots[:] = [slot for slot in scale_slots if slot.node is not rounding]
            self.nodes[:] = [node for node in self.nodes if node is not rounding]
            self.view.graph.node.remove(rounding)
        if not self._readers(self.name) and self.tensor in self.view.graph.initializer:
            self.view.graph.initializer.remove(self.tensor)

    def _write_biases(self, new: Array, old: Array) -> None:
        """Give biases in steps of the new scales; a bias of float32 stays as it is."""
        done = set()
        for product in self.products:
            slot = product.bias
            tensor = None if slot is None else self.view.stored.get(slot.name)
            if slot is None or tensor is None or tensor.data_type != onnx.TensorProto.INT32:
                continue
            if (id(slot.node), slot.index) in done:
                continue
            done.add((id(slot.node), slot.index))
            bias = numpy_helper.to_array(tensor).astype(np.float64)
            if slot.node.op_type != "DequantizeLinear":
                ratio = old.reshape(-1).astype(np.float64) / new
                self._replace([slot], np.rint(bias * ratio).astype(np.int32), "bias")
                continue
            assert product.activation_scale is not None
            steps = self._stored([Slot(slot.node, 1)], "scale of the bias")
            activation = self._stored([product.activation_scale], "scale of the activations").astype(np.float64)
            if steps.size != new.size:
                continue  # steps of its own, which nothing but its DequantizeLinear knows
            step = (activation.reshape(-1)[0] * new).reshape(steps.shape).astype(np.float32)
            self._replace([slot], np.rint(bias * steps / step).astype(np.int32), "bias")
            self._replace([Slot(slot.node, 1)], step, "bias_scale")

    def _replace(self, slots: list[Slot], value: Array, what: str) -> None:
        """Let places read a new value: in the old one's tensor where nothing else reads it, else in one of its own."""
        places = {(id(slot.node), slot.index) for slot in slots}
        for name in dict.fromkeys(slot.name for slot in slots):
            tensor = self.view.stored[name]
            value = np.asarray(value, numpy_helper.to_array(tensor).dtype, order="C")
            if all((id(slot.node), slot.index) in places for slot in self._readers(name)):
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
                continue
            new = f"{self.name}_own_{what}_{len(self.main.initializer)}"
            self.main.initializer.append(numpy_helper.from_array(value, new))
            for slot in slots:
                if slot.name == name:
                    slot.node.input[slot.index] = new


def _in_blocks(
    rows: Array, scales: Array, groups: npt.NDArray[np.intp], fix: str
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """`safe`, in blocks of outputs where each has a scale of its own."""
    if len(scales) != len(rows):
        return safe(rows, scales, groups, fix=fix)
    height = max(1, _BLOCK // max(1, rows.shape[1]))
    parts = [
        safe(rows[i : i + height], scales[i : i + height], np.arange(len(rows[i : i + height])), fix=fix)
        for i in range(0, len(rows), height)
    ]
    return np.concatenate([codes for codes, _ in parts]), np.concatenate([each for _, each in parts])


def _weights(model: onnx.ModelProto) -> dict[str, Array]:
    """Stored float32 weights by name."""
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1
    }
