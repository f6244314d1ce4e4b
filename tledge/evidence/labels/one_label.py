"""Confusion, scores by label and mistakes of rows with one label each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tledge.evidence import answers
from tledge.evidence.labels import _labels
from tledge.tasks import Task


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """How often each label was taken for each, and what the labels and the mistakes are."""
    found = answers.of_run(task, labels, folder)
    predictions = task.predictions(found.records)
    assert predictions is not None
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(counts, (found.targets, predictions), 1)
    which = np.eye(len(labels), dtype=bool)
    return {
        "confusion": tuple(tuple(int(n) for n in row) for row in counts),
        **_labels.facts(found, which[predictions], which[found.targets]),
        **answers.beside(found, metric, folder),
    }
