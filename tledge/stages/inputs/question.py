"""Questions and their contexts, in windows; and when a model had better answer nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.artifacts import Graph, read_json, write_json
from tledge.evaluate import score
from tledge.inputs._windows import FILE
from tledge.stages.inputs.text import facts
from tledge.stages.job import Job
from tledge.tasks import _answers

if TYPE_CHECKING:
    from tledge.model import Windows

__all__ = ["facts", "finish", "rows", "windows"]

UNTIL_PICKED = 0.0
"""The threshold of a model in training: whichever is the likelier, an answer or none."""


def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:  # noqa: ARG001
    """Pick on the validation rows, for the fp32 graph, when there is no answer, and write it beside the graph.

    Nothing is picked where the training rows all have an answer.
    """
    path = folder / "inputs" / FILE
    settings = read_json(path)
    if settings["no_answer_threshold"] is None:
        return graph
    found = job.rows.scored(job, "validation", job.checkpoint)
    scored = score(
        job.runs.open_run(folder / "model.onnx"),
        encoder.always_answering(),
        found.values,
        found.targets,
        job.task,
        progress=job.progress,
        description="Looking when there is no answer",
    )
    threshold = _answers.pick_threshold(scored.records, found.targets)
    if threshold is not None:
        write_json(path, settings | {"no_answer_threshold": threshold})
    return graph


def rows(job: Job, encoder: Any, values: Sequence[Any], targets: Any) -> Windows:  # noqa: ARG001
    """Windows of the contexts, each with the whole question, that learn where the answer begins and ends."""
    from tledge import model

    cuts = encoder.cuts(list(values))
    aligned = [
        each
        for cut, answers in zip(cuts, targets, strict=True)
        for each in _answers.align(answers, cut, from_end=encoder.pads_left)
    ]
    return model.Windows(values, targets, encoder, cuts, aligned)


def windows(job: Job) -> dict[str, Any]:
    """How many tokens windows share, how many an answer has at most, and when there is none."""
    from tledge import data

    report = data.open_splits(job.stage("data")).report
    always = sum(report.label_counts["train"].values()) == report.rows["train"]
    return {
        "stride": job.recipe.stride,
        "max_answer_length": job.recipe.model.max_answer_length,
        "no_answer_threshold": None if always else UNTIL_PICKED,
    }
