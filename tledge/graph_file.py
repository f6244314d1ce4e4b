"""What an ONNX file says, read without the onnx package, which devices do not install.

onnxruntime needs protobuf, so that it is there. Only the fields that tledge looks at are described here, with the
numbers of `onnx.proto`; protobuf steps over the others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.errors import BundleError

Array = npt.NDArray[Any]

_PACKAGE = "tledge.onnx"
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Model": {
        "ir_version": (1, "int64", False),
        "graph": (7, "Graph", False),
        "opset_import": (8, "Opset", True),
        "functions": (25, "Function", True),
    },
    "Opset": {"domain": (1, "string", False), "version": (2, "int64", False)},
    "Graph": {
        "node": (1, "Node", True),
        "initializer": (5, "Tensor", True),
        "input": (11, "Value", True),
        "output": (12, "Value", True),
        "value_info": (13, "Value", True),
    },
    "Function": {"name": (1, "string", False), "node": (7, "Node", True)},
    "Node": {
        "input": (1, "string", True),
        "output": (2, "string", True),
        "name": (3, "string", False),
        "op_type": (4, "string", False),
        "attribute": (5, "Attribute", True),
        "domain": (7, "string", False),
    },
    "Attribute": {
        "name": (1, "string", False),
        "i": (3, "int64", False),
        "t": (5, "Tensor", False),
        "g": (6, "Graph", False),
        "graphs": (11, "Graph", True),
    },
    "Tensor": {
        "dims": (1, "int64", True),
        "data_type": (2, "int32", False),
        "float_data": (4, "float", True),
        "int32_data": (5, "int32", True),
        "int64_data": (7, "int64", True),
        "name": (8, "string", False),
        "raw_data": (9, "bytes", False),
        "external_data": (13, "Entry", True),
        "data_location": (14, "int32", False),
    },
    "Entry": {"key": (1, "string", False), "value": (2, "string", False)},
    "Value": {"name": (1, "string", False), "type": (2, "Type", False)},
    "Type": {"tensor_type": (1, "TensorType", False)},
    "TensorType": {"elem_type": (1, "int32", False)},
}
"""Of each message its fields: number, type, and whether there may be several."""

EXTERNAL = 1
"""The `data_location` of a tensor whose values are in a file of their own."""
FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
"""Some element types of `onnx.proto`."""
_DTYPES = {FLOAT: "<f4", UINT8: "u1", INT8: "i1", INT32: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}
_FIELDS = {FLOAT: "float_data", 7: "int64_data"}


def load(path: Path) -> Any:
    """The model in a file, as far as it is described here: `.graph.node`, `.graph.initializer` ... as onnx names them.

    Raises:
        BundleError: the file cannot be read or is no ONNX model.
    """
    from google.protobuf.message import DecodeError

    model = _messages()["Model"]()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise BundleError(f"{path} is no ONNX file, or damaged") from error
    return model


def identity() -> bytes:
    """The smallest model that a session opens: `y` is `x`."""
    model = _messages()["Model"](ir_version=8, opset_import=[{"version": 13}])
    model.graph.node.add(op_type="Identity", input=["x"], output=["y"])
    for name, values in (("x", model.graph.input), ("y", model.graph.output)):
        values.add(name=name).type.tensor_type.elem_type = FLOAT
    made: bytes = model.SerializeToString()
    return made


def graphs(model: Any) -> Iterator[Any]:
    """The graph of a model, and those inside its nodes (the branches of an `If`, the body of a `Loop`)."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def external_files(path: Path) -> tuple[str, ...]:
    """The files that hold weights of a graph, as it names them, relative to its folder; empty when it holds all.

    Raises:
        BundleError: as for `load`.
    """
    return tuple(sorted({name for tensor in _tensors(load(path)) if (name := location(tensor))}))


def files_beside(path: Path) -> tuple[str, ...]:
    """As `external_files`, of a graph that has all of them in its folder or below it.

    Raises:
        BundleError: a file is missing or elsewhere, or as for `load`.
    """
    names = external_files(path)
    for name in names:
        if _is_outside(PurePosixPath(name)):
            raise BundleError(f"{path} has weights in {name!r}, outside its folder, where nothing is read; move them")
        if not (path.parent / name).is_file():
            raise BundleError(f"{path} has weights in {name!r}, which is not in {path.parent}; put it there")
    return names


def size_bytes(path: Path) -> int:
    """The size of a graph with its weights, wherever they lie; a file of weights that is missing counts nothing.

    Raises:
        BundleError: as for `load`.
    """
    beside = [path.parent / name for name in external_files(path)]
    return path.stat().st_size + sum(file.stat().st_size for file in beside if file.is_file())


def location(tensor: Any) -> str:
    """The file that a tensor's values are in; empty when they are in the model."""
    if tensor.data_location != EXTERNAL:
        return ""
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")


def array(tensor: Any, folder: Path) -> Array:
    """The values of a tensor of numbers of 8 bits or more; those in a file of their own are mapped, not read.

    Args:
        tensor: Of a model that `load` or the onnx package gave.
        folder: That of the model's file, where its weights' files are looked for.

    Raises:
        BundleError: the type is another one, or the values are missing or of another size.
    """
    shape = tuple(tensor.dims)
    if tensor.data_type not in _DTYPES:
        raise BundleError(f"the tensor {tensor.name!r} has the element type {tensor.data_type}, which is not read")
    dtype = np.dtype(_DTYPES[tensor.data_type])
    if tensor.data_location == EXTERNAL:
        return _external(tensor, folder, dtype, shape)
    if tensor.raw_data:
        values = np.frombuffer(tensor.raw_data, dtype) if len(tensor.raw_data) % dtype.itemsize == 0 else np.empty(0)
    else:
        values = np.array(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")), dtype)
    if values.size != np.prod(shape, dtype=np.int64):
        raise BundleError(f"the tensor {tensor.name!r} of shape {shape} has {values.size} values")
    return values.reshape(shape)


def _external(tensor: Any, folder: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    name = PurePosixPath(location(tensor))
    facts = {entry.key: entry.value for entry in tensor.external_data}
    if _is_outside(name):
        raise BundleError(f"the weights of {tensor.name!r} are in {str(name)!r}, outside the graph's folder")
    if not np.prod(shape, dtype=np.int64):
        return np.empty(shape, dtype)
    try:
        return np.memmap(folder / name, dtype, "r", offset=int(facts.get("offset") or 0), shape=shape)
    except (OSError, ValueError) as error:
        raise BundleError(f"the weights of {tensor.name!r} cannot be read from {folder / name}: {error}") from error


def _is_outside(name: PurePosixPath) -> bool:
    return name.is_absolute() or ".." in name.parts or not name.parts


def _tensors(model: Any) -> Iterator[Any]:
    for graph in graphs(model):
        yield from graph.initializer
        for node in graph.node:
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


@functools.cache
def _messages() -> dict[str, Any]:
    """The classes of the messages, in a pool of their own, so that the onnx package's do not meet them."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tledge/onnx.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            made = message.field.add(name=field, number=number, label=label)
            if kind in _MESSAGES:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                made.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call,unused-ignore]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }
