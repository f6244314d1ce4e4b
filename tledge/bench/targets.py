"""What can be timed: a variant of a bundle, or an ONNX file that tledge did not make."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from tledge import bundle, inputs, past, tasks
from tledge.artifacts import TensorSpec
from tledge.bundle import Manifest
from tledge.errors import BundleError, InputError, did_you_mean
from tledge.evaluate import Array
from tledge.runtime.decoder import step_feeds, tensor_specs
from tledge.runtime.session import open_session

Feeds = Callable[[int, int | None], Mapping[str, Array]]
"""Input tensors by name for a batch size and a sequence length, `None` for inputs without one."""

LENGTH = 32
"""Tokens of a text unless others are asked for or the model takes fewer."""

_BATCH = frozenset({"batch", "batch_size", "n", "b"})
_SEQUENCE = frozenset({"sequence", "sequence_length", "seq_len", "seq", "length"})
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_INTEGERS = {
    f"tensor({name})": np.dtype(name)
    for name in ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool")
}


@dataclass(frozen=True, slots=True)
class Target:
    """One graph to time.

    `name` is what results call it, `feeds` gives its inputs, and `max_length` is the most tokens it takes: `None` where
    its inputs have no length. `manifest` and `encoder` are those of its bundle, if it is in one. A run of a language
    model, which is `decoding`, is one token after so many as the length says.
    """

    name: str
    graph: Path
    feeds: Feeds
    max_length: int | None
    manifest: Manifest | None = None
    encoder: inputs.Input | None = None
    decoding: bool = False

    def length(self, asked: int | None = None) -> int | None:
        """The tokens of a row: those asked for, or the usual number, or `None` where there is no length.

        Raises:
            InputError: a length was asked for that the model cannot take.
        """
        if self.max_length is None:
            if asked is not None:
                what = "images, which have no length" if self.encoder is not None else "inputs without a length"
                raise InputError(f"--length: {self.name} takes {what}; leave --length out")
            return None
        if asked is not None and asked > self.max_length:
            before = " before the one that is timed" if self.decoding else ""
            raise InputError(f"--length: {self.name} takes at most {self.max_length} tokens{before}, got {asked}")
        return min(LENGTH, self.max_length) if asked is None else asked


def resolve(path: Path, variant: str | None = None, *, dims: Mapping[str, int] | None = None) -> Target:
    """The target in a bundle, a run folder or an ONNX file.

    Args:
        path: A bundle, a run folder or a file that ends in `.onnx`.
        variant: A variant of the bundle; the chosen one by default.
        dims: Sizes of an ONNX file's named dimensions, beside `batch` and `sequence`.

    Raises:
        BundleError: there is no such thing, or it is damaged.
        InputError: the bundle has no such variant, or a dimension's size is not known.
    """
    if path.suffix == ".onnx":
        if not path.is_file():
            raise BundleError(f"there is no {path}; expected a bundle, a run folder or an .onnx file")
        if variant is not None:
            raise InputError(f"--variant: {path} is one graph without variants; leave --variant out")
        return _plain(path, dims or {})
    if dims:
        raise InputError(f"--dim: {path} is a bundle, which knows its inputs; leave --dim out")
    folder = bundle.find(path)
    manifest = bundle.load(folder)
    name = variant or manifest.chosen
    known = [each.name for each in manifest.variants]
    if name not in known:
        raise InputError(
            f"--variant: {name!r} is not in {path}; known are {', '.join(known)}{did_you_mean(name, known)}"
        )
    return of_bundle(folder, manifest, inputs.load(tasks.load(manifest.task).INPUT, folder), name)


def of_bundle(
    folder: Path, manifest: Manifest, encoder: inputs.Input, variant: str, *, name: str | None = None
) -> Target:
    """A variant of a bundle that is opened already; results call it `name`, by default as the variant is called."""
    graph = manifest.variant(variant).graph
    target = functools.partial(Target, name or variant, folder / graph.path, manifest=manifest, encoder=encoder)
    if manifest.generation is None:
        return target(encoder.dummy, encoder.max_length)
    return target(_steps(graph.inputs, graph.outputs), manifest.generation.context_length - 1, decoding=True)


def variants(path: Path, asked: Sequence[str] = (), *, dims: Mapping[str, int] | None = None) -> list[Target]:
    """The targets in a bundle or run folder, those asked for or all, or the one of an ONNX file; as for `resolve`."""
    if path.suffix == ".onnx":
        return [resolve(path, asked[0] if asked else None, dims=dims)]
    known = [variant.name for variant in bundle.load(bundle.find(path)).variants]
    return [resolve(path, name) for name in dict.fromkeys(asked or known)]


def title(target: Target, path: Path) -> str:
    """A target with where it is from: `int8_dynamic of runs/new`, or the file's name."""
    return str(path) if target.manifest is None else f"{target.name} of {path}"


