"""The stage `baseline`: the same recipe without what the pretrained weights know."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from tledge import evidence
from tledge.artifacts import write_json
from tledge.evaluate import score
from tledge.stages.job import Job

BATCH = 16  # torch eager in fp32 answers a row alike alone and in a batch


def stage(job: Job, folder: Path) -> str:
    """Train the recipe on a backbone with random weights, and score it on the test rows beside the pretrained one."""
    from tledge import export

    started = time.monotonic()
    trained = job.head.train(job, folder, pretrained=False)
    rows = job.rows.scored(job, "test", folder / "inputs")
    result = score(
        export.torch_run(trained.model),
        rows.encoder,
        rows.values,
        rows.targets,
        job.task,
        batch_size=BATCH,
        progress=job.progress,
        description="Scoring the random backbone on test rows",
    )
    fp32 = evidence.variants(job.stage("quantize"))[0]
    write_json(
        folder / "baseline.json",
        {
            "kind": job.recipe.baseline,
            "metrics": result.metrics,
            "seconds": time.monotonic() - started,
        },
    )
    records: dict[str, Any] = result.records
    np.savez_compressed(folder / "test_outputs.npz", **records)
    for path in folder.iterdir():  # what training resumes from; the random network itself is nobody's
        if path.is_dir():
            shutil.rmtree(path)
    ours, theirs = fp32.test_metrics[job.metric], result.metrics[job.metric]
    return f"test {job.metric} {theirs:.3f} on a random backbone, {ours:.3f} on the pretrained one"
