"""What all tasks share whose rows have any number of labels, none included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import HIGHER, Outputs

LABEL_COLUMN = "label"
NEEDS_LABEL = False
METRIC = "micro_f1"
METRICS = {"micro_f1": HIGHER, "macro_f1": HIGHER, "exact_match": HIGHER}
LOSS = "binary_cross_entropy"
LOSSES = ("binary_cross_entropy",)
PROBLEM_TYPE = "multi_label_classification"

THRESHOLD = 0.5


def parse_label(value: object, separator: str) -> tuple[str, ...]:
    """The label names in a raw cell: a list (JSONL, Parquet) or names joined by `separator` (CSV)."""
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    parts = value if listed else str(value).split(separator)
    names = (str(part).strip() for part in parts)  # type: ignore[attr-defined]
    return tuple(dict.fromkeys(name for name in names if name))


def targets(labels: Sequence[Sequence[int]], n_labels: int) -> npt.NDArray[np.float32]:
    """A one for each label that a row has, `(rows, labels) float32`."""
    result = np.zeros((len(labels), n_labels), dtype=np.float32)
    for i, row in enumerate(labels):
        result[i, list(row)] = 1
    return result


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One answer a row from `logits`, `(rows, labels) float32`.

    The labels whose probability reaches 0.5, and all probabilities.
    """
    probabilities = metrics.sigmoid(outputs["logits"])
    return [
        {
            "labels": [label for label, p in zip(labels, row, strict=True) if p >= THRESHOLD],
            "scores": {label: float(p) for label, p in zip(labels, row, strict=True)},
        }
        for row in probabilities
    ]


def decisions(records: Outputs) -> npt.NDArray[np.int64]:
    """A one for each label that a row got, `(rows, labels) int64`."""
    return np.asarray(metrics.sigmoid(records["logits"]) >= THRESHOLD, dtype=np.int64)


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both give a row the same labels, all of them, `(rows,) bool`."""
    return np.asarray((decisions(ours) == decisions(theirs)).all(axis=1))


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """Micro F1, macro F1 and exact-match accuracy of `logits` against `(rows, labels)` ones and zeros."""
    predicted = decisions(records)
    truth = targets.astype(np.int64)
    return {
        "micro_f1": metrics.f1(predicted.ravel(), truth.ravel()),
        "macro_f1": float(np.mean([metrics.f1(p, t) for p, t in zip(predicted.T, truth.T, strict=True)])),
        "exact_match": float(np.mean((predicted == truth).all(axis=1))),
    }
