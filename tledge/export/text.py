"""A transformers model to one ONNX file, in the form that was measured to be fastest on CPUs.

The attention is traced in its plain ("eager") shape, which needs fewer reshapes than the decomposed fused operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from transformers import PreTrainedModel
from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

from tledge.artifacts import Graph
from tledge.export.graph import finish, not_translated
from tledge.export.tied import store_weights_once


def export_text(
    model: PreTrainedModel,
    sample: Mapping[str, npt.NDArray[Any]],
    path: Path,
    *,
    opset: int,
    external_data: bool,
) -> Graph:
    """Write the graph of a model of texts and tell what it takes and gives.

    Args:
        model: a transformers model in eval mode; its `forward` gives a dict of tensors.
        sample: inputs, `(batch, sequence) int64` each, with at least 2 rows and 2 tokens (a size of 1 would be baked
            in) and padding (an attention mask of ones would be dropped).
        path: the ONNX file; its weights go beside it as `NAME.data` when `external_data`.
        opset: the ONNX operator set.
        external_data: keep the weights in a file of their own.

    Raises:
        ExportError: the exporter cannot translate the model, or one file would be too large.
    """
    model.set_attn_implementation("eager")
    output = model.get_output_embeddings()
    is_tied = output is not None and output.weight is model.get_input_embeddings().weight
    inputs = {name: torch.from_numpy(array) for name, array in sample.items()}
    try:
        program = (
            OnnxExporter().export(model.cpu().eval(), inputs, OnnxConfig(dynamic=True, opset_version=opset)).program
        )
    except Exception as error:  # the exporters raise whatever their parts raise
        raise not_translated(model, error) from error
    if is_tied:
        store_weights_once(program)
    return finish(program, path, opset=opset, external_data=external_data)
