"""Strategy `few_shot`: the encoder learns from pairs of the few labelled rows, then a linear head is solved on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tledge import plugins
from tledge.evaluate import Array
from tledge.stages.job import Job

if TYPE_CHECKING:
    from tledge.model import KnownFeatures, Rows
    from tledge.train import Fitted
    from tledge.train.closed import Linear

CONTRASTIVE = "contrastive"
CONTRASTIVE_LOSS = "cosine_regression"
EPOCHS = 1
"""Passes over the pairs, unless the recipe says."""
SCORED_PAIRS = 64
"""Pairs of validation rows whose cosines are looked at after each epoch; nothing is chosen by them."""
LEARNT = "squared_error"


def learn(
    job: Job,
    classifier: Any,
    encoder: Any,
    train: Rows,
    validation: Rows,
    folder: Path,
    cache: Path,
    *,
    source: KnownFeatures | None = None,
) -> tuple[list[Fitted], int]:
    """Train a classifier in place from a few rows of each label; gives what each phase gave, and what trained.

    Args:
        job: the run.
        classifier: with a linear head on features of length 1.
        encoder: of its inputs.
        train: the labelled rows.
        validation: rows that are scored; nothing is chosen by them.
        folder: takes what tuning resumes from.
        cache: keeps the features of an encoder that is not tuned.
        source: those features, where they are known.
    """
    from tledge import model
    from tledge.train.closed import unit

    tunes = job.recipe.finetune.few_shot.tune == CONTRASTIVE
    fitted = [_tuned(job, classifier, encoder, train, validation, folder, cache)] if tunes else []
    trained = sum(p.numel() for p in classifier.backbone.parameters()) if tunes else 0
    trained += sum(p.numel() for p in classifier.classifier.parameters())
    kept = folder / "features" if tunes else cache  # nobody needs those of a tuned encoder again
    if source is None:
        vectors = [features_of(job, classifier, encoder, rows, kept) for rows in (train, validation)]
        source = model.KnownFeatures(train, validation, *vectors)
    features, scored = unit(source.train_vectors), unit(source.validation_vectors)
    head, solved = head_of(job, features, train.targets, scored, validation.targets, label_weights(job, train))
    model.set_linear(classifier.classifier, head.weight, head.bias)
    classifier.cpu().eval()
    return [*fitted, solved], trained


def _tuned(job: Job, classifier: Any, encoder: Any, train: Rows, validation: Rows, folder: Path, cache: Path) -> Fitted:
    """Tune the encoder on pairs: the cosine of two rows is to be 1 where they have one label, else 0."""
    from tledge import model
    from tledge import train as training

    settings, seed = job.recipe.finetune, job.recipe.seed
    few = settings.few_shot
    source = classifier.source(
        train=train,
        validation=validation,
        encoder=encoder,
        cache=cache,
        progress=job.progress,
        settings=settings,
        seed=seed,
    )
    pairs = model.paired(source.whole(), train, validation, few.pairs, most=SCORED_PAIRS, seed=seed)
    classifier.requires_grad_(True)
    classifier.classifier.requires_grad_(False)
    rate = settings.learning_rate if isinstance(settings.learning_rate, float) else classifier.learning_rate
    groups = model.groups_by_block(classifier, rate, settings.weight_decay, settings.layer_decay)
    found = training.fit(
        model.Twins(classifier),
        training.Sets(pairs.train, pairs.validation),
        training.relating(plugins.load("tledge.losses.embedding", CONTRASTIVE_LOSS).loss),
        training.Scoring(_squared_error, LEARNT, lower_is_better=True, output="sentence_embedding", last=True),
        training.Plan(
            CONTRASTIVE,
            "",
            folder / CONTRASTIVE,
            groups,
            settings.epochs or EPOCHS,
            seed,
            rate if settings.learning_rate == "auto" else None,
        ),
        settings.model_copy(update={"batch_size": few.batch_size}),
        progress=job.progress,
    )
    classifier.classifier.requires_grad_(True)
    classifier.eval()
    note = (
        f"the encoder learns from {len(pairs.train):,} pairs of {len(train.targets)} rows; the squared error of "
        f"cosines on {len(pairs.validation)} pairs of validation rows is then {found.best_metric:.3f}"
    )
    return dataclasses.replace(found, note="; ".join(filter(None, (note, found.note))), curve=())


def _squared_error(outputs: Any, same: npt.NDArray[Any]) -> dict[str, float]:
    """How far cosines of pairs, of vectors `(pairs, 2, size)`, are from 1 and 0."""
    from tledge.train.closed import unit

    vectors = unit(outputs["sentence_embedding"])
    return {LEARNT: float(np.mean(((vectors[:, 0] * vectors[:, 1]).sum(-1) - same) ** 2))}


def features_of(job: Job, classifier: Any, encoder: Any, rows: Rows, cache: Path) -> Array:
    """The feature vectors of some rows, `(rows, n_features) float32`, kept by weights and rows in a cache."""
    from tledge import model

    recipe = job.recipe
    return model.features_of(
        classifier, encoder, rows, cache=cache, progress=job.progress, settings=recipe.finetune, seed=recipe.seed
    )


def label_weights(job: Job, train: Rows) -> Array | None:
    """The recipe's weights of the labels, `(labels,)`."""
    from tledge import data
    from tledge import train as training

    labels = job.task.output_names(data.open_splits(job.stage("data")).labels)
    found = training.label_weights(job.recipe.finetune.class_weights, train.targets, labels, None)
    return None if found is None else found.numpy()


def head_of(
    job: Job, features: Array, targets: Array, validation: Array, validation_targets: Array, weights: Array | None
) -> tuple[Linear, Fitted]:
    """The head that the recipe asks for, solved on features of length 1, and what is told of it.

    Args:
        job: the run.
        features: of the rows that train, `(rows, n_features)`.
        targets: their labels.
        validation: features of the rows that are scored.
        validation_targets: their labels.
        weights: of the labels.
    """
    from tledge.train import closed

    few = job.recipe.finetune.few_shot
    n_labels = int(targets.max()) + 1
    ways: dict[str, Callable[[], Linear]] = {
        "logistic": lambda: closed.logistic(features, targets, n_labels, strength=few.strength, weights=weights),
        "prototypes": lambda: closed.prototypes(features, targets, n_labels),
    }
    return closed.solved(
        few.head,
        f"solved on {len(targets)} rows, a few of each label; no epoch was chosen",
        ways[few.head],
        lambda outputs, of: job.task.score(job.task.records(outputs, outputs), of),
        {"train": (features, targets), "validation": (validation, validation_targets)},
        job.metric,
    )
