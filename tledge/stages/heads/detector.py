"""A detector: a fresh one on the body of an image classifier, or a pretrained one whose labels are new."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tledge import inputs, plugins, processes
from tledge.errors import ModelError
from tledge.inputs._image_decode import shape_of
from tledge.stages import inputs as stage_inputs
from tledge.stages.heads import Trained, fresh
from tledge.stages.job import Job
from tledge.tasks import Task

if TYPE_CHECKING:
    from tledge.stages.distillation import Students

LOSSES = "tledge.losses.detectors"
SHEET_ROWS = 4
"""Images on the contact sheet."""


def students(job: Job, folder: Path) -> Students:  # noqa: ARG001
    """None.

    Raises:
        ModelError: always, with what to do instead.
    """
    raise ModelError(
        f"distill: {job.recipe.task} has no students yet; train a small backbone by itself, such as "
        "torchvision:mobilenet_v3_small with model.detector: fcos"
    )


def train(job: Job, folder: Path, *, pretrained: bool = True) -> Trained:
    """The detector of a recipe, trained; or with the strategy `none` a checkpoint as it is.

    Args:
        job: the run, whose rows are read.
        folder: takes what training resumes from.
        pretrained: `False` for the same architecture with random weights.
    """
    from tledge import data, model
    from tledge import train as training

    recipe, task = job.recipe, job.task
    if recipe.finetune.strategy == "none":
        return fresh.train(job, folder)
    splits = data.open_splits(job.stage("data"))
    training.seed(recipe.seed)
    detector, backbone = model.detectors.of_recipe(
        recipe.model, labels=task.output_names(splits.labels), task=recipe.task, pretrained=pretrained
    )
    with training.main_first():
        if processes.is_main():
            detector.save_inputs(folder / "inputs", backbone)
        encoder = inputs.load(task.INPUT, folder / "inputs")
    train_rows, validation_rows = (_rows(task, split, splits.labels) for split in (splits.train, splits.validation))
    if not pretrained or recipe.model.weights == "none":
        model.update_batch_norms(detector.backbone, _batches(encoder, train_rows, recipe.finetune))
    digest = model.weights_digest(detector.backbone)
    if pretrained and processes.is_main():
        _sheet(train_rows, encoder, recipe.finetune).save(folder / "contact_sheet.jpg", quality=85)
    objective = training.detecting(
        plugins.load(LOSSES, recipe.finetune.loss or task.LOSS).loss, output=model.DETECTIONS
    )
    phases = model.phases(
        detector,
        encoder,
        train_rows,
        validation_rows,
        recipe.finetune,
        seed=recipe.seed,
        cache=fresh.kept_in(job, folder),
        progress=job.progress,
    )
    score = functools.partial(scored, task=task, encoder=encoder, values=validation_rows.values)
    scoring = training.Scoring(
        lambda outputs, _labels: score(outputs[model.DETECTIONS], validation_rows.targets),
        job.metric,
        job.lower_is_better,
        output=model.DETECTIONS,
    )
    fitted, trained = fresh.fit_phases(job, phases, objective, scoring, folder, model=detector, as_rows=model.Learner)

    def save(checkpoint: Path) -> None:
        detector.save(checkpoint, backbone)
        sample = encoder.encode(list(train_rows.values[: fresh.SAMPLE_ROWS]))
        model.check_saved_detector(detector, checkpoint, sample)
        fresh.forget_inputs(folder)

    return Trained(
        detector,
        digest,
        parameters=sum(p.numel() for p in detector.parameters()),
        trained_parameters=trained,
        unknown_tokens=None,
        save=save,
        fitted=fitted,
        notes=backbone.notes,
        input=stage_inputs.load(task.INPUT).facts(encoder),
    )


def scored(
    detections: npt.NDArray[Any], targets: npt.NDArray[Any], *, task: Task, encoder: Any, values: Sequence[Any]
) -> dict[str, float]:
    """The metrics of detections in pixels of the input, against boxes in pixels of the images.

    Args:
        detections: `(rows, most, 6)`: a box, its score and its label, -1 in padding.
        targets: as the task has them.
        task: of the run.
        encoder: an `Input` of `tledge.inputs.boxed_image`.
        values: the images.
    """
    shapes = (shape_of(value) for value in values)
    known = np.array([(height, width) for height, width, *_ in shapes])
    outputs = {
        "boxes": detections[..., :4],
        "scores": detections[..., 4],
        "labels": detections[..., 5].astype(np.int64),
    }
    whole = encoder.whole([outputs], known)
    return task.score(task.records(whole, {}), targets)


def _rows(task: Task, split: Mapping[str, Any], labels: Sequence[str]) -> Any:
    """The images of a split, and their boxes."""
    from tledge import data, model

    return model.Rows(data.inputs_of(split, task), task.targets(split["label"], len(labels)))


def _batches(encoder: Any, rows: Any, settings: Any) -> Any:
    """Training images in batches, in the order of the rows."""
    from tledge import model

    columns = model.boxed(rows.values, rows.targets, encoder, settings, changed=False)
    count = min(fresh.BATCH_NORM_IMAGES, len(columns))
    for start in range(0, count, 16):
        yield {"pixel_values": columns.batch(range(start, min(start + 16, count)))["pixel_values"]}


def _sheet(rows: Any, encoder: Any, settings: Any) -> Any:
    """A contact sheet of the first training images, with their boxes."""
    from tledge import model

    count = min(SHEET_ROWS, len(rows.values))
    return model.boxed_sheet(model.boxed(rows.values, rows.targets, encoder, settings), range(count))
