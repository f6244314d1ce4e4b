"""Non-maximum suppression at the end of a graph, with standard ONNX operators.

It does what `tledge.inputs._suppression` says, to the same padded arrays: the best candidates of an image by `TopK`,
`NonMaxSuppression` among those, which knows labels and images apart, what it kept as a mask by `ScatterND`, and `TopK`
again. Any number of images goes through at once, and where nothing is found all of it is padding. The nodes' names
begin with `nms/`, by which quantization knows what to leave alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

from tledge.artifacts import Graph
from tledge.export.graph import DIMENSIONS, describe
from tledge.inputs._suppression import Suppression

PREFIX = "nms/"
RAW = ("boxes", "scores")
"""What a detector's graph gives before suppression."""


def suppress_in_graph(source: Path, target: Path, settings: Suppression) -> Graph:
    """Write a graph that gives detections, made of one that gives candidates, and tell what it takes and gives.

    Args:
        source: the graph that gives `boxes (batch, candidates, 4)`, or `(batch, labels, candidates, 4)` where each
            label has a box of its own, and `scores (batch, labels, candidates)`. Only the batch may be dynamic.
        target: the file to write. That graph gives `boxes (batch, max_detections, 4)`, `scores (batch,
            max_detections)` and `labels (batch, max_detections) int64`, best first, and then 0, 0 and -1.
        settings: which candidates are told.
    """
    model = onnx.load(source)
    graph = model.graph
    shapes = {each.name: [d.dim_value for d in each.type.tensor_type.shape.dim] for each in graph.output}
    for node in graph.node:
        node.output[:] = [f"{PREFIX}raw_{name}" if name in RAW else name for name in node.output]
        node.input[:] = [f"{PREFIX}raw_{name}" if name in RAW else name for name in node.input]
    writer = Nodes(PREFIX)
    _suppressed(writer, shapes, settings)
    graph.node.extend(writer.nodes)
    graph.initializer.extend(writer.constants)
    del graph.output[:]
    batch, most = DIMENSIONS[0], settings.max_detections
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [batch, most, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, most]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, most]),
        ]
    )
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return describe(onnx_ir.load(target), target)


def _suppressed(write: Nodes, shapes: dict[str, list[int]], settings: Suppression) -> None:
    """The nodes from candidates to detections."""
    labels, places = shapes["scores"][1:]
    n_best = min(settings.per_image, labels * places)
    flat = write("Reshape", f"{PREFIX}raw_scores", [0, labels * places])
    best, index = write("TopK", flat, [n_best], outputs=2)
    label = write("Div", index, places)
    place = index if len(shapes["boxes"]) == 4 else write("Sub", index, write("Mul", label, places))
    by_place = write("Reshape", f"{PREFIX}raw_boxes", [0, -1, 4])
    boxes = write("GatherND", by_place, write("Unsqueeze", place, [2]), batch_dims=1)
    told(write, boxes, best, label, Sizes(labels, n_best), settings)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many labels there are, and how many candidates of an image are the best."""

    labels: int
    n_best: int


def told(
    write: Nodes,
    boxes: str,
    best: str,
    label: str,
    sizes: Sizes,
    settings: Suppression,
    names: Sequence[str] = ("boxes", "scores", "labels"),
) -> None:
    """Add the nodes from an image's best candidates to what is told of them, padded.

    Args:
        write: adds nodes.
        boxes: the name of the best candidates' boxes, `(batch, n_best, 4)`.
        best: of their scores, `(batch, n_best)`.
        label: of their labels, `(batch, n_best) int64`, among which boxes suppress each other.
        sizes: of these.
        settings: which are told.
        names: of what is told: boxes, scores and labels.
    """
    kept = _kept(write, boxes, best, label, sizes.labels, settings)
    scores, at = write("TopK", kept, [min(settings.max_detections, sizes.n_best)], outputs=2)
    there = write("Greater", scores, np.float32(0))
    chosen = write("GatherND", boxes, write("Unsqueeze", at, [2]), batch_dims=1)
    found = (
        write("Where", write("Unsqueeze", there, [2]), chosen, np.float32(0)),
        scores,
        write("Where", there, write("GatherElements", label, at, axis=1), -1),
    )
    spare = max(0, settings.max_detections - sizes.n_best)
    for i, (name, value) in enumerate(zip(names, found, strict=True)):
        behind = [0, 0, 0, 0, spare, 0] if i == 0 else [0, 0, 0, spare]
        write("Pad", value, behind, -1 if i == 2 else np.float32(0), named=name)


def _kept(write: Nodes, boxes: str, best: str, label: str, labels: int, settings: Suppression) -> str:
    """The scores of the best candidates, `(batch, best)`, and 0 for those that are not told."""
    floor = np.float32(settings.score_threshold)
    if settings.iou_threshold is None:
        return write("Where", write("Greater", best, floor), best, np.float32(0))
    mine = write("Equal", write("Unsqueeze", label, [1]), np.arange(labels).reshape(1, labels, 1))
    by_label = write("Where", mine, write("Unsqueeze", best, [1]), np.float32(0))
    most = np.asarray([settings.max_detections])
    chosen = write(
        "NonMaxSuppression", boxes, by_label, most, np.asarray([settings.iou_threshold], np.float32), [floor]
    )
    where = write("Gather", chosen, [0, 2], axis=1)  # of image, label and place the first and the last
    count = write("Slice", write("Shape", where), [0], [1])
    ones = write("Expand", np.ones(1, np.float32), count)
    none = write("Expand", np.zeros(1, np.float32), write("Shape", best))
    return write("Mul", best, write("ScatterND", none, where, ones))


class Nodes:
    """Adds nodes and constants under names of a prefix; a call gives the name of the new node's output, or some."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(
        self, operator: str, *inputs: str | npt.ArrayLike, outputs: int = 1, named: str = "", **attributes: Any
    ) -> Any:
        name = f"{self.prefix}{operator}_{len(self.nodes)}"
        names = [
            each if isinstance(each, str) else self._constant(each, f"{name}_{i}") for i, each in enumerate(inputs)
        ]
        given = [named or name] if outputs == 1 else [f"{name}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, names, given, name=name, **attributes))
        return given[0] if outputs == 1 else given

    def _constant(self, value: npt.ArrayLike, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name
