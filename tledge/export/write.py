"""A model to one ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import nn
from transformers import PreTrainedModel

from tledge.artifacts import Graph
from tledge.export.image import export_image
from tledge.export.text import export_text


def export(
    model: nn.Module, sample: Mapping[str, npt.NDArray[Any]], path: Path, *, opset: int, external_data: bool
) -> Graph:
    """Write the graph of a model and tell what it takes and gives: models of transformers by its own exporter.

    Args:
        model: in eval mode; its forward gives a dict of tensors.
        sample: inputs of at least 2 rows (a batch of 1 would be baked in), as `export_text` and `export_image` say.
        path: the ONNX file; its weights go beside it as `NAME.data` when `external_data`.
        opset: the ONNX operator set.
        external_data: keep the weights in a file of their own.

    Raises:
        ExportError: the exporter cannot translate the model, or one file would be too large.
    """
    write = export_text if isinstance(model, PreTrainedModel) else export_image
    return write(model, sample, path, opset=opset, external_data=external_data)