def is_accepted(encoder: inputs.Input, value: object) -> bool:
    """Whether preprocessing takes a value: some tokenizers give nothing for an empty text."""
    try:
        encoder.encode([value])
    except InputError:
        return False
    return True


def _steps(taken: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> Feeds:
    """Gives what a decoder's graph takes for one token in each row, after a past of so many."""
    vocab_size = next(int(spec.shape[-1]) for spec in given if spec.name == "logits")
    return lambda batch, length: step_feeds(taken, batch, length or 0, vocab_size=vocab_size)


def _is_decoder(taken: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> bool:
    """Whether a graph takes a past and gives logits, all of known sizes."""
    sizes = [spec.shape[axis] for spec in past.past_specs(taken) for axis in (1, 3)]
    vocabulary = [spec.shape[-1] for spec in given if spec.name == "logits"]
    return bool(sizes and vocabulary) and all(isinstance(size, int) for size in (*sizes, *vocabulary))


def _plain(path: Path, dims: Mapping[str, int]) -> Target:
    session = open_session(path, threads=1)
    tensors = session.get_inputs()
    specs, outputs = (tensor_specs(each) for each in (tensors, session.get_outputs()))
    if _is_decoder(specs, outputs) and not dims:
        return Target(path.stem, path, _steps(specs, outputs), np.iinfo(np.int64).max, decoding=True)
    named = {d for t in tensors for d in t.shape if isinstance(d, str)}
    unknown = sorted(dims.keys() - named)
    if unknown:
        listed = ", ".join(sorted(named)) or "none"
        raise InputError(f"--dim: {unknown[0]!r} is no dimension of {path}; its named dimensions are {listed}")
    has_length = any(_role(d, axis) == "sequence" for t in tensors for axis, d in enumerate(t.shape) if d not in dims)

    def feeds(batch: int, length: int | None) -> dict[str, Array]:
        sizes = {"batch": batch, "sequence": length}
        return {tensor.name: _tensor(tensor, dims, sizes, path) for tensor in tensors}

    feeds(1, LENGTH)  # what is not known is told before anything is timed
    return Target(path.stem, path, feeds, np.iinfo(np.int64).max if has_length else None)


def _tensor(tensor: ort.NodeArg, dims: Mapping[str, int], sizes: Mapping[str, int | None], path: Path) -> Array:
    shape = []
    for axis, dim in enumerate(tensor.shape):
        size = dim if isinstance(dim, int) else dims.get(dim) or sizes.get(_role(dim, axis))
        if size is None:
            raise InputError(
                f"{path}: the size of dimension {dim or axis!r} of the input {tensor.name!r} is not known; "
                f"give it: --dim {dim or 'NAME'}=N"
            )
        shape.append(size)
    if tensor.type in _INTEGERS:
        # Ones are valid everywhere: as a token, as a place, and as a mask that hides nothing.
        return np.ones(shape, _INTEGERS[tensor.type])
    if tensor.type not in _DTYPES:
        raise InputError(f"{path}: the input {tensor.name!r} is a {tensor.type}, which cannot be made up for timing")
    return np.random.default_rng(0).normal(size=shape).astype(_DTYPES[tensor.type])


def _role(dim: int | str | None, axis: int) -> str:
    """What a dimension is: its name says so, and a first one without a telling name is the batch."""
    name = str(dim).lower()
    if name in _SEQUENCE:
        return "sequence"
    return "batch" if name in _BATCH or (axis == 0 and not isinstance(dim, int)) else ""
