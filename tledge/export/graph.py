"""A transformers model to one ONNX file, in the form that was measured to be fastest on CPUs.

Two choices make that form. The attention is traced in its plain ("eager") shape, which needs fewer reshapes than the
decomposed fused operator. And the addition in front of each layer norm is stored as `Sum`: onnxruntime would fuse
`Add` and `LayerNormalization` at load into its SkipLayerNormalization, which is slow on CPUs, and `Sum` of two
tensors is the same arithmetic in a spelling that is left alone. `benchmarks/graph_form.py` compares the forms.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir
import torch
from transformers import PreTrainedModel
from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

from tledge.artifacts import Graph, TensorSpec
from tledge.errors import ExportError

DIMENSIONS = ("batch", "sequence")
IR_VERSION = 10  # what onnxruntime has read since 1.18; newer features of the format are not used
SINGLE_FILE_LIMIT = 2_000_000_000  # protobuf's limit for one message is 2 GiB


def export(
    model: PreTrainedModel,
    sample: Mapping[str, npt.NDArray[Any]],
    path: Path,
    *,
    opset: int,
    external_data: bool,
) -> Graph:
    """Write the graph of a model and tell what it takes and gives.

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
    inputs = {name: torch.from_numpy(array) for name, array in sample.items()}
    try:
        program = (
            OnnxExporter().export(model.cpu().eval(), inputs, OnnxConfig(dynamic=True, opset_version=opset)).program
        )
    except Exception as error:  # the exporters raise whatever their parts raise
        logging.getLogger(__name__).exception("export failed")
        first = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"export: {type(model).__name__} cannot be translated to ONNX: {type(error).__name__}: {first[:300]} "
            "(the whole story is in the run's logs/export.log)"
        ) from error
    if program.opset_imports.get("") != opset:
        raise ExportError(
            f"export.opset: got {opset}, but the exporter wrote {program.opset_imports.get('')}; "
            "20 is the default, and 18 to 23 are common"
        )
    name_dimensions(program)
    keep_add_before_norm(program)
    program.ir_version = IR_VERSION
    program.producer_name = "tledge"
    for graph_value in _values(program):
        graph_value.metadata_props.clear()
    for node in program.graph:
        node.metadata_props.clear()  # stack traces with the paths of the machine that exported
    save(program, path, external_data=external_data)
    return describe(program, path)


def name_dimensions(program: onnx_ir.Model) -> None:
    """Call the dynamic dimensions `batch` and `sequence` at the graph's inputs and outputs.

    The exporter's symbols (`s18`) say nothing, and give one dimension several names.
    """
    for value in program.graph.inputs:
        value.shape = onnx_ir.Shape(DIMENSIONS[: len(value.shape)])
    for value in program.graph.outputs:
        fixed = [d if isinstance(d, int) else None for d in value.shape]
        names = iter(DIMENSIONS)
        value.shape = onnx_ir.Shape([next(names) if d is None else d for d in fixed])


def keep_add_before_norm(program: onnx_ir.Model) -> int:
    """Spell each `Add` in front of a `LayerNormalization` as `Sum`; gives how many there were."""
    changed = 0
    for node in program.graph:
        if node.op_type != "LayerNormalization":
            continue
        before = node.inputs[0].producer()
        if before is not None and before.op_type == "Add" and before.domain == "":
            before.op_type = "Sum"
            changed += 1
    return changed


def save(program: onnx_ir.Model, path: Path, *, external_data: bool) -> None:
    """Write a graph to one file, or with its weights in `NAME.data` beside it.

    Raises:
        ExportError: one file would pass protobuf's limit.
    """
    size = sum(v.const_value.nbytes for v in program.graph.initializers.values() if v.const_value is not None)
    if size >= SINGLE_FILE_LIMIT and not external_data:
        raise ExportError(
            f"export: the weights take {size / 1e9:.1f} GB, more than one file can hold: set export.external_data: true"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(program, path, external_data=f"{path.name}.data" if external_data else None)


def describe(program: onnx_ir.Model, path: Path) -> Graph:
    """What a stored graph takes and gives; the path is the file's name alone."""
    data = path.with_name(path.name + ".data")
    size = path.stat().st_size + (data.stat().st_size if data.exists() else 0)
    return Graph(
        path=path.name,
        size_bytes=size,
        opset=program.opset_imports[""],
        ir_version=program.ir_version,
        inputs=tuple(_spec(value) for value in program.graph.inputs),
        outputs=tuple(_spec(value) for value in program.graph.outputs),
    )


def _spec(value: onnx_ir.Value) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else str(d.value) for d in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, shape)


def _values(program: onnx_ir.Model) -> Iterator[onnx_ir.Value]:
    yield from program.graph.inputs
    yield from program.graph.outputs
    for node in program.graph:
        yield from node.outputs
