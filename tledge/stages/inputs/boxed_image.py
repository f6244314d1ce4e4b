"""Images in which objects are found: from which score on a detection is told, and how near our pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tledge.artifacts import Graph, read_json, write_json
from tledge.evaluate import Array, Run, score
from tledge.inputs.boxed_image import CONFIG
from tledge.stages.inputs import image
from tledge.stages.inputs.image import facts
from tledge.stages.inputs.text import rows, windows
from tledge.stages.job import Job
from tledge.tasks import _boxes

__all__ = ["facts", "finish", "rows", "windows"]


def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:
    """Pick on the validation rows from which score on detections are told, and go on as with other images.

    The numbers that labels have in the files that were trained on go with the bundle, too.
    No library gives images a border as it is done here, so that only images without are compared with one's.
    """
    from tledge import data, export

    found = job.rows.scored(job, "validation", job.checkpoint)
    scored = score(
        job.runs.open_run(folder / "model.onnx"),
        encoder,
        found.values,
        found.targets,
        job.task,
        progress=job.progress,
        description="Looking from which score on to tell detections",
    )
    _tell(
        folder / "inputs" / CONFIG,
        score_threshold=_boxes.pick_threshold(scored.records, found.targets),
        label_ids=dict(data.open_splits(job.stage("data")).report.label_ids) or None,
    )
    if encoder.facts.border == "none":
        library = _Library(encoder, export.LibraryPixels(encoder.facts))
        image.compare(job, encoder, library, values, folder, metrics={"ours": scored.metrics[job.metric]})
    return image.into_graph(job, encoder, graph, values, folder)


def _tell(path: Path, **facts: Any) -> None:
    """Write what was found out about a detector into its configuration; `None` is left out."""
    config = read_json(path)
    config["tledge"]["detector"] |= {name: value for name, value in facts.items() if value is not None}
    write_json(path, config)


class _Library:
    """A library's pixels, with our way of boxes back to the images."""

    def __init__(self, encoder: Any, pixels: Any) -> None:
        self.name, self.encode = pixels.name, pixels.encode
        self._encoder = encoder

    def answers(self, run: Run, values: Sequence[Any]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Detections in pixels of the images, and the tensors of the pass."""
        tensors = self.encode(values)
        found: dict[str, Array] = self._encoder.whole([run(tensors)], self._encoder.passes(values)[1])
        return found, tensors
