"""Static int8: weights and activations stored and computed as 8-bit integers, with ranges found beforehand.

The graph is in QDQ form: each tensor that is computed in 8 bits passes a QuantizeLinear and a DequantizeLinear, which
onnxruntime fuses into integer kernels at load, and other runtimes do as they can. Weights have a scale for each output
channel. The ranges of activations are measured on calibration rows, one image at a time, so that any number of them
takes the memory of one.

Convolutional networks are quantized whole, since every cast between two integer kernels costs time. In transformers
only products with weights are (and convolutions), since what lies between them has no integer kernel on CPUs. The
logits are never rounded to 8 bits, and nodes of preprocessing stay as they are, and those by which detectors decode
boxes and suppress them. Biases take back what rounded weights shift on average (`tledge.quantize.bias_correction`).
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from tledge.quantize import bias_correction as biases
from tledge.quantize import detections
from tledge.quantize import overflow_fix as fix
from tledge.quantize.tables import replace, store, tables
from tledge.recipe.schema import Quantize
from tledge.runtime import open_session, session_run

SUFFIX = "quantized"  # transformers.js' name of 8 bits of any kind, since `int8` is what the dynamic scheme writes
CALIBRATES = True
TAKES_OVERFLOW_FIX = True

Feeds = Mapping[str, npt.NDArray[Any]]
TYPES = {
    "u8s8": (QuantType.QUInt8, QuantType.QInt8),
    "u8u8": (QuantType.QUInt8, QuantType.QUInt8),
    "s8s8": (QuantType.QInt8, QuantType.QInt8),
}
METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    # With onnxruntime's own 128 bins there would be nothing to search: each range has as many steps.
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 512, "num_quantized_bins": 128}),
    "percentile": (CalibrationMethod.Percentile, {"num_bins": 2048, "percentile": 99.999, "symmetric": False}),
}
LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators with weights; what `keep_float` is about."""
BETWEEN = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Mul", "Relu", "Reshape",
    "Sigmoid", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators between layers that onnxruntime's CPU computes in 8 bits, or passes on as they are."""
IN_FLOAT = ("preprocess/", "decode/", "proposals/")
"""How names of nodes begin that stay as they are: preprocessing, and what makes boxes of outputs."""
KEEP_FLOAT = ("none", "ends", "worst")
"""What is tried where the recipe does not say."""
WORST_ROWS = 8
"""Calibration rows on which the layers that lose most are found."""


def candidates(settings: Quantize) -> tuple[Mapping[str, str | int], ...]:
    """The ways to quantize that a recipe allows, likely ones first.

    What stands first in the recipe's lists is thought to be likely: candidates are ordered by the sum of their places
    in `methods` and `keep_float`, for each type of the numbers. A place in `methods` counts twice, since layers kept in
    float were found to mend more than another way to find ranges.
    """
    chosen = settings.int8_static
    ways = itertools.product(enumerate(chosen.methods), enumerate(chosen.keep_float or KEEP_FLOAT))
    ordered = sorted(ways, key=lambda way: 2 * way[0][0] + way[1][0])
    made: list[Mapping[str, str | int]] = []
    for (_, method), (_, keep_float) in ordered:
        for types in chosen.types:
            extra: dict[str, str | int] = {"n_worst": chosen.n_worst} if keep_float == "worst" else {}
            extra |= {} if chosen.bias_correction else {"bias_correction": False}
            made.append({"types": types, "method": method, "keep_float": keep_float} | extra)
    return tuple(made)


