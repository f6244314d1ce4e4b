"""The stage `bench`: every variant timed beside torch eager, and beside the teacher where there is one."""

from __future__ import annotations

from pathlib import Path

from tledge import evidence
from tledge.artifacts import write_json
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Time every variant beside torch eager, the teacher's too, interleaved."""
    result = job.runs.bench(job)
    write_json(folder / "bench.json", result)
    chosen = next(v.name for v in evidence.variants(job.stage("quantize")) if v.chosen)
    return job.runs.benched(result, chosen)
