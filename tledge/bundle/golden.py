"""Golden vectors: inputs and outputs stored in the bundle, so that a device can test itself.

The values, sentences or pictures, are the same for every bundle and nobody's data. Each goes through the model alone,
as on a device, and once all of them in one batch (padded, for sentences), unless the graph takes one image at a time.
Stored are the pictures, the input tensors, each variant's outputs on the machine that made the bundle, and torch's
outputs where they are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tledge.bundle.manifest import Golden
from tledge.errors import BundleError, InputError
from tledge.inputs import Input

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
"""One pass of a model: input tensors by name to output tensors by name."""

FILE = "golden.safetensors"
REFERENCE = "torch"

# Shares of the largest golden output. The int8 kernels of other processors round differently.
_TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2}
_QUANTIZED_TOLERANCE = 5e-2
_FLOOR = 1e-4  # what parity allows by default where outputs are near zero
_PIXEL_TOLERANCE = 1e-5  # processors add and multiply float32 in their own ways; integers are the same everywhere
_BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Vectors:
    """Of each case the raw values, the inputs by name, and the outputs by source (`torch` or a variant) and name."""

    values: Mapping[str, Sequence[Any]]
    inputs: Mapping[str, Mapping[str, Array]]
    outputs: Mapping[str, Mapping[str, Mapping[str, Array]]]


def tolerance(scheme: str) -> float:
    """How far a graph's outputs may be from the stored ones, as a share of the largest stored one."""
    return _TOLERANCE.get(scheme, _QUANTIZED_TOLERANCE)


def has_reference(vectors: Vectors) -> bool:
    """Whether torch's outputs are stored."""
    return all(REFERENCE in by_source for by_source in vectors.outputs.values())


def make(
    path: Path, encoder: Input, runs: Mapping[str, Run], reference: Run | None, schemes: Mapping[str, str]
) -> Golden:
    """Run the preprocessing's examples through every variant and write the golden vectors to a file.

    Args:
        path: The file to write.
        encoder: The bundle's preprocessing. A sentence that it refuses, such as the empty one for a tokenizer
            without special tokens, is left out.
        runs: One pass of each variant, by the variant's name.
        reference: One pass of the torch model, if there is one.
        schemes: The scheme of each variant, by the variant's name.

    Raises:
        BundleError: a variant gives something that is not a number, or fp32 is not what torch gives.
    """
    accepted = [value for value in encoder.examples() if _is_accepted(encoder, value)]
    pictures = [value for value in accepted if isinstance(value, np.ndarray)]
    sentences = () if pictures else tuple(accepted)
    cases = _cases(accepted, batch=encoder.batches)
    inputs = {case: encoder.encode(values) for case, values in cases.items()}
    sources = dict(runs) if reference is None else {REFERENCE: reference, **runs}
    outputs = {case: {name: run(tensors) for name, run in sources.items()} for case, tensors in inputs.items()}
    vectors = Vectors(cases, inputs, outputs)
    shares = {name: tolerance(scheme) for name, scheme in schemes.items()}
    golden = Golden(path.name, sentences, shares, images=len(pictures))
    for name, scheme in schemes.items():
        problems = _compare(vectors, name, {case: outputs[case][name] for case in outputs}, name, golden)
        if reference is not None and scheme == "fp32":
            problems += check_outputs(vectors, golden, name, runs[name], source=REFERENCE)
        if problems:
            raise BundleError(f"the variant {name} fails its own golden vectors: {problems[0]}")
    save_file({key: np.ascontiguousarray(tensor) for key, tensor in _to_file(vectors, golden).items()}, str(path))
    return golden


def read(folder: Path, golden: Golden) -> Vectors:
    """The golden vectors of a bundle.

    Raises:
        BundleError: their file is missing or damaged.
    """
    path = folder / golden.file
    try:
        tensors = load_file(str(path))
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing") from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path} is damaged: {str(error).partition(chr(10))[0]}") from error
    return _from_file(tensors, golden, path)


def check_inputs(vectors: Vectors, encoder: Input) -> list[str]:
    """What preprocessing gives differently from the stored tensors, one line a value; empty when all is equal."""
    problems = []
    for case, values in vectors.values.items():
        try:
            tensors = encoder.encode(values)
        except InputError as error:
            problems.append(f"{_shown(case, values)}: {error}")
            continue
        stored = vectors.inputs[case]
        if stored.keys() != tensors.keys():
            problems.append(f"{_shown(case, values)}: expected {', '.join(stored)}, got {', '.join(tensors)}")
            continue
        different = [name for name in stored if not _same(stored[name], tensors[name])]
        problems += [f"{_shown(case, values)}: {name} differs" for name in different]
    return problems