def apply(
    source: Path,
    target: Path,
    *,
    calibration: Callable[[], Iterator[Feeds]],
    scratch: Path | None = None,
    types: str = "u8s8",
    method: str = "minmax",
    keep_float: str = "none",
    n_worst: int = 4,
    overflow_fix: str = "pairs",
    bias_correction: bool = True,
) -> None:
    """Write the int8 variant of the graph at `source` to `target`.

    Args:
        source: the fp32 graph.
        target: the variant's file.
        calibration: gives the calibration rows anew at each call, as input tensors of one image each.
        scratch: a folder where ranges are kept for other candidates of the same graph.
        types: of activations and weights, a key of `TYPES`.
        method: how ranges are found, a key of `METHODS`.
        keep_float: which layers stay in float: `none`, all on maps of at least half of the image's height (`first`),
            the first and the last (`ends`), or the `worst`.
        n_worst: how many layers `worst` keeps.
        overflow_fix: how weights are kept from overflowing, as `tledge.quantize.overflow_fix` explains.
        bias_correction: whether biases take back what rounded weights add, as `tledge.quantize.bias_correction` does.
    """
    with contextlib.ExitStack() as stack:
        folder = scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # the calibrators print
        prepared = folder / "prepared.onnx"
        if not prepared.exists():
            _prepare(source, prepared)
        ranges = folder / f"ranges_{method}.json"
        if not ranges.exists():
            _find_ranges(prepared, ranges, method, calibration)
        means = _means(folder, prepared, calibration) if bias_correction else None
        quantize = functools.partial(_quantize, types=types, method=method, overflow_fix=overflow_fix, means=means)
        kept: list[str] = []
        if keep_float == "ends":
            layers = _layers(onnx.load(prepared))
            kept = [layers[0].name, layers[-1].name] if layers else []
        elif keep_float == "first":
            kept = on_large_maps(onnx.load(prepared))
        elif keep_float == "worst":
            rows = list(itertools.islice(calibration(), WORST_ROWS))
            kept = worst_layers(prepared, ranges, rows, n_worst, quantize)
        quantize(prepared, target, ranges, kept=kept)
    _finish(target, like=source)
    detections.put_on(target, like=source)


def on_large_maps(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes whose output, `(batch, channels, height, width)`, has half of the input's height or more.

    Detectors lose most of what they lose there: the first maps have few channels, whose ranges differ.
    """
    shapes = {
        each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*model.graph.input, *model.graph.value_info)
    }
    image = shapes[model.graph.input[0].name]
    if len(image) != 4:
        return []
    outputs = {node.name: shapes.get(node.output[0], []) for node in model.graph.node}
    return [name for name, shape in outputs.items() if len(shape) == 4 and 2 * shape[2] >= image[2]]


def worst_layers(
    prepared: Path, ranges: Path, rows: Sequence[Feeds], n_worst: int, quantize: Callable[..., None]
) -> list[str]:
    """The names of the layers that change the outputs most when they alone are in 8 bits, worst first.

    Each layer is quantized alone and the graph runs on some rows, which costs a pass for each layer but tells what
    no look at the layer itself does: how its error grows on the way to the outputs.
    """
    exact = _outputs(prepared, rows)
    noise = {}
    with tempfile.TemporaryDirectory() as name:
        alone = Path(name) / "alone.onnx"
        for layer in _layers(onnx.load(prepared)):
            quantize(prepared, alone, ranges, only=[layer.name])
            noise[layer.name] = sum(map(_share, _outputs(alone, rows), exact))
    return sorted(noise, key=lambda layer: -noise[layer])[:n_worst]


def _share(ours: npt.NDArray[Any], exact: npt.NDArray[Any]) -> float:
    """The mean square of how far an output is off, as a share of its variance."""
    return float(np.mean((ours - exact) ** 2)) / max(float(exact.var()), 1e-12)


def _prepare(source: Path, prepared: Path) -> None:
    """Simplify the graph as onnxruntime would at load, infer shapes, and name every node."""
    model = onnx.load(source)
    # A fresh export's shapes of inner values can disagree with onnx's own inference; they are inferred anew.
    del model.graph.value_info[:]
    detections.take_off(model)
    _own_weights(model)
    _unshare(model)
    with tempfile.TemporaryDirectory() as name:
        bare = Path(name) / "bare.onnx"
        onnx.save(model, bare)
        # Symbolic shape inference needs another package, and finds no more where only the batch is unknown.
        quant_pre_process(bare, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{i}"
    onnx.save(model, prepared)


def _own_weights(model: onnx.ModelProto) -> None:
    """Give products with a table that is looked up too weights of their own: the table itself stays in float."""
    for table in tables(model):
        for node in table.products:
            name = f"{table.name}_of_{node.output[0]}"
            store(model.graph, name, np.ascontiguousarray(table.array.T))
            product = f"{node.output[0]}_product" if len(node.input) > 2 else node.output[0]
            made = [onnx.helper.make_node("MatMul", [node.input[0], name], [product])]
            made += [onnx.helper.make_node("Add", [product, each], [node.output[0]]) for each in node.input[2:]]
            replace(model.graph, node, made)


def _unshare(model: onnx.ModelProto) -> None:
    """Give layers that share weights, as a detector's for several levels of a pyramid do, copies of their own.

    A bias is rounded by the scale of its layer's input, which differs; and onnxruntime opens no graph with shared int8
    weights where it computes them exactly.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        for i, name in list(enumerate(node.input))[1:]:
            if name in seen and name in stored:
                node.input[i] = f"{name}_of_{node.output[0]}"
                copied = model.graph.initializer.add()
                copied.CopyFrom(stored[name])
                copied.name = node.input[i]
            seen.add(name)


def _find_ranges(prepared: Path, ranges: Path, method: str, calibration: Callable[[], Iterator[Feeds]]) -> None:
    kind, options = METHODS[method]
    with tempfile.TemporaryDirectory() as name:
        calibrator = create_calibrator(
            prepared,
            operators(onnx.load(prepared)),
            augmented_model_path=str(Path(name) / "augmented.onnx"),
            calibrate_method=kind,
            extra_options=options,
        )
        # One row a call: the calibrators keep every tensor of all rows of a call in memory.
        for row in calibration():
            calibrator.collect_data(_Rows(iter([row])))
        save_tensors_data(calibrator.compute_data(), ranges)


def _quantize(
    prepared: Path,
    target: Path,
    ranges: Path,
    *,
    types: str,
    method: str,
    overflow_fix: str,
    means: Mapping[str, npt.NDArray[Any]] | None,
    kept: Sequence[str] = (),
    only: Sequence[str] = (),
) -> None:
    model = onnx.load(prepared)
    activation, weight = TYPES[types]
    in_float = [node.name for node in model.graph.node if node.name.startswith(IN_FLOAT)]
    in_float += detections.behind_layers(model, LAYERS)
    quantize_static(
        prepared,
        target,
        op_types_to_quantize=operators(model),
        per_channel=True,
        activation_type=activation,
        weight_type=weight,
        nodes_to_quantize=list(only),  # none is all
        nodes_to_exclude=[*in_float, *kept],
        calibrate_method=METHODS[method][0],
        calibration_cache_path=ranges,
        # Integer kernels of convolutions want one zero point for all channels of the weights.
        extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True},
    )
    fix.apply(target, overflow_fix, original=prepared)
    if means is not None:
        biases.correct(target, prepared, means)


