"""The ladder of students: what untrained candidates cost as graphs on this machine, and which keep a budget.

Weights do not change what a run costs, so that candidates are measured before any of them is trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from tledge import plugins
from tledge.artifacts import Graph, Latency, StudentCandidate, TensorSpec
from tledge.bench import latency, setting
from tledge.bench.compare import Setting
from tledge.bench.table import megabytes, milliseconds
from tledge.errors import QuantizeError, RecipeError, TrainError
from tledge.evaluate import Array
from tledge.progress import Progress, silent
from tledge.recipe.distillation import StudentBudget
from tledge.runtime.session import bound_run, open_session

SCHEMES = "tledge.quantize.schemes"
FP32 = "fp32"
PERCENTILE = 95.0
OPSET = 20
AT_ONCE = 300_000_000
"""Parameters of the candidates that are timed in turn in one run; their sessions are in memory together."""
SINGLE_FILE_LIMIT = 1_900_000_000
"""Bytes of weights up to which a graph is one file."""
_MEGABYTE = 1e6

ExportGraph = Callable[[Any, Path], Graph]
Feeds = Callable[[Graph, Setting], Mapping[str, Array]]


class Candidate(Protocol):
    """A student that is made when it is its turn, such as a `model.student.Plan`."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    @property
    def make(self) -> Callable[[], Any]: ...


@dataclass(frozen=True, slots=True)
class Timed:
    """One graph of a model: the scheme that made it (`fp32` for none), its size and its latency."""

    scheme: str
    size_bytes: int
    latency: Latency


def measure(
    candidates: Sequence[Candidate],
    budget: StudentBudget,
    *,
    export_to: Path,
    schemes: Sequence[str],
    at: Setting,
    export_graph: ExportGraph | None = None,
    feeds: Feeds | None = None,
    duration_s: float = 120.0,
    progress: Progress = silent,
) -> tuple[StudentCandidate, ...]:
    """What each candidate costs, in their order, judged against the budget.

    Each is exported as it is, and schemes that need no calibration are applied. The latency is the 95th percentile of a
    run, an upper bound with 99 % confidence. Told is the fastest graph that keeps the whole budget, or where none does
    the one that comes nearest.

    Args:
        candidates: untrained students; a name stands for one.
        budget: of the recipe.
        export_to: a folder for graphs, which are deleted afterwards.
        schemes: the recipe's; those that need calibration are passed over.
        at: batch, length, threads and provider; for language models the length is that of the past of one decoding
            step.
        export_graph: writes a model's graph and tells of it; by default `write_graph`.
        feeds: tensors of one run of a graph; by default `one_run`.
        duration_s: time limit of one interleaved run, in seconds.
        progress: shows the work.

    Raises:
        ExportError, QuantizeError: no graph can be made of a candidate.
        RecipeError: a scheme is unknown, or the time is too short for the percentile.
    """
    found: list[StudentCandidate] = []
    for group in _groups(candidates):
        results = timed(
            {each.name: each.make for each in group},
            export_to=export_to,
            schemes=schemes,
            at=at,
            export_graph=export_graph,
            feeds=feeds,
            duration_s=duration_s,
            progress=progress,
        )
        found += [_judged(each, results[each.name], budget, at, duration_s) for each in group]
    return tuple(found)


def fitting(ladder: Sequence[StudentCandidate], budget: StudentBudget) -> tuple[StudentCandidate, ...]:
    """The candidates to train: those that keep the budget, the largest first, as many as it says.

    Raises:
        TrainError: none keeps it; the message names the one that comes nearest.
    """
    kept = sorted((each for each in ladder if each.fits), key=lambda each: each.parameters, reverse=True)
    if kept:
        return tuple(kept[: budget.train])
    nearest = min(ladder, key=lambda each: _excess(each.p95_ms, each.size_mb, budget))
    limits = [f"{budget.p95_ms:g} ms p95"] if budget.p95_ms is not None else []
    limits += [f"{budget.size_mb:g} MB"] if budget.size_mb is not None else []
    raise TrainError(
        f"distill.student.budget: no candidate keeps {' and '.join(limits)}: the nearest, {nearest.name}, takes "
        f"{milliseconds(nearest.p95_ms)} ms p95 and {megabytes(nearest.size_mb)} MB; widen distill.student.budget, or "
        "name other candidates in its backbones"
    )


