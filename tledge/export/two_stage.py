"""A detector of two stages to one ONNX file: images of the one size to candidates.

Each stage goes through the exporter alone: images to maps and proposals, and maps with boxes to what is in them. Nodes
of standard operators join them: of each level's proposals the best, `NonMaxSuppression` among those of a level, and the
best of all, padded to one number for each image. What is in padding has a score of 0. The joining nodes' names begin
with `proposals/`, and those behind the second stage with `decode/`, by which quantization knows what stays in float.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from tledge.artifacts import Graph
from tledge.export.detector import DECODE, require_batch, translated
from tledge.export.graph import DIMENSIONS, describe, finish
from tledge.export.suppression import RAW, Nodes, Sizes, told

PROPOSALS = "proposals/"
REGIONS = "regions/"
PROPOSED = (f"{PROPOSALS}boxes", f"{PROPOSALS}scores")
"""What the first stage gives: boxes and scores of all places."""
CHOSEN = ("chosen_boxes", "chosen_scores", "chosen_levels")
"""What is looked into, padded."""
ROIS = "rois"


def two_stage(
    model: Any, sample: Mapping[str, npt.NDArray[Any]], path: Path, *, opset: int, external_data: bool
) -> Graph:
    """Write the graph of a detector of two stages before its last suppression, and tell what it takes and gives.

    It takes `pixel_values`, `(batch, 3, height, width) float32`, and gives `boxes (batch, labels, candidates, 4)` in
    pixels of the input and `scores (batch, labels, candidates)`, both float32; and beside them, for parity, what the
    stages hand on, `PROPOSED` and `CHOSEN`.

    Args:
        model: the detector, as `tledge.model.detectors` says.
        sample: `pixel_values` of at least 2 images (a batch of 1 would be baked in).
        path: the ONNX file.
        opset: the ONNX operator set.
        external_data: keep the weights in a file of their own beside it.

    Raises:
        ExportError: the exporter cannot translate a stage, or one file would be too large.
    """
    stages = Proposals(model), Regions(model)
    with torch.no_grad():
        found = model.proposals(*map(torch.from_numpy, sample.values()))
    maps = {f"map_{i}": each.numpy() for i, each in enumerate(found["maps"])}
    rois = np.asarray([[0, 0, 0, 16, 16], [1, 4, 4, 20, 20], [1, 0, 0, 8, 8]], np.float32)
    levels = np.bincount(found["levels"].numpy())
    first = translated(stages[0], sample, [*RAW, *maps], opset=opset, model=model)
    require_batch(model, first, len(rois) - 1)
    second = translated(stages[1], {ROIS: rois, **maps}, RAW, opset=opset, model=model)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".stages-") as name:
        folder = Path(name)
        for program, file in ((first, "first.onnx"), (second, "second.onnx")):
            finish(program, folder / file, opset=opset, external_data=external_data)
        joined = _joined(onnx.load(folder / "first.onnx"), onnx.load(folder / "second.onnx"), levels, model)
    onnx.checker.check_model(joined)
    onnx.save(joined, path, save_as_external_data=external_data, location=f"{path.name}.data")
    return describe(onnx_ir.load(path), path)


class Proposals(nn.Module):
    """A detector whose forward is its `proposals`."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector.cpu().eval()

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """`boxes` and `scores` of all places, and all maps."""
        found = self.detector.proposals(pixel_values)
        return (*(found[name] for name in RAW), *found["maps"])


