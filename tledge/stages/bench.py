"""The stage `bench`: every variant timed beside torch eager, and beside the teacher where there is one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from tledge import evidence, inputs, processes
from tledge.artifacts import read_json, write_json
from tledge.evaluate import Array, Run
from tledge.inputs import Input
from tledge.report import format as fmt
from tledge.stages.job import Job

EAGER, TEACHER = "torch eager", "teacher in torch eager"


def stage(job: Job, folder: Path) -> str:
    """Time every variant beside torch eager, the teacher's too, interleaved."""
    from tledge.bench.bundled import run_bundle

    settings = job.recipe.bench
    result = run_bundle(
        job.stage("bundle"),
        batches=settings.batch,
        lengths=job.recipe.bench_lengths,
        threads=settings.threads,
        percentile=settings.percentile,
        duration_s=settings.duration_s,
        extra=references(job.folder, job.stage("bundle")),
        progress=job.progress,
    )
    write_json(folder / "bench.json", result)
    chosen = next(v.name for v in evidence.variants(job.stage("quantize")) if v.chosen)
    first = next(row for row in result.latencies if row.candidate == chosen)
    if "p50" not in first.percentiles_ms or first.against is None:
        return f"too few runs of {chosen} for a median; raise bench.duration_s"
    times = f"{1 / first.against.ratio:.1f} times as fast as {fmt.reference(first.against.reference)}"
    return f"{chosen} takes {first.percentiles_ms['p50']:.2f} ms, {times}"


def references(run: Path, shipped: Path) -> dict[str, Callable[[int | None], Run]]:
    """What graphs are timed beside, by name and given a number of threads; the first is what they are compared with.

    It is the checkpoint in torch eager, and where a student was distilled, its teacher before it.

    Args:
        run: the run folder.
        shipped: as for `torch_reference`.
    """
    trained, student = (run / stage / "checkpoint" for stage in ("train", "distill"))
    if not student.exists():
        return {EAGER: torch_reference(trained, shipped)}
    return {TEACHER: _teacher(trained, student, shipped), EAGER: torch_reference(student, shipped)}


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
