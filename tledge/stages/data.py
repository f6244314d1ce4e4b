"""The stage `data`: the sources are read, checked and split."""

from __future__ import annotations

from pathlib import Path

from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Read the sources and write the splits, as the task's kind of rows does it."""
    return job.rows.read(job, folder)
