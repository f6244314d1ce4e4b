"""Images: our preprocessing is held against the library's own, and may become a part of the graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tledge import artifacts
from tledge.artifacts import Graph, write_json
from tledge.evaluate import score
from tledge.stages.inputs.text import rows, windows
from tledge.stages.job import Job

__all__ = ["facts", "finish", "rows", "windows"]


def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:
    """Compare preprocessing with the library's own, and put it into the graph where the recipe asks for that."""
    from tledge import export
    from tledge.inputs import image

    path, mode = folder / "model.onnx", job.recipe.export.preprocessing
    run = job.runs.open_run(path)
    rows = job.rows.scored(job, "validation", job.checkpoint)
    library = export.LibraryPixels(encoder.facts)
    metrics = {}
    for name, each in (("ours", encoder), ("theirs", library)):
        metrics[name] = score(
            run,
            each,
            rows.values,
            rows.targets,
            job.task,
            progress=job.progress,
            description=f"Scoring with {library.name}'s own preprocessing" if each is library else "Scoring",
        ).metrics[job.metric]
    difference = export.compare_pixels(encoder, library, values)
    found = {"reference": library.name, "rows": rows.of, "metric": job.metric, **metrics, **difference}
    if mode != "none":
        graph = export.add_preprocessing(path, encoder.facts, mode)
        found["in_graph"] = {
            "mode": mode,
            **export.check_preprocessing(path, run, encoder, values, job.task.predictions),
        }
        image.write_config(folder / "inputs", dataclasses.replace(encoder.facts, in_graph=mode))
    write_json(folder / "preprocessing.json", found)
    return graph


def facts(encoder: Any) -> dict[str, Any]:
    """The preprocessing."""
    return dict(artifacts.to_dict(encoder.facts))