def timed(
    makers: Mapping[str, Callable[[], Any]],
    *,
    export_to: Path,
    schemes: Sequence[str],
    at: Setting,
    export_graph: ExportGraph | None = None,
    feeds: Feeds | None = None,
    duration_s: float = 120.0,
    progress: Progress = silent,
) -> dict[str, tuple[Timed, ...]]:
    """Every graph of each model, fp32 first, all timed in turn in one run; arguments and errors as for `measure`.

    The graphs are compared with the first one.
    """
    modules = {name: plugins.load(SCHEMES, name) for name in schemes}
    applied = {name: module for name, module in modules.items() if not module.CALIBRATES}
    with tempfile.TemporaryDirectory(dir=export_to) as scratch:
        graphs: dict[tuple[str, str], tuple[Path, Graph]] = {}
        with progress("Exporting untrained students", total=len(makers)) as advance:
            for number, (name, make) in enumerate(makers.items()):
                folder = Path(scratch) / str(number)
                folder.mkdir()
                for scheme, path, graph in _graphs(make(), folder, applied, export_graph or write_graph):
                    graphs[name, scheme] = path, graph
                advance(1)
        rows = _latencies(graphs, at, feeds or one_run, duration_s, progress)
        return {
            name: tuple(
                Timed(scheme, graph.size_bytes, rows[owner, scheme])
                for (owner, scheme), (_, graph) in graphs.items()
                if owner == name
            )
            for name in makers
        }


def write_graph(model: Any, path: Path) -> Graph:
    """Write the graph of a classifier of texts or images, or of a language model, and tell of it.

    Raises:
        ExportError: the exporter cannot translate the model.
    """
    from tledge import export
    from tledge.model import student

    external = student.describe(model).size_bytes >= SINGLE_FILE_LIMIT
    example = getattr(model, "example", None)  # of a model with a fresh head
    if example is None:
        return export.export_decoder(model, path, opset=OPSET, external_data=external)
    sample = {name: tensor.cpu().numpy() for name, tensor in example(2).items()}
    return export.export(model, sample, path, opset=OPSET, external_data=external)


def one_run(graph: Graph, at: Setting) -> dict[str, Array]:
    """Tensors of one run of a graph of images, texts or a decoder, the same each time.

    A decoder gets one new token for each row after a past of the setting's length.
    """
    decodes = any(name == "past_sequence_length" for spec in graph.inputs for name in spec.shape)
    length = at.length or 1
    sizes = {
        "batch_size": at.batch,
        "sequence_length": 1 if decodes else length,
        "past_sequence_length": length,
        "total_sequence_length": length + 1,
    }
    rng = np.random.default_rng(0)
    return {spec.name: _tensor(spec, sizes, rng) for spec in graph.inputs}


def _tensor(spec: TensorSpec, sizes: Mapping[str, int], rng: np.random.Generator) -> Array:
    shape = [size if isinstance(size, int) else sizes[size] for size in spec.shape]
    if spec.dtype.startswith("float"):
        return rng.standard_normal(shape).astype(spec.dtype)
    if spec.name == "attention_mask":
        return np.ones(shape, spec.dtype)
    if spec.name == "position_ids":
        return np.full(shape, sizes["past_sequence_length"], spec.dtype)
    largest = 1 if spec.name == "token_type_ids" else 8  # any vocabulary has so many tokens
    return rng.integers(0, largest, shape).astype(spec.dtype)


