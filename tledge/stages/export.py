"""The stage `export`: the fp32 graph, and the proof that it computes what torch computes on the same inputs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tledge import artifacts, inputs
from tledge.artifacts import Graph, write_json
from tledge.bundle.write import ECOSYSTEM_FILES
from tledge.evaluate import score
from tledge.stages.job import Job

N_VALUES = 8
"""Rows of the validation split that parity is checked on, beside random and extreme inputs."""


def stage(job: Job, folder: Path) -> str:
    """Write the fp32 graph and prove that it computes what torch computes."""
    from tledge import export, model
    from tledge.runtime import open_session, session_run

    recipe, task = job.recipe, job.task
    checkpoint = job.checkpoint
    classifier = model.load(checkpoint)
    encoder = inputs.load(task.INPUT, checkpoint)
    with job.progress("Exporting to ONNX", total=1) as advance:
        graph = _graph(job, classifier, encoder, folder / "model.onnx")
        advance(1)
    values = job.first_values("validation", N_VALUES)
    torch_run = export.torch_run(classifier)
    found = export.check(
        torch_run,
        session_run(open_session(folder / "model.onnx")),
        list(export.cases(encoder, values)),
        task.decisions,
        atol=recipe.export.atol,
        rtol=recipe.export.rtol,
        progress=job.progress,
    )
    # Kept outside the stage's folder too, since a failure leaves no stage.
    parity = job.folder / "logs" / "parity.json"
    write_json(parity, [artifacts.to_dict(case) for case in found])
    shutil.copy(parity, folder / "parity.json")
    reference = [np.concatenate([torch_run(encoder.encode([value]))["logits"] for value in values])]
    export.require(found, reference, where=str(parity))
    (folder / "inputs").mkdir()
    for name in ECOSYSTEM_FILES:
        if (checkpoint / name).exists():
            shutil.copy(checkpoint / name, folder / "inputs" / name)
    if task.INPUT == "image":
        graph = _preprocessing(job, encoder, graph, values, folder)
    write_json(folder / "graph.json", graph)
    worst = max(case.max_abs_diff for case in found)
    return f"{graph.size_bytes / 1e6:.1f} MB, parity in {len(found)} cases, largest difference {worst:.1e}"


def _graph(job: Job, classifier: Any, encoder: inputs.Input, path: Path) -> Graph:
    from tledge import export

    settings = job.recipe.export
    if job.task.INPUT == "image":
        sample = encoder.dummy(2)
        return export.export_image(classifier, sample, path, opset=settings.opset, external_data=settings.external_data)
    sample = encoder.dummy(2, 8)
    sample["attention_mask"][0, -3:] = 0
    return export.export(classifier, sample, path, opset=settings.opset, external_data=settings.external_data)


def _preprocessing(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:
    """Compare preprocessing with the library's own, and put it into the graph where the recipe asks for that."""
    from tledge import data, export
    from tledge.inputs import image
    from tledge.runtime import open_session, session_run

    path, mode = folder / "model.onnx", job.recipe.export.preprocessing
    run = session_run(open_session(path))
    splits = data.open_splits(job.stage("data"))
    rows = splits.validation
    library = export.LibraryPixels(encoder.facts)
    metrics = {}
    for name, each in (("ours", encoder), ("theirs", library)):
        metrics[name] = score(
            run,
            each,
            rows[job.task.INPUT_COLUMN],
            job.task.targets(rows["label"], len(splits.labels)),
            job.task,
            progress=job.progress,
            description=f"Scoring with {library.name}'s own preprocessing" if each is library else "Scoring",
        ).metrics[job.metric]
    difference = export.compare_pixels(encoder, library, values)
    facts = {"reference": library.name, "rows": len(rows), "metric": job.metric, **metrics, **difference}
    if mode != "none":
        graph = export.add_preprocessing(path, encoder.facts, mode)
        facts["in_graph"] = {"mode": mode, **export.check_preprocessing(path, run, encoder, values, job.task.decisions)}
        image.write_config(folder / "inputs", dataclasses.replace(encoder.facts, in_graph=mode))
    write_json(folder / "preprocessing.json", facts)
    return graph
