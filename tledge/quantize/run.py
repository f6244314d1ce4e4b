"""Make the variants of a graph, score them on the same rows, time them in one interleaved run, and choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import onnx

from tledge import graph_file, overflow, plugins, processor
from tledge.artifacts import Candidate, Exactness, Graph, TensorSpec, Variant
from tledge.errors import QuantizeError, RecipeError, StorageError
from tledge.progress import Progress, silent
from tledge.quantize.choose import Limits, choose
from tledge.quantize.search import Calibration, Compare, Score, Scored, Time, search, told
from tledge.recipe.schema import Quantize

SCHEMES = "tledge.quantize.schemes"


def run(
    fp32: Graph,
    folder: Path,
    *,
    schemes: Sequence[str],
    settings: Quantize,
    calibration: Calibration,
    n_calibration: int,
    score: Score,
    score_exactly: Score | None = None,
    compare: Compare,
    time: Time,
    time_at: str,
    limits: Limits,
    progress: Progress = silent,
) -> tuple[tuple[Variant, ...], tuple[Candidate, ...]]:
    """Every variant, fp32 first, scored, timed and judged; and what schemes with a choice tried.

    Args:
        fp32: the exported graph, whose file lies in `folder` under its own name.
        folder: where the variants' files are written, as `model_SUFFIX.onnx`.
        schemes: names of schemes.
        settings: the recipe's `quantize` section, which says what schemes with a choice may try.
        calibration: gives the calibration rows anew at each call, one at a time, each as the graph's input tensors.
        n_calibration: how many calibration rows there are.
        score: scores a graph on the validation rows.
        score_exactly: the same in exact integer arithmetic; `None` where this processor's is exact anyway.
        compare: compares the metric of a variant with fp32's on those rows.
        time: times all graphs interleaved; called once for the variants, and before that for candidates.
        time_at: the setting of `time`, in words.
        limits: the budget.
        progress: shown by schemes.

    Raises:
        RecipeError: an unknown scheme, or one that needs calibration rows where there are none.
        QuantizeError: a scheme fails on this graph, or nothing keeps the budget.
    """
    modules = {scheme: _scheme(scheme, n_calibration) for scheme in schemes}  # a wrong name fails before any work
    source = folder / fp32.path
    variants = [Variant(name="fp32", scheme="fp32", graph=fp32)]
    evaluations = {"fp32": score(source, "fp32")}
    candidates: list[Candidate] = []
    for scheme, module in modules.items():
        target = source.with_name(f"{source.stem}_{module.SUFFIX}.onnx")
        made: dict[str, str] = {}
        fixed = {"overflow_fix": settings.overflow_fix} if module.TAKES_OVERFLOW_FIX else {}
        if hasattr(module, "candidates"):
            evaluations[scheme], tried = search(
                scheme,
                module,
                source,
                target,
                module.candidates(settings),
                fixed=fixed,
                calibration=calibration,
                fp32=evaluations["fp32"],
                score=score,
                compare=compare,
                time=time,
                limits=limits,
                progress=progress,
            )
            candidates += tried
            made = {key: str(value) for key, value in next(each for each in tried if each.picked).settings.items()}
        else:
            with progress(f"Quantizing with {scheme}", total=1) as advance:
                _make(scheme, module, source, target, calibration, fixed)
                advance(1)
            evaluations[scheme] = score(target, scheme)
        if module.CALIBRATES:
            made |= {"calibration_rows": str(n_calibration)}
        variants.append(Variant(name=scheme, scheme=scheme, graph=describe(target), settings=made | fixed))
    here = processor.here()
    overflows = {v.name: overflow.check(folder / v.graph.path) for v in variants}
    timings = time({v.name: folder / v.graph.path for v in variants})
    measured = [
        dataclasses.replace(
            variant,
            metrics=evaluations[variant.name].metrics,
            agreement=_share(evaluations[variant.name].agree(evaluations["fp32"])),
            latency_ms=timings[variant.name][0],
            latency_at=time_at,
            against_fp32=timings[variant.name][1],
            metric_drop=None if variant.scheme == "fp32" else compare(evaluations[variant.name], evaluations["fp32"]),
            overflow=overflows[variant.name],
            exact=_exactness(folder / variant.graph.path, variant.name, evaluations[variant.name], score_exactly)
            if score_exactly is not None and overflows[variant.name].products
            else None,
            processor=here,
        )
        for variant in variants
    ]
    return choose(measured, limits), tuple(candidates)


def describe(path: Path) -> Graph:
    """What the graph in a file takes and gives, with its size; the path is the file's name alone."""
    model = onnx.load(path, load_external_data=False)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return Graph(
        path=path.name,
        size_bytes=graph_file.size_bytes(path),
        opset=opsets[""],
        ir_version=model.ir_version,
        inputs=tuple(_spec(value) for value in model.graph.input),
        outputs=tuple(_spec(value) for value in model.graph.output),
    )


