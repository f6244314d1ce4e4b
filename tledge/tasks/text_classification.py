"""Text classification: each text has exactly one label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import Outputs

INPUT = "text"
INPUT_COLUMN = "text"
LABEL_COLUMN = "label"
NEEDS_LABEL = True
METRIC = "accuracy"
LOSS = "cross_entropy"
OPTIMUM_TASK = "text-classification"
PROBLEM_TYPE = "single_label_classification"


def parse_label(value: object, separator: str) -> tuple[str, ...]:  # noqa: ARG001
    """The one label name in a raw cell, with surrounding space removed; empty when the cell is."""
    name = str(value).strip()
    return (name,) if name else ()


def targets(labels: Sequence[Sequence[int]], n_labels: int) -> npt.NDArray[np.int64]:
    """Label indices of rows, `(rows,) int64`, from one-element sequences of indices below `n_labels`."""
    result = np.asarray([row[0] for row in labels], dtype=np.int64)
    assert result.size == 0 or result.max() < n_labels
    return result


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One answer a row from `logits`, `(rows, labels) float32`: the label, its probability, and all probabilities."""
    probabilities = metrics.softmax(outputs["logits"])
    return [
        {
            "label": labels[int(row.argmax())],
            "score": float(row.max()),
            "scores": {label: float(p) for label, p in zip(labels, row, strict=True)},
        }
        for row in probabilities
    ]


def decisions(outputs: Outputs) -> npt.NDArray[np.int64]:
    """The label index of each row, `(rows,) int64`."""
    return np.asarray(outputs["logits"].argmax(axis=-1), dtype=np.int64)


def score(outputs: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1 and log loss of `logits` against label indices `(rows,) int64`."""
    logits = outputs["logits"]
    predicted = decisions(outputs)
    return {
        "accuracy": metrics.accuracy(predicted, targets),
        "balanced_accuracy": metrics.balanced_accuracy(predicted, targets),
        "macro_f1": metrics.macro_f1(predicted, targets, n_labels=logits.shape[1]),
        "log_loss": metrics.log_loss(logits, targets),
    }
