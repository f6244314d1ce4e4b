"""What all tasks share whose rows have any number of labels, none included."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import HIGHER, Outputs
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

LABELS = "several_labels"
LABEL_COLUMN = "label"
TAKES_FLAGS = True
MIXES = False
N_LABELS = range(1, 1 << 20)
LEAST_LABELS = 2
NEEDS_LABEL = False
METRIC = "micro_f1"
METRICS = {"micro_f1": HIGHER, "macro_f1": HIGHER, "exact_match": HIGHER}
LOSS = "binary_cross_entropy"
LOSSES = ("binary_cross_entropy",)
PROBLEM_TYPE = "multi_label_classification"

THRESHOLD = 0.5
_LIST = re.compile(r"\[\s*(?:(['\"]).*\1)?\s*\]", re.DOTALL)  # of quoted names: `[draft]` is a name itself


def parse_label(
    cell: object,
    separator: str,
    decimal: str,  # noqa: ARG001
    given: Sequence[object] = (),  # noqa: ARG001
) -> tuple[str, ...]:
    """The label names in a raw cell: a list (JSONL, Parquet, or written as one) or names joined by `separator` (CSV).

    Raises:
        ValueError: the cell holds something else; the message says what was expected.
    """
    if is_empty(cell):
        return ()
    found = _written_list(cell) if isinstance(cell, str) else cell
    parts = found if isinstance(found, list | tuple) else str(found).split(separator)
    if isinstance(found, dict | np.ndarray) or any(part is None or holds_several(part) for part in parts):
        raise ValueError("label names")
    names = (str(part).strip() for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def _written_list(cell: str) -> object:
    """The labels of a cell that holds a list as Python or JSON writes one, such as `['a', 'b']`; else the cell."""
    if not _LIST.fullmatch(cell.strip()):
        return cell
    try:
        found = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    return found if isinstance(found, list) and all(isinstance(part, str | int) for part in found) else cell


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


def predictions(records: Outputs) -> npt.NDArray[np.int64]:
    """A one for each label that a row got, `(rows, labels) int64`."""
    return np.asarray(metrics.sigmoid(records["logits"]) >= THRESHOLD, dtype=np.int64)


def distributions(outputs: Outputs) -> npt.NDArray[np.float64]:
    """The probabilities that a row does not have a label, and that it has, `(rows, labels, 2)`."""
    found = metrics.sigmoid(outputs["logits"])
    return np.stack([1 - found, found], axis=-1)


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both give a row the same labels, all of them, `(rows,) bool`."""
    return np.asarray((predictions(ours) == predictions(theirs)).all(axis=1))


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """Micro F1, macro F1 and exact-match accuracy of `logits` against `(rows, labels)` ones and zeros."""
    predicted = predictions(records)
    truth = targets.astype(np.int64)
    return {
        "micro_f1": metrics.f1(predicted.ravel(), truth.ravel()),
        "macro_f1": float(np.mean([metrics.f1(p, t) for p, t in zip(predicted.T, truth.T, strict=True)])),
        "exact_match": float(np.mean((predicted == truth).all(axis=1))),
    }


def most_frequent(train: npt.NDArray[Any], n_labels: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """`logits`, `(labels,) float32`, of the set of labels that most rows of targets `(rows, labels)` have."""
    rows, times = np.unique(train, axis=0, return_counts=True)
    return {"logits": np.where(rows[times.argmax()].astype(bool), 10.0, -10.0).astype(np.float32)}


def target_scale(targets: npt.NDArray[Any]) -> None:
    """None: labels have no unit."""
