"""The stage `data`: the sources are read, checked and split."""

from __future__ import annotations

from pathlib import Path

from tledge.stages.job import Job

CALIBRATION_ROWS = {"text": 0, "image": 100}
"""How many rows are kept aside by default, by the task's kind of input."""


def stage(job: Job, folder: Path) -> str:
    """Read the sources and write the splits."""
    from tledge import data

    splits = data.load(
        job.recipe.data,
        job.task,
        seed=job.recipe.seed,
        folder=folder,
        base=Path.cwd(),
        calibration=CALIBRATION_ROWS[job.task.INPUT],
        progress=job.progress,
    )
    counts = {name: len(getattr(splits, name)) for name in ("train", "validation", "calibration", "test")}
    rows = ", ".join(f"{count} {name} rows" for name, count in counts.items() if count)
    left_out = sum(splits.report.skipped.values())
    skipped = f", {left_out} broken {'row' if left_out == 1 else 'rows'} left out" if left_out else ""
    what = (
        f"the number {splits.labels[0]!r}" if job.task.PROBLEM_TYPE == "regression" else f"{len(splits.labels)} labels"
    )
    return f"{what}, {rows}{skipped}"
