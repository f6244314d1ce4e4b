"""What all tasks share whose rows have exactly one label each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import HIGHER, LOWER, Outputs

LABEL_COLUMN = "label"
NEEDS_LABEL = True
METRIC = "accuracy"
METRICS = {"accuracy": HIGHER, "balanced_accuracy": HIGHER, "macro_f1": HIGHER, "roc_auc": HIGHER, "log_loss": LOWER}
LOSS = "cross_entropy"
LOSSES = ("cross_entropy",)
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


def decisions(records: Outputs) -> npt.NDArray[np.int64]:
    """The label index of each row, `(rows,) int64`."""
    return np.asarray(records["logits"].argmax(axis=-1), dtype=np.int64)


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both give a row the same label, `(rows,) bool`."""
    return np.asarray(decisions(ours) == decisions(theirs))


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1, ROC AUC and log loss of `logits` against label indices `(rows,) int64`.

    The area under the ROC curve is that of the second label where there are two, and else the mean over labels, each
    against the rest; it is left out where `targets` holds one label alone.
    """
    logits = records["logits"]
    predicted = decisions(records)
    return metrics.defined(
        {
            "accuracy": metrics.accuracy(predicted, targets),
            "balanced_accuracy": metrics.balanced_accuracy(predicted, targets),
            "macro_f1": metrics.macro_f1(predicted, targets, n_labels=logits.shape[1]),
            "roc_auc": _roc_auc(metrics.softmax(logits), targets),
            "log_loss": metrics.log_loss(logits, targets),
        }
    )


def _roc_auc(probabilities: npt.NDArray[np.float64], targets: npt.NDArray[Any]) -> float:
    asked = [1] if probabilities.shape[1] == 2 else np.unique(targets)
    return float(np.mean([metrics.roc_auc(probabilities[:, i], targets == i) for i in asked]))
