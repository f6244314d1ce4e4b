"""One pass that gives detections: candidates are held to torch's as tensors, and detections as sets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tledge import inputs
from tledge.artifacts import Graph
from tledge.evaluate import Array, Run
from tledge.inputs import Input
from tledge.stages import inputs as stage_inputs
from tledge.stages.job import Job
from tledge.stages.runs import Exported
from tledge.stages.runs.one_pass import N_VALUES, bench, benched, open_run, reference, references, samples, timing

__all__ = ["bench", "benched", "export", "open_run", "reference", "references", "samples", "timing"]


def export(job: Job, path: Path) -> Exported:
    """The fp32 graph of the checkpoint, whose answers are held to torch's before and after suppression."""
    from tledge import export as exporting
    from tledge import model
    from tledge.runtime import open_session, session_run

    encoder = inputs.load(job.task.INPUT, job.checkpoint)
    values = [*job.first_values("validation", N_VALUES), *encoder.examples()]
    detector = model.load(job.checkpoint)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".candidates-") as folder:
        candidates = Path(folder) / "candidates.onnx"
        with job.progress("Exporting to ONNX", total=1) as advance:
            graph = _graphs(job, detector, encoder, candidates, path)
            advance(1)
        cases = list(exporting.cases(encoder, values))
        cases += [(f"made-up image {i}", encoder.encode([each]), False) for i, each in enumerate(encoder.examples(), 1)]
        found = exporting.compare_detector(
            detector,
            session_run(open_session(candidates)),
            _told(encoder, session_run(open_session(path))),
            cases,
            atol=job.recipe.export.atol,
            rtol=job.recipe.export.rtol,
            progress=job.progress,
        )
    answers = exporting.torch_run(exporting.Answers(detector))
    scores = [answers(encoder.encode([value]))["scores"] for value in values]

    def finish(folder: Path) -> Graph:
        return stage_inputs.load(job.task.INPUT).finish(job, encoder, graph, values[:N_VALUES], folder)

    return Exported(found, np.concatenate([each.reshape(1, -1) for each in scores]), finish)


def _graphs(job: Job, detector: Any, encoder: Input, candidates: Path, path: Path) -> Graph:
    """Write the graph before suppression, and the one that ships, which is the same where devices suppress."""
    from tledge import export as exporting
    from tledge.model.detectors import folded

    settings = job.recipe.export
    if settings.nms == "device":
        exporting.require_one_stage(detector)
    graph = exporting.export_candidates(
        folded(detector),
        encoder.for_export(),
        candidates,
        opset=settings.opset,
        external_data=settings.external_data,
    )
    if settings.nms == "graph":
        return exporting.suppress_in_graph(candidates, path, detector.suppression)
    shutil.copy(candidates, path)
    return graph


def _told(encoder: Any, run: Run) -> Run:
    """A run that gives detections in pixels of the input, whoever suppresses."""

    def told(feeds: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = encoder.told(run(feeds))
        return found

    return told