def _scheme(scheme: str, n_calibration: int) -> ModuleType:
    module = plugins.load(SCHEMES, scheme)
    if module.CALIBRATES and n_calibration == 0:
        raise RecipeError(f"quantize.schemes: {scheme} needs calibration rows; set data.calibration, 200 for example")
    return module


def _make(
    scheme: str,
    module: ModuleType,
    source: Path,
    target: Path,
    calibration: Calibration,
    fixed: Mapping[str, str],
) -> None:
    try:
        module.apply(source, target, **({"calibration": calibration} if module.CALIBRATES else {}), **fixed)
    except QuantizeError as error:
        raise QuantizeError(f"quantize: scheme {scheme} fails on this graph: {error}") from error
    except Exception as error:  # the quantizers raise whatever their parts raise
        if (full := StorageError.of(error)) is not None:
            raise full from error
        raise QuantizeError(
            f"quantize: scheme {scheme} fails on this graph: {told(error)}; remove it from quantize.schemes"
        ) from error


def _exactness(path: Path, name: str, here: Scored, score_exactly: Score) -> Exactness:
    """How the outputs of a graph with integer products compare with exact arithmetic."""
    with _unshared(path) as own:
        exact = score_exactly(own, f"{name} exactly")
    numbers = [name for name, array in exact.records.items() if array.dtype.kind == "f"]
    apart = [
        np.abs(here.records[name].astype(np.float64) - exact.records[name]).reshape(len(exact.records[name]), -1).max(1)
        for name in numbers
    ]
    largest, same = np.max(apart, axis=0), here.agree(exact)
    answers = 0 if same is None else int(np.sum(~same))
    return Exactness(len(largest), int(np.sum(largest != 0)), answers, float(largest.max(initial=0)))


@contextmanager
def _unshared(path: Path) -> Iterator[Path]:
    """A graph in which each integer product has int8 weights of its own, beside the one given; that one if it has.

    In exact arithmetic onnxruntime 1.31 makes uint8 weights of int8 ones for each product and gives them one name for
    each tensor, so that it cannot open a graph whose products share one, as those of a network with one block for all
    layers.
    """
    model = onnx.load(path, load_external_data=False)
    taken: set[str] = set()
    copies = 0
    for view in overflow.views(model):
        for product in overflow.find(view):
            if product.tensor is None or product.weight.node is not product.node:
                continue
            if product.weight.name in taken:
                for slot in (product.weight, product.zero):
                    if slot is not None and slot.name in view.stored:
                        copies += 1
                        tensor = view.graph.initializer.add()
                        tensor.CopyFrom(view.stored[slot.name])
                        tensor.name = f"{slot.name}_{copies}"
                        slot.node.input[slot.index] = tensor.name
            taken.add(product.weight.name)
    if not copies:
        yield path
        return
    own = path.with_name(f".{path.stem}_unshared.onnx")
    try:
        onnx.save(model, own)
        yield own
    finally:
        own.unlink(missing_ok=True)


def _share(same: npt.NDArray[np.bool_] | None) -> float | None:
    return None if same is None else float(np.mean(same))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
    return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)