def check_outputs(vectors: Vectors, golden: Golden, variant: str, run: Run, *, source: str | None = None) -> list[str]:
    """Where a variant is further from the stored outputs than its tolerance, one line a case; empty when nowhere.

    A decision can then differ only where the model itself was undecided: within twice the tolerance.

    Args:
        vectors: The stored tensors.
        golden: The tolerances.
        variant: The variant's name.
        run: One pass of the variant, here and now.
        source: Whose stored outputs to compare with: by default the variant's own, or `torch`.
    """
    try:
        got = {case: run(tensors) for case, tensors in vectors.inputs.items()}
    except (BundleError, InputError) as error:
        return [str(error)]
    return _compare(vectors, variant, got, source or variant, golden)


def _compare(
    vectors: Vectors, variant: str, got: Mapping[str, Mapping[str, Array]], source: str, golden: Golden
) -> list[str]:
    if any(source not in vectors.outputs[case] for case in got):
        return [f"no golden outputs of {source} are stored"]
    if variant not in golden.tolerance:
        return [f"no tolerance is written down for {variant}"]
    share, problems = golden.tolerance[variant], []
    for name in vectors.outputs[next(iter(got))][source]:
        expected = {case: vectors.outputs[case][source].get(name) for case in got}
        scale = max(float(np.abs(array).max(initial=0)) for array in expected.values() if array is not None)
        allowed = share * scale + _FLOOR
        for case, array in expected.items():
            problem = _distance(array, got[case].get(name), allowed)
            if problem:
                problems.append(f"{_shown(case, vectors.values[case])}: {name} {problem}")
    return problems


def _distance(expected: Array | None, got: Array | None, allowed: float) -> str:
    if expected is None or got is None:
        return "is missing"
    if expected.shape != got.shape:
        return f"has the shape {got.shape}, expected {expected.shape}"
    worst = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max(initial=0))
    if worst <= allowed:  # false for a NaN too
        return ""
    return f"is off by {worst:.3g}, allowed {allowed:.3g}"


def _same(stored: Array, got: Array) -> bool:
    if stored.shape != got.shape or stored.dtype != got.dtype:
        return False
    exact = not np.issubdtype(stored.dtype, np.floating)
    return np.array_equal(stored, got) if exact else np.allclose(stored, got, rtol=0, atol=_PIXEL_TOLERANCE)


def _to_file(vectors: Vectors, golden: Golden) -> dict[str, Array]:
    """Tensors by their name in the file; of pictures themselves too, and no tensors of their batch."""
    alone = [case for case in vectors.values if case != _BATCH]
    with_inputs = alone if golden.images else list(vectors.values)
    tensors = {f"{case}.input.{name}": t for case in with_inputs for name, t in vectors.inputs[case].items()}
    if golden.images:
        tensors |= {f"{case}.image": vectors.values[case][0] for case in alone}
    for case, by_source in vectors.outputs.items():
        for source, by_name in by_source.items():
            tensors |= {f"{case}.output.{source}.{name}": tensor for name, tensor in by_name.items()}
    return tensors


def _from_file(tensors: Mapping[str, Array], golden: Golden, path: Path) -> Vectors:
    known = [str(i) for i in range(golden.images or len(golden.sentences))]
    pictures: dict[str, Array] = {}
    inputs: dict[str, dict[str, Array]] = {case: {} for case in [*known, _BATCH]}
    outputs: dict[str, dict[str, dict[str, Array]]] = {case: {} for case in inputs}
    for key, tensor in tensors.items():
        case, _, rest = key.partition(".")
        kind, _, name = rest.partition(".")
        if case not in inputs or kind not in {"input", "output", "image"}:
            raise BundleError(f"{path} is damaged: it holds {key!r}, which belongs to none of the bundle's examples")
        if kind == "image":
            pictures[case] = tensor
        elif kind == "input":
            inputs[case][name] = tensor
        else:
            source, _, output = name.partition(".")
            outputs[case].setdefault(source, {})[output] = tensor
    if not golden.images:
        return Vectors(_cases(golden.sentences, batch=True), inputs, outputs)
    missing = [case for case in known if case not in pictures or not inputs[case]]
    if missing:
        raise BundleError(f"{path} is damaged: it lacks the image {missing[0]} or its tensors")
    batch = bool(outputs[_BATCH])
    if batch:
        inputs[_BATCH] = {name: np.concatenate([inputs[case][name] for case in known]) for name in inputs[known[0]]}
    else:
        del inputs[_BATCH], outputs[_BATCH]
    return Vectors(_cases([pictures[case] for case in known], batch=batch), inputs, outputs)


def _cases(values: Sequence[Any], *, batch: bool) -> dict[str, list[Any]]:
    """Each value alone, under its number, and all of them together."""
    alone: dict[str, list[Any]] = {str(i): [value] for i, value in enumerate(values)}
    return {**alone, _BATCH: list(values)} if batch else alone


def _is_accepted(encoder: Input, value: object) -> bool:
    try:
        encoder.encode([value])
    except InputError:
        return False
    return True


def _shown(case: str, values: Sequence[Any]) -> str:
    if isinstance(values[0], np.ndarray):
        return "all images together" if case == _BATCH else f"image {case}"
    if case == _BATCH:
        return "all sentences together"
    text = repr(values[0])
    return f"sentence {case} ({text if len(text) <= 32 else text[:29] + '...'})"
