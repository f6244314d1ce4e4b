"""Make the variants of a graph, score them on the same rows, time them in one interleaved run, and choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from tledge import plugins
from tledge.artifacts import Graph, LatencyRatio, TensorSpec, Variant
from tledge.errors import QuantizeError, RecipeError
from tledge.evaluate import Evaluation
from tledge.progress import Progress, silent
from tledge.quantize.choose import Limits, choose

SCHEMES = "tledge.quantize.schemes"

Score = Callable[[Path, str], Evaluation]
"""A graph's file and a name to show, to its evaluation on the validation rows."""
Time = Callable[[Mapping[str, Path]], Mapping[str, tuple[float, LatencyRatio | None]]]
"""Files by variant name to median milliseconds and the paired ratio to fp32."""


def run(
    fp32: Graph,
    folder: Path,
    *,
    schemes: Sequence[str],
    score: Score,
    time: Time,
    time_at: str,
    limits: Limits,
    n_calibration: int,
    progress: Progress = silent,
) -> tuple[Variant, ...]:
    """Every variant, fp32 first, scored, timed and judged.

    Args:
        fp32: the exported graph, whose file lies in `folder` under its own name.
        folder: where the variants' files are written, as `model_SUFFIX.onnx`.
        schemes: names of schemes.
        score: scores a graph on the validation rows.
        time: times all graphs interleaved.
        time_at: the setting of `time`, in words.
        limits: the budget.
        n_calibration: how many calibration rows there are.
        progress: shown by schemes.

    Raises:
        RecipeError: an unknown scheme, or one that needs calibration rows where there are none.
        QuantizeError: a scheme fails on this graph, or nothing keeps the budget.
    """
    modules = {scheme: _scheme(scheme, n_calibration) for scheme in schemes}  # a wrong name fails before any work
    variants = [Variant(name="fp32", scheme="fp32", graph=fp32)]
    with progress("Quantizing", total=len(schemes)) as advance:
        for scheme, module in modules.items():
            variants.append(_make(scheme, module, folder / fp32.path))
            advance(1)
    evaluations = {v.name: score(folder / v.graph.path, v.name) for v in variants}
    timings = time({v.name: folder / v.graph.path for v in variants})
    reference = evaluations["fp32"].decisions
    measured = [
        dataclasses.replace(
            variant,
            metrics=evaluations[variant.name].metrics,
            agreement=_agreement(evaluations[variant.name].decisions, reference),
            latency_ms=timings[variant.name][0],
            latency_at=time_at,
            against_fp32=timings[variant.name][1],
        )
        for variant in variants
    ]
    return choose(measured, limits)


def describe(path: Path) -> Graph:
    """What the graph in a file takes and gives, with its size; the path is the file's name alone."""
    model = onnx.load(path, load_external_data=False)
    data = path.with_name(path.name + ".data")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return Graph(
        path=path.name,
        size_bytes=path.stat().st_size + (data.stat().st_size if data.exists() else 0),
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


def _make(scheme: str, module: ModuleType, source: Path) -> Variant:
    target = source.with_name(f"{source.stem}_{module.SUFFIX}.onnx")
    try:
        module.apply(source, target)
    except Exception as error:  # the quantizers raise whatever their parts raise
        first = str(error).strip().partition("\n")[0]
        raise QuantizeError(
            f"quantize: scheme {scheme} fails on this graph: {type(error).__name__}: {first[:300]}; "
            "remove it from quantize.schemes"
        ) from error
    return Variant(name=scheme, scheme=scheme, graph=describe(target))


def _agreement(decisions: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    same = decisions == reference
    return float(np.mean(same if same.ndim == 1 else same.all(axis=1)))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
    return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)
