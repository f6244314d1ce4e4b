"""Preprocessing inside the graph: bytes of pixels in, so that a device needs no resizing and normalising of its own.

The nodes are standard ONNX operators, and their names begin with `preprocess/`, by which quantization knows what to
leave alone. The resampling of onnxruntime's `Resize` with `antialias` follows Pillow's, also in 8-bit integers: rows
first, rounded and clipped, then columns. Pillow 13 begins with the columns where it shrinks an image that is more than
twice as high as wide, so that hard edges come out differently there under `bicubic`, which overshoots.
`check_preprocessing` measures how close both are.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

from tledge.artifacts import Graph
from tledge.errors import ExportError, ParityError
from tledge.evaluate import Run
from tledge.export.graph import describe
from tledge.inputs.image import Facts, ImageInput
from tledge.runtime import open_session, session_run

Array = npt.NDArray[Any]
PREFIX = "preprocess/"
PIXELS = "preprocessed_pixels"
"""What the preprocessing's last node gives: the model's own `pixel_values`."""
MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""Filters that ONNX can do as Pillow does, and their names there."""
MAX_STEPS = 2.0
"""How far a pixel may be off, in steps of 8 bits: 1/255 of the range from black to white."""


def add_preprocessing(path: Path, facts: Facts, mode: str) -> Graph:
    """Put preprocessing in front of a stored fp32 graph, in place, and tell what it takes and gives now.

    Args:
        path: the graph; it takes `pixel_values`, `(batch, 3, height, width) float32`. Afterwards it takes
            `pixel_values`, `(batch, height, width, 3) uint8`, of the model's size for `normalize` and of any size
            (one for all images of a batch) for `resize_and_normalize`.
        facts: the model's preprocessing.
        mode: `normalize` or `resize_and_normalize`.

    Raises:
        ExportError: the graph's operator set or the facts' resizing cannot be expressed.
    """
    model = onnx.load(path, load_external_data=False)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    resizes = mode == "resize_and_normalize"
    if resizes:
        _require_possible(facts, opset)
    graph = model.graph
    old = graph.input[0]
    for node in graph.node:
        node.input[:] = [PIXELS if name == old.name else name for name in node.input]
    height, width = ("height", "width") if resizes else facts.size
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info(old.name, TensorProto.UINT8, ["batch_size", height, width, 3])
    )
    writer = _Writer()
    planar = writer("Transpose", old.name, perm=[0, 3, 1, 2])
    if resizes:
        planar = _fitted(writer, planar, facts)
    _normalised(writer, planar, facts)
    for node in reversed(writer.nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(writer.constants)
    onnx.save(model, path)
    return describe(onnx_ir.load(path), path)


def check_preprocessing(
    path: Path,
    run: Run,
    encoder: ImageInput,
    values: Sequence[Any],
    predictions: Callable[[Mapping[str, Array]], Array | None] | None = None,
) -> dict[str, Any]:
    """How far a graph's own preprocessing is from `inputs.image`, on some images, one at a time.

    Args:
        path: the graph with preprocessing in it.
        run: the graph without it.
        encoder: the preprocessing that `run` is used with.
        values: images.
        predictions: outputs to answers, as the task decides.

    Returns:
        `max_steps`, the largest difference of a pixel in steps of 8 bits, `share_over_one`, the share of pixels whose
        difference is above one step, `max_output_diff`, the largest difference of an output, and `same_decisions`, the
        share of images with the same answer (`None` where there are no answers).

    Raises:
        ParityError: a pixel is more than two steps off.
    """
    resizes = isinstance(_input_shape(path)[1], str)
    facts = dataclasses.replace(encoder.facts, in_graph="resize_and_normalize" if resizes else "normalize")
    inside = ImageInput(facts)
    whole = session_run(open_session(path))
    with tempfile.TemporaryDirectory() as folder:
        prefix = session_run(open_session(_prefix(path, Path(folder) / "prefix.onnx")))
    std = np.asarray(encoder.std, np.float32).reshape(1, 3, 1, 1)
    step = np.float32(encoder.facts.rescale_factor)
    worst, over, n_pixels, off, same = 0.0, 0, 0, 0.0, []
    for value in values:
        feeds, expected = inside.encode([value]), encoder.encode([value])
        steps = np.abs(prefix(feeds)[PIXELS] - expected["pixel_values"]) * std / step
        worst, n_pixels = max(worst, float(steps.max())), n_pixels + steps.size
        over += int(np.count_nonzero(steps > 1.01))  # one step and what float32 rounds
        ours, theirs = whole(feeds), run(expected)
        off = max(off, *(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs))
        answers = (predictions(ours), predictions(theirs)) if predictions is not None else (None, None)
        if answers[0] is not None:
            same.append(bool(np.array_equal(*answers)))  # type: ignore[arg-type]
    if not worst <= MAX_STEPS + 0.01:
        raise ParityError(
            f"export.preprocessing: the graph's pixels are up to {worst:.1f} steps of 1/255 off those of tledge's own "
            f"preprocessing (allowed {MAX_STEPS:g}); set export.preprocessing: "
            f"{'normalize' if resizes else 'none'}, and another onnxruntime may do better"
        )
    return {
        "max_steps": round(worst, 3),
        "share_over_one": over / n_pixels,
        "max_output_diff": off,
        "same_decisions": float(np.mean(same)) if same else None,
    }


class _Writer:
    """Adds nodes and constants under names of the prefix; a call gives the name of the new node's output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: str | npt.ArrayLike, output: str = "", **attributes: Any) -> str:
        name = f"{PREFIX}{operator}_{len(self.nodes)}"
        names = [
            each if isinstance(each, str) else self._constant(each, f"{name}_{i}") for i, each in enumerate(inputs)
        ]
        self.nodes.append(helper.make_node(operator, names, [output or name], name=name, **attributes))
        return output or name

    def _constant(self, value: npt.ArrayLike, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _fitted(write: _Writer, planar: str, facts: Facts) -> str:
    """The nodes that resize images and cut out their middle: `(batch, 3, height, width) uint8` of the model's size."""
    shape = write("Shape", planar)
    if isinstance(facts.resize, int):  # the shorter side; the longer one is rounded down
        sides = write("Slice", shape, [2], [4])
        shorter = write("ReduceMin", sides, [0], keepdims=1)
        sides = write("Div", write("Mul", sides, [facts.resize]), shorter)
    else:
        sides = write("Identity", list(facts.resize or facts.size))
    sizes = write("Concat", write("Slice", shape, [0], [2]), sides, axis=0)
    resized = write(
        "Resize", planar, "", "", sizes,
        antialias=1, mode=MODES[facts.interpolation], cubic_coeff_a=-0.5, exclude_outside=1,
    )  # fmt: skip
    if facts.resize != facts.size:
        spare = write("Sub", sides, list(facts.size))
        if facts.crop_offset == "floor":
            first = write("Div", spare, [2])
        else:  # half a pixel goes to the even neighbour, as `Round` does it
            half = write("Mul", write("Cast", spare, to=TensorProto.FLOAT), np.asarray([0.5], np.float32))
            first = write("Cast", write("Round", half), to=TensorProto.INT64)
        resized = write("Slice", resized, first, write("Add", first, list(facts.size)), [2, 3])
    # The size is known, but no shape inference finds it through the arithmetic above.
    return write("Reshape", resized, [0, 3, *facts.size])


def _normalised(write: _Writer, planar: str, facts: Facts) -> None:
    std = np.asarray(facts.std, np.float64)
    factor, offset = facts.rescale_factor / std, -np.asarray(facts.mean) / std
    pixels = write("Cast", planar, to=TensorProto.FLOAT)
    scaled = write("Mul", pixels, factor.astype(np.float32).reshape(1, 3, 1, 1))
    write("Add", scaled, offset.astype(np.float32).reshape(1, 3, 1, 1), output=PIXELS)


def _require_possible(facts: Facts, opset: int) -> None:
    other = "set export.preprocessing: normalize"
    if opset < 18:
        raise ExportError(
            f"export.opset: got {opset}, but resizing as Pillow does needs 18 or more; raise it, or {other}"
        )
    if facts.resize is None:
        raise ExportError(f"export.preprocessing: this model's images are not resized, so that a graph cannot; {other}")
    if facts.border != "none":
        raise ExportError(
            f"export.preprocessing: a graph cannot give images a border (model.fit: {facts.border}); {other}"
        )
    if facts.interpolation not in MODES:
        raise ExportError(
            f"export.preprocessing: a graph cannot resize with the filter {facts.interpolation!r}; possible are "
            f"{' and '.join(MODES)} (model.preprocessing.interpolation, which changes the model's input); or {other}"
        )
    short, long = (facts.resize, facts.resize) if isinstance(facts.resize, int) else facts.resize
    if short < facts.size[0] or long < facts.size[1]:
        raise ExportError(
            f"export.preprocessing: images are resized to {facts.resize}, less than the model's {facts.size}, and a "
            f"graph gives them no black border; {other}"
        )


def _prefix(path: Path, target: Path) -> Path:
    """The preprocessing of a graph alone, written to `target`."""
    model = onnx.load(path, load_external_data=False)
    nodes = list(_nodes(model))
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    shape = ["batch_size", 3, "model_height", "model_width"]
    output = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "preprocess", model.graph.input, [output], constants)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.save(made, target)
    return target


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.name.startswith(PREFIX))


def _input_shape(path: Path) -> tuple[int | str, ...]:
    dims = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    return tuple(d.dim_param or d.dim_value for d in dims)
