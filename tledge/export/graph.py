"""What every exported graph has in common: names, versions, what is stored with it, and how it is written.

Two choices are measured. The addition in front of each layer norm is stored as `Sum`: onnxruntime would fuse `Add`
and `LayerNormalization` at load into its SkipLayerNormalization, which is slow on CPUs, and `Sum` of two tensors is
the same arithmetic in a spelling that is left alone (`benchmarks/graph_form.py` compares the forms). And the mean over
height and width is stored as `GlobalAveragePool`, which has an integer kernel where `ReduceMean` has none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir

from tledge import graph_file
from tledge.artifacts import Graph, TensorSpec
from tledge.errors import ExportError

DIMENSIONS = ("batch_size", "sequence_length")
IR_VERSION = 10  # what onnxruntime has read since 1.18; newer features of the format are not used
SINGLE_FILE_LIMIT = 2_000_000_000  # protobuf's limit for one message is 2 GiB


def finish(
    program: onnx_ir.Model,
    path: Path,
    *,
    opset: int,
    external_data: bool,
    dimensions: Mapping[str, Sequence[str]] | None = None,
) -> Graph:
    """Bring a fresh export into the form that is shipped, write it, and tell what it takes and gives.

    Args:
        program: the export.
        path: the ONNX file.
        opset: the operator set that was asked for.
        external_data: keep the weights in a file of their own.
        dimensions: the names of the dynamic dimensions, in order, of inputs and outputs by name; for those that are not
            in it, `DIMENSIONS`.

    Raises:
        ExportError: the exporter wrote another operator set, or one file would be too large.
    """
    if program.opset_imports.get("") != opset:
        raise ExportError(
            f"export.opset: got {opset}, but the exporter wrote {program.opset_imports.get('')}; "
            "20 is the default, and 18 to 23 are common"
        )
    name_dimensions(program, dimensions or {})
    keep_add_before_norm(program)
    norm_by_division(program)
    mean_as_pool(program)
    clean(program)
    forget_inferred(program)
    save(program, path, external_data=external_data)
    return describe(program, path)


def not_translated(model: object, error: Exception) -> ExportError:
    """The error of a model that an exporter cannot translate; its traceback goes to the log."""
    logging.getLogger(__name__).error("export failed", exc_info=error)
    first = str(error).strip().partition("\n")[0]
    return ExportError(
        f"export: {type(model).__name__} cannot be translated to ONNX: {type(error).__name__}: {first[:300]} "
        "(the whole story is in the run's logs/export.log)"
    )


def name_dimensions(program: onnx_ir.Model, dimensions: Mapping[str, Sequence[str]]) -> None:
    """Name the dynamic dimensions of the graph's inputs and outputs, with `DIMENSIONS` where nothing else is said.

    The exporter's symbols (`s18`) say nothing, and give one dimension several names.
    """
    for value in (*program.graph.inputs, *program.graph.outputs):
        names = iter(dimensions.get(value.name, DIMENSIONS))
        value.shape = onnx_ir.Shape([d if isinstance(d, int) else next(names) for d in value.shape])


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


def norm_by_division(program: onnx_ir.Model) -> int:
    """Spell each product with the reciprocal of a root as a division by the root; gives how many there were.

    This is how runtimes know the root-mean-square norm (Zhang and Sennrich 2019) and compute it as one operator. The
    addition in front of it becomes a `Sum`, as for layer norms.
    """
    changed = 0
    for node in list(program.graph):
        root = node.inputs[0].producer() if node.op_type == "Reciprocal" else None
        if root is None or root.op_type != "Sqrt":
            continue
        for product, place in node.outputs[0].uses():
            if product.op_type != "Mul":
                continue
            whole = product.inputs[1 - place]
            product.op_type = "Div"
            product.replace_input_with(0, whole)
            product.replace_input_with(1, root.outputs[0])
            before = whole.producer()
            if before is not None and before.op_type == "Add" and before.domain == "":
                before.op_type = "Sum"
            changed += 1
        if not node.outputs[0].uses():
            program.graph.remove(node, safe=True)
    return changed


def mean_as_pool(program: onnx_ir.Model) -> int:
    """Spell each mean over height and width as `GlobalAveragePool`; gives how many there were."""
    changed = 0
    for node in program.graph:
        if node.op_type != "ReduceMean" or len(node.inputs) != 2 or node.inputs[1] is None:
            continue
        image, second = node.inputs[0], node.inputs[1]
        axes = second.const_value
        kept = node.attributes.get_int("keepdims", 1)
        if axes is None or image.shape is None or len(image.shape) != 4 or not kept:
            continue
        if {int(axis) % 4 for axis in axes.numpy()} == {2, 3}:
            node.resize_inputs(1)
            node.attributes.clear()
            node.op_type = "GlobalAveragePool"
            if not second.uses():
                program.graph.initializers.pop(second.name, None)
            changed += 1
    return changed


def clean(program: onnx_ir.Model) -> None:
    """Drop what tells of the machine that exported, such as stack traces, and name the producer."""
    program.ir_version = IR_VERSION
    program.producer_name = "tledge"
    for value in _values(program):
        value.metadata_props.clear()
    for node in program.graph:
        node.metadata_props.clear()


def forget_inferred(program: onnx_ir.Model) -> None:
    """Leave the types and shapes between inputs and outputs to those who read the graph, as onnxruntime does anyway.

    The exporter's own are in the way of other tools: stored weights are among them, and dimensions by symbols that
    shape inference contradicts, at which onnxruntime's quantizers stop.
    """
    for graph in (program.graph, *program.graph.subgraphs()):
        kept = {id(value) for value in (*graph.inputs, *graph.outputs)}
        made = (value for node in graph for value in node.outputs)
        for value in (*graph.initializers.values(), *made):
            if id(value) not in kept:
                value.type = value.shape = None


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
    return Graph(
        path=path.name,
        size_bytes=graph_file.size_bytes(path),
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
    yield from program.graph.initializers.values()
    for node in program.graph:
        yield from node.outputs
