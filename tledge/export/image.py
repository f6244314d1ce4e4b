"""A model of images to one ONNX file: any number of images at once, each of the one size that the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from tledge.artifacts import Graph
from tledge.errors import ExportError
from tledge.export.graph import finish, not_translated


def export_image(
    model: nn.Module,
    sample: Mapping[str, npt.NDArray[Any]],
    path: Path,
    *,
    opset: int,
    external_data: bool,
) -> Graph:
    """Write the graph of a model of images and tell what it takes and gives.

    The graph takes `pixel_values`, `(batch, 3, height, width) float32`, and gives `logits`; the batch is dynamic and
    the size is the sample's. In eval mode a model gives no auxiliary logits, so that a second classifier is left out,
    and batch norms are folded into the convolutions before them.

    Args:
        model: its forward in eval mode gives a dict with `logits` alone.
        sample: `pixel_values` of at least 2 images (a batch of 1 would be baked in).
        path: the ONNX file; its weights go beside it as `NAME.data` when `external_data`.
        opset: the ONNX operator set.
        external_data: keep the weights in a file of their own.

    Raises:
        ExportError: the exporter cannot translate the model, or only for this batch, or one file would be too large.
    """
    inputs = {name: torch.from_numpy(array) for name, array in sample.items()}
    try:
        exported = torch.onnx.export(
            model.cpu().eval(),
            kwargs=inputs,
            dynamo=True,
            dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC} for name in inputs},
            input_names=list(inputs),
            output_names=["logits"],
            opset_version=opset,
            verbose=False,
        )
    except Exception as error:  # the exporter raises whatever its parts raise
        raise not_translated(model, error) from error
    assert exported is not None  # only an export to a file gives none
    program = exported.model
    fixed = [v.name for v in (*program.graph.inputs, *program.graph.outputs) if isinstance(v.shape[0], int)]
    if fixed:
        raise ExportError(
            f"export: {type(model).__name__} has a fixed batch of {len(next(iter(sample.values())))} at {fixed[0]!r}; "
            "expected one that takes any number of images: its forward computes with the batch's size"
        )
    return finish(program, path, opset=opset, external_data=external_data)