def _means(folder: Path, prepared: Path, calibration: Callable[[], Iterator[Feeds]]) -> Mapping[str, npt.NDArray[Any]]:
    """Means of what layers read, found once for all candidates of a graph."""
    path = folder / "means.npz"
    if not path.exists():
        found: dict[str, Any] = biases.input_means(prepared, calibration(), folder)
        np.savez(path, **found)
    with np.load(path) as stored:
        return dict(stored)


def operators(model: onnx.ModelProto) -> list[str]:
    """The operators of a graph that are quantized: see the module's first lines."""
    present = {node.op_type for node in model.graph.node if not node.name.startswith(IN_FLOAT)}
    transformer = bool(present & {"LayerNormalization", "Softmax"})
    return sorted(present & {*LAYERS, *(() if transformer else BETWEEN)})


def _layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes with stored weights, first to last, without those of preprocessing."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in LAYERS and node.input[1] in stored and not node.name.startswith(IN_FLOAT)
    ]


def _outputs(path: Path, rows: Sequence[Feeds]) -> list[npt.NDArray[Any]]:
    """Each output for all rows."""
    run = session_run(open_session(path))
    return [np.concatenate(parts) for parts in zip(*(run(row).values() for row in rows), strict=True)]


def _finish(path: Path, *, like: Path) -> None:
    """Give the logits as computed, not rounded to 8 bits, and tell of the graph what the fp32 one tells."""
    model, original = onnx.load(path), onnx.load(like, load_external_data=False)
    makers = {node.output[0]: node for node in model.graph.node}
    for output in model.graph.output:
        last = makers[output.name]
        before = makers.get(last.input[0])
        if last.op_type == "DequantizeLinear" and before is not None and before.op_type == "QuantizeLinear":
            maker = makers[before.input[0]]
            if maker.op_type in ("Gemm", "MatMul"):
                maker.output[0] = output.name
                model.graph.node.remove(last)
                model.graph.node.remove(before)
    read = {name for node in model.graph.node for name in node.input}
    unread = [tensor for tensor in model.graph.initializer if tensor.name not in read]
    for tensor in unread:
        model.graph.initializer.remove(tensor)
    model.ir_version = original.ir_version
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    del model.metadata_props[:]
    used = {node.domain for node in model.graph.node}
    opsets = [entry for entry in model.opset_import if entry.domain in used | {""}]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    onnx.save(model, path)


class _Rows(CalibrationDataReader):
    """Rows as onnxruntime's quantizer reads them."""

    def __init__(self, rows: Iterator[Feeds]) -> None:
        self._rows = rows

    def get_next(self) -> Feeds | None:
        return next(self._rows, None)
