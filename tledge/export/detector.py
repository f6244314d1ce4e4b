"""A detector of one stage to one ONNX file: images of the one size to candidates, or to detections.

The exporter cannot translate what torchvision does after a detector's layers, so that the graph is written in two
steps: layers and decoding go through the exporter, with a constant grid of places, and suppression is appended
(`tledge.export.suppression`). Each node's name begins with the module that it comes from, such as
`backbone.features.3.conv/`, or with `decode/`, by which quantization knows its regions.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir
import torch
from torch import Tensor, nn

from tledge.artifacts import Graph
from tledge.errors import ExportError
from tledge.export.graph import finish, not_translated
from tledge.export.suppression import RAW

UNCHECKED = "TRANSFORMERS_DISABLE_TORCH_CHECK"
"""What stops transformers from looking at values as it computes, which no graph can do."""
DECODE = "decode"
"""The region of what no module of the detector computes itself: candidates of its outputs."""


def one_stage(
    model: Any, sample: Mapping[str, npt.NDArray[Any]], path: Path, *, opset: int, external_data: bool
) -> Graph:
    """Write the graph of a detector before suppression, and tell what it takes and gives.

    It takes `pixel_values`, `(batch, 3, height, width) float32`, and gives `boxes (batch, candidates, 4)` in pixels of
    the input and `scores (batch, labels, candidates)`, both float32.

    Args:
        model: a detector of one stage, as `tledge.model.detectors` says, in which batch norms are folded that the
            exporter cannot fold.
        sample: `pixel_values` of at least 2 images (a batch of 1 would be baked in).
        path: the ONNX file; its weights go beside it as `NAME.data` when `external_data`.
        opset: the ONNX operator set.
        external_data: keep the weights in a file of their own.

    Raises:
        ExportError: the exporter cannot translate the model, or one file would be too large.
    """
    program = translated(Candidates(model), sample, RAW, opset=opset)
    require_batch(model, program, len(next(iter(sample.values()))))
    return finish(program, path, opset=opset, external_data=external_data)


class Candidates(nn.Module):
    """A detector whose forward is its `raw`."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector.cpu().eval()

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """`boxes` and `scores` of all candidates."""
        found: dict[str, Tensor] = self.detector.raw(pixel_values)
        return {name: found[name] for name in RAW}


class Answers(nn.Module):
    """A detector whose forward is its `answers`, of the same shapes for all images."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """What it tells of all places."""
        found: dict[str, Tensor] = self.detector.answers(pixel_values)
        return found


def translated(
    module: nn.Module,
    sample: Mapping[str, npt.NDArray[Any]],
    outputs: Sequence[str],
    *,
    opset: int,
    model: object | None = None,
) -> onnx_ir.Model:
    """A module's graph with a dynamic first dimension, whose nodes are named after the modules of its `detector`.

    Args:
        module: takes the tensors of `sample` in their order, and has the detector as `detector`.
        sample: tensors by the names of the graph's inputs, the first dimension of each at least 2.
        outputs: the names of the graph's outputs.
        opset: the ONNX operator set.
        model: what an error tells of; by default the module.

    Raises:
        ExportError: the exporter cannot translate it.
    """
    inputs = tuple(torch.from_numpy(array) for array in sample.values())
    try:
        with torch.no_grad():
            module.eval()(*inputs)  # makes what is the same for all images, and is kept then
        with _unchecked():
            exported = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=_dynamic(module, inputs),
                input_names=list(sample),
                output_names=list(outputs),
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its parts raise
        raise not_translated(model or module, error) from error
    assert exported is not None  # only an export to a file gives none
    _name_by_region(exported.model)
    return exported.model


def _dynamic(module: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """Which dimensions of a module's inputs are dynamic, in the exporter's words."""
    each: list[Any] = [{0: torch.export.Dim.DYNAMIC} for _ in inputs]
    named = list(inspect.signature(module.forward).parameters.values())
    if named[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        return (*each[: len(named) - 1], tuple(each[len(named) - 1 :]))
    return tuple(each)


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Networks of transformers do not look at their values meanwhile."""
    before = os.environ.get(UNCHECKED)
    os.environ[UNCHECKED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[UNCHECKED]
        else:
            os.environ[UNCHECKED] = before


def require_batch(model: object, program: onnx_ir.Model, batch: int) -> None:
    """Nothing, where a graph takes any number of images.

    Raises:
        ExportError: the batch that it was traced with, `batch`, is fixed in an input or output.
    """
    fixed = [v.name for v in (*program.graph.inputs, *program.graph.outputs) if isinstance(v.shape[0], int)]
    if fixed:
        raise ExportError(
            f"export: {type(model).__name__} has a fixed batch of {batch} at {fixed[0]!r}; expected one that takes any "
            "number of images: its forward computes with the batch's size"
        )


def _name_by_region(program: onnx_ir.Model) -> None:
    """Begin each node's name with the module that it comes from."""
    for i, node in enumerate(program.graph):
        node.name = f"{_region(node)}/{node.op_type}_{i}"


def _region(node: onnx_ir.Node) -> str:
    """The module of the detector that a node comes from, as its path from the detector; `decode` where it is none."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
    modules = [each for each in ast.literal_eval(scopes) if re.match(r"detector\..", each)]
    return modules[-1].removeprefix("detector.") if modules else DECODE
