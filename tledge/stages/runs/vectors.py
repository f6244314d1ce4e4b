"""One pass that gives a vector: held to torch's by the cosines of the vectors too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tledge import inputs
from tledge.evaluate import Array, Run
from tledge.stages.job import Job
from tledge.stages.runs import Exported, one_pass
from tledge.stages.runs.one_pass import bench, benched, open_run, reference, references, timing
from tledge.tasks._related import cosines_of

__all__ = ["bench", "benched", "export", "open_run", "reference", "references", "samples", "timing"]

QUERIES, NEIGHBOURS, AMONG = 10, 5, 2000
"""Test texts whose nearest ones a report shows, how many of these, and the texts that are looked through at most."""


def export(job: Job, path: Path) -> Exported:
    """The fp32 graph of the checkpoint, held to torch's vectors and to their cosines with one another."""
    encoder = inputs.load(job.task.INPUT, job.checkpoint)
    values = job.first_values("validation", one_pass.N_VALUES)
    return one_pass.exported(job, path, encoder, values, compared=_with_cosines)


def _with_cosines(run: Run) -> Run:
    def whole(feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs = run(feeds)
        vectors = cosines_of(next(iter(outputs.values())))
        return outputs | {"cosines": vectors @ vectors.T}

    return whole


def samples(job: Job, graph: Path, inputs_folder: Path) -> Sequence[dict[str, str]]:
    """The nearest texts of some test texts, as a graph finds them among all test texts."""
    encoder = inputs.load(job.task.INPUT, inputs_folder)
    rows = job.rows.scored(job, "test", inputs_folder)
    texts = list(dict.fromkeys(rows.values))[:AMONG]
    run = open_run(graph)
    vectors = cosines_of(np.concatenate([run(encoder.encode([text]))[job.task.OUTPUT] for text in texts]))
    chosen = np.unique(np.linspace(0, len(texts) - 1, min(QUERIES, len(texts))).astype(int))
    found = []
    for i in chosen:
        cosines = vectors @ vectors[i]
        nearest = [j for j in np.argsort(-cosines, kind="stable") if j != i][:NEIGHBOURS]
        listed = [[str(texts[j]), float(cosines[j])] for j in nearest]
        found.append({"prompt": str(texts[i]), "text": json.dumps(listed, ensure_ascii=False)})
    return found
