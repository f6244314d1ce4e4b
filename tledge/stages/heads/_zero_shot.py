"""Strategy `zero_shot`: a head of the vectors of what labels are described by; no labelled row trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge import tasks
from tledge.evaluate import Array
from tledge.stages.heads._few_shot import features_of
from tledge.stages.job import Job

if TYPE_CHECKING:
    from tledge.model import KnownFeatures, Rows
    from tledge.train import Fitted


def learn(
    job: Job,
    classifier: Any,
    encoder: Any,
    train: Rows,  # noqa: ARG001
    validation: Rows,
    folder: Path,
    cache: Path,
    *,
    source: KnownFeatures | None = None,  # noqa: ARG001
) -> tuple[list[Fitted], int]:
    """Give a classifier the head of its labels' descriptions; gives what is told of it, and that nothing trained.

    The scale of the scores and the one below which an answer is unknown are found on the validation rows.

    Args:
        job: the run.
        classifier: with a linear head on features of length 1.
        encoder: of its inputs.
        train: not looked at.
        validation: labelled rows.
        folder: for the vectors of the descriptions.
        cache: keeps the features of the rows.
        source: not looked at.
    """
    from tledge import data, model
    from tledge.train import closed

    settings = job.recipe.finetune.zero_shot
    labels = data.open_splits(job.stage("data")).labels  # in the order of the outputs, which a mapping need not keep
    described = {name: job.recipe.data.descriptions[name] for name in labels}
    texts = {name: said(each, settings.templates) for name, each in described.items()}
    every = [text for each in texts.values() for text in each]
    method = settings.method or tasks.zero_shot_methods(job.task)[0]
    vectors = closed.unit(_vectors(job, classifier, encoder, every, folder, method))
    parts = np.split(vectors, np.cumsum([len(each) for each in texts.values()])[:-1])
    features = closed.unit(features_of(job, classifier, encoder, validation, cache))
    scale = closed.calibrated(closed.descriptions(parts, 1.0), features, validation.targets)
    head = closed.descriptions(parts, scale)
    threshold = closed.unknown_below(head, features, validation.targets)
    _, fitted = closed.solved(
        method,
        f"the head is made of {len(every)} descriptions of {len(described)} labels, and no labelled row trains; "
        f"cosines are multiplied by {scale:.3g}, and a score below {threshold:.3f} may count as unknown: "
        f"{closed.KEPT:.0%} of the right answers on {len(features)} validation rows are above it",
        lambda: head,
        lambda outputs, of: job.task.score(job.task.records(outputs, outputs), of),
        {"validation": (features, validation.targets)},
        job.metric,
    )
    model.set_linear(classifier.classifier, head.weight, head.bias)
    classifier.cpu().eval()
    classifier.facts["zero_shot"] = {
        "method": method,
        "templates": list(settings.templates),
        "descriptions": described,
        "scale": scale,
        "unknown_below": threshold,
    }
    return [fitted], 0


def _vectors(job: Job, classifier: Any, encoder: Any, texts: list[str], folder: Path, method: str) -> Array:
    """The vectors of descriptions, `(texts, n_features)`: by the classifier itself, or by the tower of texts beside."""
    from tledge import model

    if method == "clip":
        return model.text_vectors(job.recipe.model.backbone, texts, revision=job.recipe.model.revision)
    rows = model.Rows(texts, np.zeros(len(texts), dtype=np.int64))
    return features_of(job, classifier, encoder, rows, folder / "features")


def said(descriptions: list[str], templates: list[str]) -> list[str]:
    """Each description in each template."""
    return [template.replace("{}", each) for each in descriptions for template in templates]
