"""The stage `bench`: every variant timed beside torch eager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tledge import evidence, inputs, processes
from tledge.artifacts import read_json, write_json
from tledge.evaluate import Array, Run
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Time every variant beside torch eager, interleaved."""
    from tledge.bench.bundled import run_bundle

    settings = job.recipe.bench
    result = run_bundle(
        job.stage("bundle"),
        batches=settings.batch,
        lengths=job.recipe.bench_lengths,
        threads=settings.threads,
        percentile=settings.percentile,
        duration_s=settings.duration_s,
        extra={"torch eager": torch_reference(job.checkpoint, job.stage("bundle"))},
        progress=job.progress,
    )
    write_json(folder / "bench.json", result)
    chosen = next(v.name for v in evidence.variants(job.stage("quantize")) if v.chosen)
    first = next(row for row in result.latencies if row.candidate == chosen)
    if "p50" not in first.percentiles_ms or first.against is None:
        return f"too few runs of {chosen} for a median; raise bench.duration_s"
    times = f"{1 / first.against.ratio:.1f} times as fast as torch eager"
    return f"{chosen} takes {first.percentiles_ms['p50']:.2f} ms, {times}"


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
