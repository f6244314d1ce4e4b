"""The stage `distill`: a student that learns from the trained model, and beside it the same one without."""

from __future__ import annotations

from pathlib import Path

from tledge.stages.distillation import distil
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Train students with the teacher and without it, and keep the first one that had it."""
    return distil(job, folder, job.head.students(job, folder))
