"""Inputs for a graph that tledge did not make, from their names, types and shapes, and from the tables they index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from tledge.bench.lookups import table_rows
from tledge.errors import InputError
from tledge.evaluate import Array

_BATCH = frozenset({"batch", "batch_size", "n", "b"})
_SEQUENCE = frozenset({"sequence", "sequence_length", "seq_len", "seq", "length"})
_TOKENS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
_SEGMENTS = frozenset({"token_type_ids", "segment_ids"})
_DTYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in (("float", np.float32), ("float16", np.float16), ("double", np.float64))
}
_INTEGERS = {
    f"tensor({name})": np.dtype(name)
    for name in ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool")
}
_IMAGES = 4
"""Axes of a batch of images."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The only size that a graph takes; `why` says so, and `by_option` where the user did with `--dim`."""

    size: int
    why: str
    by_option: bool = False


@dataclass(frozen=True, slots=True)
class Sizes:
    """The batch and the length that a graph takes: `None` for any, and `has_length` says whether it has one at all."""

    batch: Fixed | None
    length: Fixed | None
    has_length: bool


class MadeUp:
    """Makes up the input tensors of a graph, the same ones each time.

    Integers are ones, which are valid as a token, as a place and as a mask that hides nothing, unless the input tells
    segments or looks rows up in a table that has no second one: those are zeros. Other numbers are normal.
    """

    def __init__(self, session: ort.InferenceSession, path: Path, dims: Mapping[str, int]) -> None:
        """Looks at the graph.

        Args:
            session: The opened graph.
            path: Its file.
            dims: Sizes of named dimensions.

        Raises:
            InputError: a name in `dims` is no dimension's.
            BundleError: the file cannot be read.
        """
        self._tensors, self._path, self._dims = session.get_inputs(), path, dims
        self._rows = table_rows(path)
        _check(dims, self._tensors, path)
        tokens = [t for t in self._tensors if len(t.shape) == 2 and (t.name in _TOKENS or t.name in self._rows)]
        length = _fixed_length(self._tensors, tokens, dims)
        self.sizes = Sizes(
            fixed_batch(self._tensors, session.get_outputs(), dims),
            length,
            length is not None or any(_has_any_length(tensor, dims) for tensor in self._tensors),
        )

    def __call__(self, batch: int, length: int | None) -> dict[str, Array]:
        """The tensors for a batch size and a length.

        Raises:
            InputError: a dimension's size is not known, or tensors of a type cannot be made up.
        """
        sizes = {"batch": batch, "sequence": length}
        return {tensor.name: self._tensor(tensor, sizes) for tensor in self._tensors}

    def __str__(self) -> str:
        return ", ".join(f"{each.name!r} ({each.type}, {self._filling(each)})" for each in self._tensors)

    def _tensor(self, tensor: ort.NodeArg, sizes: Mapping[str, int | None]) -> Array:
        shape = []
        for axis, dim in enumerate(tensor.shape):
            size = dim if isinstance(dim, int) else self._dims.get(dim) or sizes.get(_role(dim, axis))
            if size is None:
                raise InputError(
                    f"{self._path}: the size of dimension {dim or axis!r} of the input {tensor.name!r} is not known; "
                    f"give it: --dim {dim or 'NAME'}=N"
                )
            shape.append(size)
        dtype = _INTEGERS.get(tensor.type, _DTYPES.get(tensor.type))
        if dtype is None:
            raise InputError(f"{self._path}: the input {tensor.name!r} is a {tensor.type}, which cannot be made up")
        if self._rows.get(tensor.name) == 0:
            raise InputError(f"{self._path}: the input {tensor.name!r} looks up a table without rows: nothing is valid")
        filling = self._filling(tensor)
        if filling == "random":
            return np.random.default_rng(0).normal(size=shape).astype(dtype)
        return np.full(shape, filling == "ones", dtype)

    def _filling(self, tensor: ort.NodeArg) -> str:
        if tensor.name in _SEGMENTS or self._rows.get(tensor.name) == 1:
            return "zeros"
        return "ones" if tensor.type in _INTEGERS or tensor.name.endswith("mask") else "random"


def _check(dims: Mapping[str, int], tensors: Sequence[ort.NodeArg], path: Path) -> None:
    named = {d for t in tensors for d in t.shape if isinstance(d, str)}
    unknown = sorted(dims.keys() - named)
    if unknown:
        listed = ", ".join(sorted(named)) or "none"
        raise InputError(f"--dim: {unknown[0]!r} is no dimension of {path}; its named dimensions are {listed}")


def fixed_batch(inputs: Sequence[ort.NodeArg], outputs: Sequence[ort.NodeArg], dims: Mapping[str, int]) -> Fixed | None:
    """The rows of a run where there is no choice; the first input with a batch decides.

    Numbers and lists of numbers beside the others are settings, and have none.
    """
    for tensor in [t for t in inputs if len(t.shape) > 1] or inputs:
        batches = [d for axis, d in enumerate(tensor.shape) if _role(d, axis) == "batch"]
        if batches:
            return _by_option(batches[0], dims)
        first = tensor.shape[0] if tensor.shape else 1
        if not isinstance(first, int):  # a length
            continue
        shape = " x ".join(str(d) for d in tensor.shape)
        rows = len(tensor.shape) == _IMAGES or any(t.shape and t.shape[0] == first for t in outputs)
        return Fixed(first if rows else 1, f"its input {tensor.name!r} is {shape or 'a number'}")
    return None


def _fixed_length(
    inputs: Sequence[ort.NodeArg], tokens: Sequence[ort.NodeArg], dims: Mapping[str, int]
) -> Fixed | None:
    """The tokens of a row where there is no choice; the first input of tokens decides, unless others have other sizes.

    Without tokens, such as for speech, only an option decides.
    """
    found = [(tensor, _last_but_batch(tensor)) for tensor in sorted(tokens, key=lambda each: each.name != "input_ids")]
    if not found:
        named = [d for tensor in inputs for axis, d in enumerate(tensor.shape) if _role(d, axis) == "sequence"]
        return next((fixed for dim in named if (fixed := _by_option(dim, dims))), None)
    tensor, size = found[0]
    if not isinstance(size, int):
        return _by_option(size, dims)
    if len({each for _, each in found if isinstance(each, int)}) > 1:
        return None
    return Fixed(size, f"its input {tensor.name!r} is {' x '.join(str(d) for d in tensor.shape)}")


def _last_but_batch(tensor: ort.NodeArg) -> int | str | None:
    return next((d for axis, d in reversed([*enumerate(tensor.shape)]) if _role(d, axis) != "batch"), None)


def _by_option(dim: int | str | None, dims: Mapping[str, int]) -> Fixed | None:
    return (
        Fixed(dims[dim], f"--dim {dim}={dims[dim]}", by_option=True) if isinstance(dim, str) and dim in dims else None
    )


def _has_any_length(tensor: ort.NodeArg, dims: Mapping[str, int]) -> bool:
    return any(_role(d, axis) == "sequence" for axis, d in enumerate(tensor.shape) if d not in dims)


def _role(dim: int | str | None, axis: int) -> str:
    """What a dimension is: its name says so, and a first one without a telling name is the batch."""
    name = str(dim).lower()
    if name in _SEQUENCE:
        return "sequence"
    return "batch" if name in _BATCH or (axis == 0 and not isinstance(dim, int)) else ""
