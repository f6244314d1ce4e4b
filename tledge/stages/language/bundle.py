"""The stage `bundle` of a language model: what is shipped, with golden vectors that go on with sentences."""

from __future__ import annotations

from pathlib import Path

from tledge import processes
from tledge.evaluate import Run
from tledge.stages.bundle import assemble
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Assemble what is shipped, with golden vectors and the model card."""
    # No scheme of a language model is calibrated.
    return assemble(job, folder, reference=_torch(job.checkpoint), calibration=())


def _torch(checkpoint: Path) -> Run:
    """One pass of a checkpoint over whole texts in torch eager, without a cache."""
    processes.let_idle_threads_sleep()
    from tledge import export, model

    module = model.load_language(str(checkpoint)).module
    module.config.use_cache = False
    return export.torch_run(module)
