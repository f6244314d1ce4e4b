"""The stage `bench` of a language model: every variant and torch eager go on with the same prompts, in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tledge import evidence, processes
from tledge.artifacts import write_json
from tledge.bench import Generate
from tledge.report import format as fmt
from tledge.stages.bench import EAGER, TEACHER
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Time how every variant writes beside torch eager, the teacher's too, interleaved."""
    from tledge.bench.bundled import run_language

    settings = job.recipe.bench
    result = run_language(
        job.stage("bundle"),
        batches=settings.batch,
        lengths=settings.length,
        new_tokens=settings.new_tokens,
        threads=settings.threads,
        percentile=settings.percentile,
        duration_s=settings.duration_s,
        extra=references(job.folder),
        progress=job.progress,
    )
    write_json(folder / "bench.json", result)
    chosen = next(v.name for v in evidence.variants(job.stage("quantize")) if v.chosen)
    first = next(row for row in result.generations if row.candidate == chosen)
    assert first.against is not None, "the reference is torch eager"
    rate = f"{fmt.quantity(first.tokens_per_second)} tokens/s after a prompt of {first.prompt}"
    return f"{chosen} writes {rate}, {fmt.times(first.against)} as {fmt.reference(first.against.reference)}"


def references(run: Path) -> dict[str, Callable[[int], Generate]]:
    """What graphs are timed beside in a run folder, as `stages.bench.references`."""
    trained, student = (run / stage / "checkpoint" for stage in ("train", "distill"))
    if not student.exists():
        return {EAGER: _torch_eager(trained)}
    return {TEACHER: _torch_eager(trained), EAGER: _torch_eager(student)}


def _torch_eager(checkpoint: Path) -> Callable[[int], Generate]:
    processes.let_idle_threads_sleep()
    from tledge import export, model

    module = model.load_language(str(checkpoint)).module
    return lambda threads: export.torch_generate(module, threads=threads)
