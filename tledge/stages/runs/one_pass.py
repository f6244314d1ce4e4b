"""One pass: tensors in, the answer out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tledge import inputs, processes
from tledge.artifacts import BenchResult, Graph, read_json
from tledge.evaluate import Array, Run
from tledge.inputs import Input
from tledge.report import format as fmt
from tledge.stages import inputs as stage_inputs
from tledge.stages.job import Job
from tledge.stages.runs import Exported, Timing, beside

N_VALUES = 8
"""Rows of the validation split that parity is checked on, beside random and extreme inputs."""


def export(job: Job, path: Path) -> Exported:
    """The fp32 graph of the checkpoint, held to torch's answers alone and in batches, padded and not."""
    encoder = inputs.load(job.task.INPUT, job.checkpoint)
    return exported(job, path, encoder, job.first_values("validation", N_VALUES))


def exported(
    job: Job, path: Path, encoder: Input, values: Sequence[Any], *, compared: Callable[[Run], Run] = lambda run: run
) -> Exported:
    """The same, compared on these values too; `compared` makes of a run one that gives more to compare."""
    from tledge import export, model
    from tledge.runtime import open_session, session_run

    classifier = model.load(job.checkpoint)
    with job.progress("Exporting to ONNX", total=1) as advance:
        graph = _graph(job, classifier, encoder, path)
        advance(1)
    torch_run = export.torch_run(classifier)
    found = export.check(
        compared(torch_run),
        compared(session_run(open_session(path))),
        list(export.cases(encoder, values)),
        job.task.predictions,
        atol=job.recipe.export.atol,
        rtol=job.recipe.export.rtol,
        progress=job.progress,
    )
    outputs = [torch_run(encoder.encode([value]))[job.task.OUTPUT] for value in values]
    answers = np.concatenate([each.reshape(-1, each.shape[-1]) for each in outputs])  # of tokens, where they have some

    def finish(folder: Path) -> Graph:
        return stage_inputs.load(job.task.INPUT).finish(job, encoder, graph, values, folder)

    return Exported(found, answers, finish)


def _graph(job: Job, classifier: Any, encoder: inputs.Input, path: Path) -> Graph:
    from tledge import export

    settings = job.recipe.export
    sample = encoder.for_export()
    return export.export(classifier, sample, path, opset=settings.opset, external_data=settings.external_data)


def open_run(graph: Path, *, exact: bool = False) -> Run:
    """A graph as it is."""
    from tledge.runtime import open_session, session_run

    return session_run(open_session(graph, exact=exact))


def timing(job: Job, graph: Graph, inputs_folder: Path) -> Timing:  # noqa: ARG001
    """A whole run on made-up rows."""
    from tledge.bench import setting

    at, length = job.recipe.bench, job.recipe.bench_lengths[0]
    encoder = inputs.load(job.task.INPUT, inputs_folder)
    return Timing(encoder.dummy, length, setting(at.batch[0], length, at.threads[0], at.provider))


def samples(job: Job, graph: Path, inputs_folder: Path) -> Sequence[dict[str, str]]:  # noqa: ARG001
    """Nothing is written."""
    return ()


def bench(job: Job) -> BenchResult:
    """The variants of a run's bundle, beside what `references` gives."""
    from tledge.bench.bundled import run_bundle

    settings = job.recipe.bench
    return run_bundle(
        job.stage("bundle"),
        batches=settings.batch,
        lengths=job.recipe.bench_lengths,
        threads=settings.threads,
        percentile=settings.percentile,
        duration_s=settings.duration_s,
        provider=settings.provider,
        extra=references(job.folder, job.stage("bundle")),
        progress=job.progress,
    )


def benched(result: BenchResult, variant: str) -> str:
    """How fast a variant is."""
    first = next(row for row in result.latencies if row.candidate == variant)
    if "p50" not in first.percentiles_ms or first.against is None:
        return f"too few runs of {variant} for a median; raise bench.duration_s"
    times = f"{1 / first.against.ratio:.1f} times as fast as {fmt.reference(first.against.reference)}"
    return f"{variant} takes {first.percentiles_ms['p50']:.2f} ms, {times}"


def reference(job: Job) -> Run | None:
    """Torch, on the tensors that the graphs take; `None` where a graph resizes, whose rounding is its own."""
    if job.recipe.export.preprocessing == "resize_and_normalize":
        return None
    return torch_reference(job.checkpoint, job.stage("export") / "inputs")(None)


def references(run: Path, shipped: Path) -> dict[str, Callable[[int | None], Run]]:
    """What graphs are timed beside, by name and given a number of threads; the first is what they are compared with.

    It is the checkpoint in torch eager, and where a student was distilled, its teacher before it.

    Args:
        run: the run folder.
        shipped: as for `torch_reference`.
    """
    return beside(
        run,
        functools.partial(torch_reference, shipped=shipped),
        functools.partial(_teacher, shipped=shipped),
    )


def _teacher(trained: Path, student: Path, shipped: Path) -> Callable[[int | None], Run]:
    """The teacher on the student's tensors, or where its tokenizer or image size is another, on as many of its own.

    Those are made once, so that none of the teacher's preprocessing is timed.
    """
    kind = "image" if (trained / "preprocessor_config.json").exists() else "text"
    ours, theirs = (inputs.load(kind, folder) for folder in (student, trained))
    if ours.identity == theirs.identity:
        return torch_reference(trained, shipped)
    processes.let_idle_threads_sleep()
    from tledge import export, model

    loaded = model.load(trained)
    return lambda threads: _on_own_inputs(export.torch_run(loaded, threads=threads), theirs)


def _on_own_inputs(run: Run, encoder: Input) -> Run:
    made = functools.cache(encoder.dummy)

    def on_own(feeds: Mapping[str, Array]) -> dict[str, Array]:
        batch, *sizes = next(iter(feeds.values())).shape
        return run(made(batch, None if encoder.max_length is None else min(sizes[0], encoder.max_length)))

    return on_own


def torch_reference(checkpoint: Path, shipped: Path) -> Callable[[int | None], Run]:
    """A checkpoint in torch eager, taking the tensors that the shipped graphs take; given a number of threads.

    Args:
        checkpoint: the folder of a checkpoint.
        shipped: the folder with the preprocessing of the shipped graphs, which may do a part of it themselves.
    """
    processes.let_idle_threads_sleep()
    from tledge import export, model

    loaded = model.load(checkpoint)
    in_graph = _in_graph(shipped)
    if in_graph is None:
        return lambda threads: export.torch_run(loaded, threads=threads)
    plain = inputs.load("image", checkpoint)
    prepare = plain.normalise if in_graph == "normalize" else plain.encode  # type: ignore[attr-defined]

    def open_run(threads: int | None) -> Run:
        run = export.torch_run(loaded, threads=threads)

        def prepared(feeds: Mapping[str, Array]) -> dict[str, Array]:
            return run(prepare(list(feeds["pixel_values"])))

        return prepared

    return open_run


def _in_graph(folder: Path) -> str | None:
    path = folder / "preprocessor_config.json"
    return read_json(path).get("in_graph") if path.exists() else None
