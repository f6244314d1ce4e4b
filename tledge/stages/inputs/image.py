"""Images: our preprocessing is held against the library's own, and may become a part of the graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tledge import artifacts
from tledge.artifacts import Graph, read_json, write_json
from tledge.evaluate import score
from tledge.stages.inputs.text import rows, windows
from tledge.stages.job import Job

__all__ = ["compare", "facts", "finish", "into_graph", "rows", "windows"]

FILE = "preprocessing.json"
"""What the stage writes of our pixels and the library's."""


def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:
    """Compare preprocessing with the library's own, and put it into the graph where the recipe asks for that."""
    from tledge import export

    library = export.LibraryPixels(encoder.facts)
    compare(job, encoder, library, values, folder, metrics={"ours": metric_of(job, encoder, folder)})
    return into_graph(job, encoder, graph, values, folder)


def metric_of(job: Job, encoder: Any, folder: Path, description: str = "Scoring") -> float:
    """What the graph in the stage's folder gives on the validation rows, as an encoder prepares them."""
    rows = job.rows.scored(job, "validation", job.checkpoint)
    run = job.runs.open_run(folder / "model.onnx")
    found = score(run, encoder, rows.values, rows.targets, job.task, progress=job.progress, description=description)
    return found.metrics[job.metric]


def compare(
    job: Job, encoder: Any, library: Any, values: Sequence[Any], folder: Path, *, metrics: Mapping[str, float]
) -> None:
    """Write how far our pixels are from the library's own, and what both give."""
    from tledge import export

    theirs = metric_of(job, library, folder, f"Scoring with {library.name}'s own preprocessing")
    of = job.rows.scored(job, "validation", job.checkpoint).of
    difference = export.compare_pixels(encoder, library, values)
    found = {"reference": library.name, "rows": of, "metric": job.metric, **metrics, "theirs": theirs, **difference}
    write_json(folder / FILE, found)


def into_graph(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:
    """Put preprocessing into the graph where the recipe asks for that; what it takes and gives then."""
    from tledge import export
    from tledge.inputs import image

    path, mode = folder / "model.onnx", job.recipe.export.preprocessing
    if mode == "none":
        return graph
    run = job.runs.open_run(path)
    graph = export.add_preprocessing(path, encoder.facts, mode)
    checked = export.check_preprocessing(path, run, encoder, values, job.task.predictions)
    image.write_config(folder / "inputs", dataclasses.replace(encoder.facts, in_graph=mode))
    if (folder / FILE).exists():
        write_json(folder / FILE, read_json(folder / FILE) | {"in_graph": {"mode": mode, **checked}})
    return graph


def facts(encoder: Any) -> dict[str, Any]:
    """The preprocessing."""
    return dict(artifacts.to_dict(encoder.facts))