class Regions(nn.Module):
    """A detector whose forward is its `regions`."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector.cpu().eval()

    def forward(self, rois: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        """`boxes` and `scores` of some boxes."""
        found = self.detector.regions(maps, rois)
        return tuple(found[name] for name in RAW)


def _joined(first: onnx.ModelProto, second: onnx.ModelProto, levels: npt.NDArray[Any], model: Any) -> onnx.ModelProto:
    """Both stages in one graph; `levels` are the numbers of places of each."""
    _rename(first, lambda name: dict(zip(RAW, PROPOSED, strict=True)).get(name, name))
    given = {value.name for value in second.graph.input}
    _rename(second, lambda name: name if name in given or not name else f"{REGIONS}{name}")
    for node in first.graph.node:
        if node.name.startswith(f"{DECODE}/"):
            node.name = f"{PROPOSALS}{node.name}"
    labels = second.graph.output[1].type.tensor_type.shape.dim[1].dim_value
    between, behind = Nodes(PROPOSALS), Nodes(f"{DECODE}/joined/")
    count = _choose(between, levels, model.proposal_suppression)
    _number(between, count)
    _by_image(behind, count, labels)
    graph = first.graph
    for part in (between.nodes, second.graph.node, behind.nodes):
        graph.node.extend(part)
    for part in (between.constants, second.graph.initializer, behind.constants):
        graph.initializer.extend(part)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(_outputs(int(levels.sum()), count, labels))
    return first


def _choose(write: Nodes, levels: Sequence[int] | npt.NDArray[Any], settings: Any) -> int:
    """Add the nodes from proposals to those that are looked into; how many of an image these are, with padding."""
    scores = write("Reshape", PROPOSED[1], [0, -1])
    best, places, of = [], [], []
    start = 0
    for level, size in enumerate(levels):
        n_best = min(settings.per_image, int(size))
        own = write("Slice", scores, [start], [start + int(size)], [1])
        values, index = write("TopK", own, [n_best], outputs=2)
        best.append(values)
        places.append(write("Add", index, start))
        of += [level] * n_best
        start += int(size)
    value, place = (write("Concat", *each, axis=1) for each in (best, places))
    level_of = write("Expand", np.asarray([of]), write("Shape", value))
    boxes = write("GatherND", PROPOSED[0], write("Unsqueeze", place, [2]), batch_dims=1)
    count = min(settings.max_detections, len(of))
    chosen = dataclasses.replace(settings, max_detections=count)
    told(write, boxes, value, level_of, Sizes(len(levels), len(of)), chosen, CHOSEN)
    return count


def _number(write: Nodes, count: int) -> None:
    """Add the nodes that put the number of its image in front of each box."""
    batch = write("Squeeze", write("Shape", CHOSEN[1], end=1), [0])
    numbers = write("Cast", write("Range", 0, batch, 1), to=TensorProto.FLOAT)
    each = write("Expand", write("Reshape", numbers, [-1, 1, 1]), [1, count, 1])
    write("Reshape", write("Concat", each, CHOSEN[0], axis=2), [-1, 5], named=ROIS)


def _by_image(write: Nodes, count: int, labels: int) -> None:
    """Add the nodes that tell what is in boxes by image and label, with a score of 0 in padding."""
    boxes = write("Reshape", f"{REGIONS}boxes", [-1, count, labels, 4])
    write("Transpose", boxes, perm=[0, 2, 1, 3], named=RAW[0])
    scores = write("Transpose", write("Reshape", f"{REGIONS}scores", [-1, count, labels]), perm=[0, 2, 1])
    there = write("Unsqueeze", write("Greater", CHOSEN[1], np.float32(0)), [1])
    write("Where", there, scores, np.float32(0), named=RAW[1])


def _outputs(places: int, count: int, labels: int) -> list[onnx.ValueInfoProto]:
    shapes = {
        RAW[0]: (labels, count, 4),
        RAW[1]: (labels, count),
        PROPOSED[0]: (places, 4),
        PROPOSED[1]: (1, places),
        CHOSEN[0]: (count, 4),
        CHOSEN[1]: (count,),
        CHOSEN[2]: (count,),
    }
    return [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if name == CHOSEN[2] else TensorProto.FLOAT, [DIMENSIONS[0], *shape]
        )
        for name, shape in shapes.items()
    ]


def _rename(model: onnx.ModelProto, renamed: Callable[[str], str]) -> None:
    """Give the values of a graph other names."""
    for node in model.graph.node:
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)
    for tensor in model.graph.initializer:
        tensor.name = renamed(tensor.name)
