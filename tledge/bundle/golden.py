"""Golden vectors: inputs and outputs stored in the bundle, so that a device can test itself.

The values, sentences or pictures, are the same for every bundle and nobody's data. Each goes through the model alone,
as on a device, and once all of them in one batch (padded, for sentences), unless the graph takes one image at a time.
Stored are the pictures, the input tensors, each variant's outputs on the machine that made the bundle, and torch's
outputs where they are known. Language models go on with the first sentences too; see `golden_language`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from tledge.artifacts import read_file
from tledge.bundle.golden_language import CONTINUATION
from tledge.bundle.manifest import Golden
from tledge.errors import BundleError, InputError
from tledge.inputs import Input

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
"""One pass of a model: input tensors by name to output tensors by name."""

FILE = "golden.safetensors"
REFERENCE = "torch"

# Shares of the largest golden output. Behind each the furthest that a tiny network with random weights was off on an
# emulated Cortex-A72 or A76, of the outputs stored on x86; `benchmarks/golden_distance.py` measures it. float32 differs
# in its last bits from one architecture to the next, and what rounds coarsely makes a whole step of that now and then.
_TOLERANCE = {
    "fp32": 1e-3,  # 0.000002
    "fp16": 3e-2,  # 0.013 where products are computed in float16, 0.0009 where float16 is widened
    "int8_dynamic": 5e-2,  # 0.023: some steps of the activations' 8 bits
    "int8_static": 5e-2,
    "int8_weight_only": 0.15,  # 0.067: not every processor rounds the inputs of these products to 8 bits
    "int4_weight_only": 0.15,  # 0.067
}
_QUANTIZED_TOLERANCE = 5e-2  # of any other scheme
# One flipped rounding in the first layer may become a large share of the outputs behind the last one, and how large
# depends on the network: in MiniLM with its last blocks trained on film reviews 0.059, where quantizing took outputs
# 0.18 from fp32's. So a quantized graph may be as far from what it gave as it was from fp32, up to this much.
_LARGEST_TOLERANCE = 0.5
_FLOOR = 1e-4  # what parity allows by default where outputs are near zero
_PIXEL_TOLERANCE = 1e-5  # processors add and multiply float32 in their own ways; integers are the same everywhere
_LARGEST = 256 * 1024 * 1024
"""Bytes of golden vectors at most; two pictures of 2048 x 2048 pixels are 100 MB."""
_LONGEST = 600
"""Characters of a tensor's name at most: it has the variant's in it."""
_BATCH = "batch"
_GOES_ON = "-continued"
_CONTINUED = 3
"""Sentences that a language model goes on with."""


Outputs = Mapping[str, Mapping[str, Array]]
"""Output tensors by case and name."""


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
    path: Path,
    encoder: Input,
    runs: Mapping[str, Run],
    reference: Run | None,
    schemes: Mapping[str, str],
    go_on: Callable[[Run, Mapping[str, Array]], Array] | None = None,
) -> Golden:
    """Run the preprocessing's examples through every variant and write the golden vectors to a file.

    Args:
        path: The file to write.
        encoder: The bundle's preprocessing. A sentence that it refuses, such as the empty one for a tokenizer
            without special tokens, is left out.
        runs: One pass of each variant, by the variant's name.
        reference: One pass of the torch model, if there is one.
        schemes: The scheme of each variant, by the variant's name.
        go_on: For language models: the tokens that a run goes on with after one sentence's tensors.

    Raises:
        BundleError: a variant gives something that is not a number, or fp32 is not what torch gives.
    """
    accepted = [value for value in encoder.examples() if _is_accepted(encoder, value)]
    pictures = [value for value in accepted if isinstance(value, np.ndarray)]
    texts = () if pictures else tuple((value,) if isinstance(value, str) else tuple(value) for value in accepted)
    continued = 0 if go_on is None else min(_CONTINUED, len(texts))
    cases = _cases(accepted, batch=encoder.batches, continued=continued)
    inputs = {case: encoder.encode(values) for case, values in cases.items()}
    sources = dict(runs) if reference is None else {REFERENCE: reference, **runs}
    for case, tensors in inputs.items():
        if go_on is not None and case.endswith(_GOES_ON):
            tensors[CONTINUATION] = go_on(next(iter(sources.values())), tensors)
    outputs = {case: {name: run(tensors) for name, run in sources.items()} for case, tensors in inputs.items()}
    vectors = Vectors(cases, inputs, outputs)
    shares = _tolerances(outputs, schemes)
    golden = Golden(path.name, shares, texts, images=len(pictures), continued=continued)
    for name, scheme in schemes.items():
        got = {case: outputs[case][name] for case in outputs}
        problems = check_outputs(vectors, golden, name, got)
        if reference is not None and scheme == "fp32":
            problems += check_outputs(vectors, golden, name, got, source=REFERENCE)
        if problems:
            raise BundleError(f"the variant {name} fails its own golden vectors: {problems[0]}")
    save_file({key: np.ascontiguousarray(tensor) for key, tensor in _to_file(vectors, golden).items()}, str(path))
    return golden


def _tolerances(outputs: Mapping[str, Outputs], schemes: Mapping[str, str]) -> dict[str, float]:
    """By variant how far its outputs may be off elsewhere: its scheme's share, or what quantizing cost if more.

    What it cost is the distance from fp32's outputs, or from torch's where the chosen variant is alone.
    """
    known = next(iter(outputs.values()))
    exact = next((name for name in (*(n for n, s in schemes.items() if s == "fp32"), REFERENCE) if name in known), None)
    shares = {}
    for name, scheme in schemes.items():
        lost = 0.0
        if exact is not None and scheme != "fp32":
            of = {case: by_source[name] for case, by_source in outputs.items()}
            lost = _furthest(of, {case: by_source[exact] for case, by_source in outputs.items()})
        shares[name] = max(tolerance(scheme), min(lost, _LARGEST_TOLERANCE))
    return shares


def _furthest(ours: Outputs, others: Outputs) -> float:
    """The largest difference of outputs as a share of the largest of ours; whole numbers do not count."""
    shares = [0.0]
    for name, first in next(iter(ours.values())).items():
        if np.issubdtype(first.dtype, np.floating):
            largest = max(float(np.abs(by_name[name]).max(initial=0)) for by_name in ours.values())
            off = max(
                float(np.abs(by_name[name] - others[case][name]).max(initial=0)) for case, by_name in ours.items()
            )
            shares.append(off / largest if largest > 0 else 0.0)
    return max(shares)


def read(folder: Path, golden: Golden) -> Vectors:
    """The golden vectors of a bundle.

    Raises:
        BundleError: their file is missing or damaged.
    """
    path = folder / golden.file
    try:
        return _from_file(load(read_file(path, _LARGEST)), golden, path)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is damaged: {str(error).partition(chr(10))[0][:200]}") from error


def check_inputs(vectors: Vectors, encoder: Input) -> list[str]:
    """What preprocessing gives differently from the stored tensors, one line a value; empty when all is equal."""
    problems = []
    for case, values in vectors.values.items():
        try:
            tensors = encoder.encode(values)
        except InputError as error:
            problems.append(f"{_shown(case, values)}: {error}")
            continue
        stored = {name: tensor for name, tensor in vectors.inputs[case].items() if name != CONTINUATION}
        if stored.keys() != tensors.keys():
            problems.append(f"{_shown(case, values)}: expected {', '.join(stored)}, got {', '.join(tensors)}")
            continue
        different = [name for name in stored if not _same(stored[name], tensors[name])]
        problems += [f"{_shown(case, values)}: {name} differs" for name in different]
    return problems


def outputs_of(vectors: Vectors, run: Run) -> Outputs:
    """What a variant gives here and now in every case.

    Raises:
        BundleError, InputError: it cannot run.
    """
    try:
        return {case: run(tensors) for case, tensors in vectors.inputs.items()}
    except (IndexError, KeyError, TypeError, ValueError) as error:  # stored tensors of strange shapes
        raise BundleError(f"the golden vectors do not fit the graph: {error}") from error


def require_comparable(vectors: Vectors, source: str, got: Outputs) -> None:
    """Refuse outputs that are not numbers of the names and shapes that are stored of a source.

    Raises:
        BundleError: a case lacks an output, or one is of another shape or no number.
    """
    for case, outputs in got.items():
        for name, stored in vectors.outputs[case].get(source, {source: None}).items():
            array = outputs.get(name)
            if stored is None or array is None or array.shape != stored.shape or not _numbers(array, stored):
                differs = f"expected {_described(stored)} of {name!r}, got {_described(array)}"
                raise BundleError(f"golden case {case}: {differs}; check the bundle with: tledge verify")


def _numbers(*arrays: Array) -> bool:
    return all(array.dtype.kind in "fiu" for array in arrays)


def _described(array: Array | None) -> str:
    return "nothing" if array is None else f"{array.dtype} {array.shape}"


def check_outputs(
    vectors: Vectors, golden: Golden, variant: str, got: Outputs, *, source: str | None = None
) -> list[str]:
    """Where a variant is further from the stored outputs than its tolerance, one line a case; empty when nowhere.

    A decision can then differ only where the model itself was undecided: within twice the tolerance. So whole numbers,
    which are the predictions of language models, are not compared.

    Args:
        vectors: The stored tensors.
        golden: The tolerances.
        variant: The variant's name.
        got: The variant's outputs here and now.
        source: Whose stored outputs to compare with: by default the variant's own, or `torch`.
    """
    source = source or variant
    if any(source not in vectors.outputs[case] for case in got):
        return [f"no golden outputs of {source} are stored"]
    if variant not in golden.tolerance:
        return [f"no tolerance is written down for {variant}"]
    share, problems = golden.tolerance[variant], []
    for name in vectors.outputs[next(iter(got))][source]:
        expected = {case: vectors.outputs[case][source].get(name) for case in got}
        if all(_is_whole(expected[case]) and _is_whole(got[case].get(name)) for case in got):
            continue
        scale = max(float(np.abs(array).max(initial=0)) for array in expected.values() if array is not None)
        allowed = share * scale + _FLOOR if np.isfinite(scale) else 0.0
        for case, array in expected.items():
            problem = _distance(array, got[case].get(name), allowed)
            if problem:
                problems.append(f"{_shown(case, vectors.values[case])}: {name} {problem}")
    return problems


def same_decisions(vectors: Vectors, variant: str, got: Outputs) -> str:
    """How many stored predictions are the same here, such as `57 of 58 tokens the same`; empty if none are stored."""
    same = total = 0
    for case, outputs in got.items():
        for name, stored in vectors.outputs[case].get(variant, {}).items():
            here = outputs.get(name)
            if here is not None and _is_whole(stored) and _is_whole(here) and stored.shape == here.shape:
                same, total = same + int((stored == here).sum()), total + stored.size
    return f"{same} of {total} tokens the same" if total else ""


def _is_whole(array: Array | None) -> bool:
    return array is not None and np.issubdtype(array.dtype, np.integer)


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
    known = [str(i) for i in range(golden.images or len(golden.values))]
    cases = [] if golden.images else list(_cases(golden.examples, batch=True, continued=golden.continued))
    pictures: dict[str, Array] = {}
    inputs: dict[str, dict[str, Array]] = {case: {} for case in cases or [*known, _BATCH]}
    outputs: dict[str, dict[str, dict[str, Array]]] = {case: {} for case in inputs}
    for key, tensor in tensors.items():
        case, _, rest = key.partition(".")
        part, _, name = rest.partition(".")
        if (
            case not in inputs
            or part not in {"input", "output", "image"}
            or not name.isprintable()
            or len(name) > _LONGEST
        ):
            raise BundleError(
                f"{path} is damaged: it holds {key!r:.80}, which belongs to none of the bundle's examples"
            )
        if part == "image":
            pictures[case] = tensor
        elif part == "input":
            inputs[case][name] = tensor
        else:
            source, _, output = name.partition(".")
            outputs[case].setdefault(source, {})[output] = tensor
    if not golden.images:
        return Vectors(_cases(golden.examples, batch=True, continued=golden.continued), inputs, outputs)
    missing = [case for case in known if case not in pictures or not inputs[case]]
    if missing:
        raise BundleError(f"{path} is damaged: it lacks the image {missing[0]} or its tensors")
    batch = bool(outputs[_BATCH])
    if batch:
        inputs[_BATCH] = {name: np.concatenate([inputs[case][name] for case in known]) for name in inputs[known[0]]}
    else:
        del inputs[_BATCH], outputs[_BATCH]
    return Vectors(_cases([pictures[case] for case in known], batch=batch), inputs, outputs)


def _cases(values: Sequence[Any], *, batch: bool, continued: int = 0) -> dict[str, list[Any]]:
    """Each value alone, under its number, all of them together, and the first ones again, to go on with."""
    cases: dict[str, list[Any]] = {str(i): [value] for i, value in enumerate(values)}
    if batch:
        cases[_BATCH] = list(values)
    return cases | {f"{i}{_GOES_ON}": [value] for i, value in enumerate(values[:continued])}


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
    what = f"sentence {case.removesuffix(_GOES_ON)}{' continued' if case.endswith(_GOES_ON) else ''}"
    return f"{what} ({text if len(text) <= 32 else text[:29] + '...'})"
