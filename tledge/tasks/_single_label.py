"""What all tasks share whose rows have exactly one label each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import HIGHER, LOWER, Outputs
from tledge.tasks._cells import holds_several, is_empty, label_names, numbered, output_names, renamed

__all__ = [
    "LABELS",
    "LABEL_COLUMN",
    "LEAST_LABELS",
    "LOSS",
    "LOSSES",
    "METRIC",
    "METRICS",
    "MIXES",
    "NEEDS_LABEL",
    "N_LABELS",
    "ONE_LABEL",
    "PROBLEM_TYPE",
    "TAKES_FLAGS",
    "agree",
    "decode",
    "distributions",
    "label_names",
    "most_frequent",
    "numbered",
    "output_names",
    "parse_label",
    "predictions",
    "renamed",
    "score",
    "target_scale",
    "targets",
]  # fmt: skip

LABELS = "one_label"
ONE_LABEL = True
LABEL_COLUMN = "label"
TAKES_FLAGS = False
MIXES = True
N_LABELS = range(1, 1 << 20)
LEAST_LABELS = 2
NEEDS_LABEL = True
METRIC = "accuracy"
METRICS = {"accuracy": HIGHER, "balanced_accuracy": HIGHER, "macro_f1": HIGHER, "roc_auc": HIGHER, "log_loss": LOWER}
LOSS = "cross_entropy"
LOSSES = ("cross_entropy",)
PROBLEM_TYPE = "single_label_classification"


def parse_label(
    cell: object,
    separator: str,  # noqa: ARG001
    decimal: str,  # noqa: ARG001
    given: Sequence[object] = (),  # noqa: ARG001
) -> tuple[str, ...]:
    """The one label name in a raw cell, with surrounding space removed; empty when the cell is.

    Raises:
        ValueError: the cell holds several values; the message says what was expected.
    """
    if is_empty(cell):
        return ()
    if holds_several(cell):
        raise ValueError("one label name")
    name = str(cell).strip()
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


def predictions(records: Outputs) -> npt.NDArray[np.int64]:
    """The label index of each row, `(rows,) int64`."""
    return np.asarray(records["logits"].argmax(axis=-1), dtype=np.int64)


def distributions(outputs: Outputs) -> npt.NDArray[np.float64]:
    """The probability of each label, `(rows, 1, labels)`."""
    return metrics.softmax(outputs["logits"])[:, None]


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both give a row the same label, `(rows,) bool`."""
    return np.asarray(predictions(ours) == predictions(theirs))


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1, ROC AUC and log loss of `logits` against label indices `(rows,) int64`.

    The area under the ROC curve is that of the second label where there are two, and else the mean over labels, each
    against the rest; it is left out where `targets` holds one label alone.
    """
    logits = records["logits"]
    predicted = predictions(records)
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


def most_frequent(train: npt.NDArray[Any], n_labels: int) -> dict[str, npt.NDArray[Any]]:
    """`logits`, `(labels,) float32`: of the labels' shares in targets `(rows,) int64`, for a fair log loss."""
    shares = np.maximum(np.bincount(train, minlength=n_labels), 0.5)
    return {"logits": np.log(shares).astype(np.float32)}


def target_scale(targets: npt.NDArray[Any]) -> None:
    """None: labels have no unit."""