def _groups(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Neighbours that are timed together, since all of their sessions fit into memory."""
    group: list[Candidate] = []
    for each in candidates:
        if group and sum(one.parameters for one in (*group, each)) > AT_ONCE:
            yield group
            group = []
        group.append(each)
    if group:
        yield group


def _graphs(
    model: Any, folder: Path, schemes: Mapping[str, ModuleType], export_graph: ExportGraph
) -> Iterator[tuple[str, Path, Graph]]:
    """The fp32 graph of a model, and one for each scheme."""
    from tledge.quantize.run import describe

    source = folder / "model.onnx"
    yield FP32, source, export_graph(model, source)
    for name, module in schemes.items():
        target = source.with_name(f"{source.stem}_{module.SUFFIX}.onnx")
        try:
            module.apply(source, target)
        except Exception as error:  # the quantizers raise whatever their parts raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise QuantizeError(
                f"quantize: scheme {name} fails on a student's graph: {reason}; remove it from quantize.schemes"
            ) from error
        yield name, target, describe(target)


def _latencies(
    graphs: Mapping[tuple[str, str], tuple[Path, Graph]],
    at: Setting,
    feeds: Feeds,
    duration_s: float,
    progress: Progress,
) -> dict[tuple[str, str], Latency]:
    """The latency of each graph; of several candidates each has tensors of its own."""
    keys = {f"{owner}, {scheme}": (owner, scheme) for owner, scheme in graphs}
    runs = {
        name: bound_run(
            open_session(graphs[key][0], provider=at.provider, threads=at.threads),
            feeds(graphs[key][1], at),
        )
        for name, key in keys.items()
    }
    first = next(iter(keys))
    samples = latency.measure(
        runs,
        reference=first,
        percentile=PERCENTILE,
        duration_s=duration_s,
        description="Timing untrained students",
        progress=progress,
    )
    return {
        key: latency.summarize(
            samples,
            candidate=name,
            reference=first,
            batch=at.batch,
            sequence=at.length,
            threads=at.threads,
            percentile=PERCENTILE,
        )
        for name, key in keys.items()
    }


def _judged(
    candidate: Candidate, graphs: Sequence[Timed], budget: StudentBudget, at: Setting, duration_s: float
) -> StudentCandidate:
    name = latency.key(PERCENTILE)
    for graph in graphs:
        if name not in graph.latency.percentiles_ms:
            raise RecipeError(
                f"bench.duration_s: {duration_s:g} s gave {graph.latency.samples} runs of {candidate.name}, but {name} "
                f"needs {graph.latency.missing[name]}; raise it"
            )
    costs = [(each.latency.percentiles_ms[name], each.size_bytes / _MEGABYTE, each.scheme) for each in graphs]
    within = [each for each in costs if _excess(each[0], each[1], budget) <= 1]
    p95_ms, size_mb, scheme = min(
        within or costs, key=lambda each: each if within else (_excess(each[0], each[1], budget),)
    )
    broken = []
    if budget.p95_ms is not None and p95_ms > budget.p95_ms:
        broken.append(f"{milliseconds(p95_ms)} ms p95 is more than {budget.p95_ms:g} ms")
    if budget.size_mb is not None and size_mb > budget.size_mb:
        broken.append(f"{megabytes(size_mb)} MB is more than {budget.size_mb:g} MB")
    return StudentCandidate(
        name=candidate.name,
        parameters=candidate.parameters,
        size_mb=size_mb,
        p95_ms=p95_ms,
        scheme=scheme,
        measured_at=setting(at.batch, at.length, at.threads, at.provider),
        fits=not broken,
        reason=f"{scheme}: {', '.join(broken)}" if broken else f"keeps the budget with {scheme}",
    )


def _excess(p95_ms: float, size_mb: float, budget: StudentBudget) -> float:
    """How much of the budget is used: the larger one of the shares of its limits."""
    shares = [p95_ms / budget.p95_ms] if budget.p95_ms is not None else []
    shares += [size_mb / budget.size_mb] if budget.size_mb is not None else []
    return max(shares)
