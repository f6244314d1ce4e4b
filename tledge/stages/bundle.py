"""The stage `bundle`: what is shipped, with golden vectors and the model card."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import tledge
from tledge import answers, evidence
from tledge.artifacts import read_json
from tledge.digest import sha256
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Assemble what is shipped, with golden vectors and the model card."""
    from tledge import bundle, report
    from tledge.bench import machine
    from tledge.runtime import open_session, session_run

    recipe, task = job.recipe, job.task
    graphs = job.stage("quantize")
    calibration = job.rows.scored(job, "calibration", job.stage("export") / "inputs")
    trained, rows = read_json(job.stage("train") / "train.json"), read_json(job.stage("data") / "data.json")
    provenance = bundle.Provenance(
        tledge=tledge.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backbone=evidence.public_name(recipe.model.backbone),
        backbone_sha256=trained["backbone_sha256"],
        recipe_sha256=sha256(job.folder / "recipe.yaml"),
        rows=rows["rows"],
        labels=rows["label_counts"],
        packages=machine.describe().packages,
        calibration=answers.hexadecimal(job.rows.hashes(calibration)),
    )
    variants = evidence.variants(graphs)
    facts = evidence.facts(
        job.recipe, job.folder
    )  # with what an earlier run may have left of the stages after this one
    manifest = bundle.write(
        folder,
        name=recipe.name,
        checkpoint=job.stage("export") / "inputs",
        variants=[(variant, graphs / variant.graph.path) for variant in variants],
        task=recipe.task,
        problem_type=task.PROBLEM_TYPE,
        labels=tuple(rows["labels"]) if task.LABEL_COLUMN else (),
        open_run=lambda path: session_run(open_session(path)),
        provenance=provenance,
        readme=report.model_card(dataclasses.replace(facts, bench=None, transfer=None)),
        input_kind=task.INPUT,
        reference=job.runs.reference(job),
        only_chosen=recipe.bundle.variants == "chosen",
    )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{len(manifest.variants)} variant(s), {size / 1e6:.1f} MB, {manifest.chosen} is chosen"
