"""Scores by label and mistakes of rows with any number of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge.evidence import answers
from tledge.evidence.labels import _labels
from tledge.tasks import Task


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What the labels and the mistakes are."""
    found = answers.of_run(task, labels, folder)
    predictions = task.predictions(found.records)
    assert predictions is not None
    return {
        "many_labels": True,
        "usage": 'each["labels"], each["scores"]',
        "always": "most frequent answer",
        "scope": "It knows only the labels below: an input that fits none may get some of them all the same.",
        "confusion": (),
        **_labels.facts(found, predictions.astype(bool), found.targets.astype(bool)),
        **answers.beside(found, metric, folder),
    }
