"""Vectors of texts: a backbone with its pooling as it is, or trained on rows that say which texts are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tledge import inputs, plugins, processes
from tledge.errors import DataError, RecipeError
from tledge.stages import vocabulary
from tledge.stages.heads import Trained, fresh
from tledge.stages.job import Job
from tledge.stages.rows import related
from tledge.tasks import Task
from tledge.tasks._related import Form

if TYPE_CHECKING:
    from tledge.stages.distillation import Students

LOSSES = "tledge.losses.embedding"
SCALED = "cosine_regression"
"""The loss that takes scores as cosines."""


def students(job: Job, folder: Path) -> Students:  # noqa: ARG001
    """None learns yet.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(f"distill: {job.recipe.task} has no distillation; remove the section")


def train(job: Job, folder: Path, *, pretrained: bool = True) -> Trained:
    """The model of a recipe, trained; or with the strategy `none` as it is.

    Args:
        job: the run, whose rows are read.
        folder: takes what training resumes from.
        pretrained: `False` for the same architecture with random weights.
    """
    from tledge import data, model
    from tledge import train as training

    recipe, settings = job.recipe, job.recipe.finetune
    splits = data.open_splits(job.stage("data"))
    form = related.form_of(splits)
    loss = _loss(job, form)
    training.seed(recipe.seed)
    backbone = model.load_backbone(recipe.model.backbone, revision=recipe.model.revision, pretrained=pretrained)
    is_probe = settings.strategy == "probe"
    embedder = model.build_embedder(
        backbone,
        pooling=recipe.model.pooling,
        max_length=recipe.model.max_length,
        dimensions=recipe.model.dimensions,
        normalize=recipe.model.normalize,
        projection=is_probe,
        dropout_prob=recipe.model.head.dropout_prob if is_probe else 0.0,
        prompts=recipe.model.prompts,
    )
    with training.main_first():
        if processes.is_main():
            embedder.save_inputs(folder / "inputs", backbone)
        encoder = inputs.load(job.task.INPUT, folder / "inputs")
    train_rows, validation_rows = (_rows(splits, name, form, encoder) for name in ("train", "validation"))
    texts = [text for row in train_rows.values for text in row]
    unknown_tokens = vocabulary.unknown_share(job, encoder, texts) if pretrained else None
    notes = [*backbone.notes, *_cut(job, texts, encoder)]
    digest = model.weights_digest(embedder.backbone)
    fitted: Sequence[Any] = ()
    trained = 0
    if settings.strategy == "none":
        notes.append("taken as it is")
    else:
        scale, told = _scale(job, loss, train_rows.targets, validation_rows.targets)
        objective = training.relating(plugins.load(LOSSES, loss).loss, **scale)
        phases = model.phases(
            embedder,
            encoder,
            train_rows,
            validation_rows,
            settings,
            seed=recipe.seed,
            cache=fresh.kept_in(job, folder),
            progress=job.progress,
        )
        scoring = training.Scoring(partial(scored, job.task), job.metric, job.lower_is_better, output=job.task.OUTPUT)
        fitted, trained = fresh.fit_phases(
            job, phases, objective, scoring, folder, model=embedder, as_rows=model.EachText
        )
        notes += [f"trained on {form.name} with the loss {loss}", *told]

    def save(checkpoint: Path) -> None:
        embedder.save(checkpoint, backbone)
        model.check_saved(embedder, checkpoint, encoder.encode(texts[: fresh.SAMPLE_ROWS]))
        fresh.forget_inputs(folder)

    return Trained(
        embedder,
        digest,
        parameters=sum(p.numel() for p in embedder.parameters()),
        trained_parameters=trained,
        unknown_tokens=unknown_tokens,
        save=save,
        fitted=fitted,
        notes=notes,
        pooling=embedder.pooling,
    )


def scored(task: Task, outputs: Mapping[str, Any], targets: npt.NDArray[Any]) -> dict[str, float]:
    """The metrics of validation rows from the vectors of their texts, `(rows, texts, size)`."""
    vectors = outputs[task.OUTPUT]
    return task.score(task.joined({task.OUTPUT: vectors.reshape(-1, vectors.shape[-1])}, targets), targets)


def _loss(job: Job, form: Form) -> str:
    """The name of the loss, where loss and metric fit what the rows are.

    Raises:
        RecipeError: one of them does not.
    """
    if job.metric not in form.metrics:
        raise RecipeError(
            f"metric: got {job.metric!r}, but data.train has {form.name}, which are judged by one of "
            f"{', '.join(form.metrics)}"
        )
    loss = job.recipe.finetune.loss or form.losses[0]
    if loss not in form.losses:
        raise RecipeError(
            f"finetune.loss: got {loss!r}, but data.train has {form.name}, which train with "
            f"{' or '.join(form.losses)}; change the loss, or give other columns (data.columns)"
        )
    return loss


def _rows(splits: Any, split: str, form: Form, encoder: Any) -> Any:
    """The texts of a split's rows, with their prompts, and targets: as they train, or as they are judged."""
    from tledge import model

    cells = related.texts_of(splits, split, form)
    rows = [form.trained(each) if split == "train" else form.judged(each) for each in cells]
    targets = form.targets(rows, list(getattr(splits, split)["label"]))
    return model.Rows([form.prompted(row, encoder) for row in rows], targets)


def _cut(job: Job, texts: Sequence[str], encoder: Any) -> list[str]:
    """How many of the training texts are longer than the model reads, as a line; nothing where none is."""
    step = max(1, -(-len(texts) // vocabulary.LOOKED_AT))
    some = texts[::step]
    longer = sum(len(encoder.encode_whole(text)) > encoder.max_length for text in some)
    if not longer:
        return []
    line = (
        f"{longer / len(some):.1%} of the training texts have more than {encoder.max_length} tokens and are cut there"
    )
    job.say(f"train: {line} (model.max_length)")
    return [line]


def _scale(
    job: Job, loss: str, train: npt.NDArray[Any], validation: npt.NDArray[Any]
) -> tuple[dict[str, float], list[str]]:
    """How scores become cosines from 0 to 1, and a line about it; nothing for other losses.

    Raises:
        DataError: a score is outside of the range that the recipe names.
    """
    asked = job.recipe.finetune.score_range
    if loss != SCALED:
        return {}, []
    low, high = asked if asked is not None else (float(train.min()), float(train.max()))
    for name, scores in (("training", train), ("validation", validation)):
        outside = np.flatnonzero((scores < low) | (scores > high))
        if asked is not None and len(outside):
            raise DataError(
                f"finetune.score_range: {len(outside)} {name} rows have a score outside of {low:g} to {high:g}, such "
                f"as {scores[outside[0]]:g}; widen the range, or mend the rows"
            )
    return {"low": low, "high": high}, [f"scores from {low:g} to {high:g} are learnt as cosines from 0 to 1"]
