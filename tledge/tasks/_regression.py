"""What all tasks share that estimate one number for each row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import HIGHER, LOWER, Outputs
from tledge.tasks._cells import holds_several, is_empty, output_names
from tledge.tasks._cells import no_names as label_names
from tledge.tasks._cells import unchanged as renamed

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

LABELS = "number"
LABEL_COLUMN = "label"
TAKES_FLAGS = False
MIXES = False
N_LABELS = range(1, 2)
LEAST_LABELS = 1
NEEDS_LABEL = True
METRIC = "r2"
METRICS = {"r2": HIGHER, "pearson": HIGHER, "spearman": HIGHER, "mae": LOWER, "rmse": LOWER}
LOSS = "mse"
LOSSES = ("mse", "huber")
PROBLEM_TYPE = "regression"

_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


def parse_label(
    cell: object,
    separator: str,  # noqa: ARG001
    decimal: str,
    given: Sequence[object] = (),  # noqa: ARG001
) -> tuple[str, ...]:
    """The number in a raw cell, as text with a decimal point; empty when the cell is.

    Raises:
        ValueError: the cell holds no finite number; the message says what was expected.
    """
    if is_empty(cell):
        return ()
    text = "" if holds_several(cell) else str(cell).strip()
    if isinstance(cell, str) and decimal == ",":
        if "." in text:
            raise ValueError("a decimal comma")
        text = text.replace(",", ".")
    if not text and not holds_several(cell):
        return ()
    try:
        is_number = math.isfinite(float(text))
    except ValueError:
        is_number = False
    if not is_number:
        hint = "; for decimal commas set data.decimal: ','" if _DECIMAL_COMMA.fullmatch(text) else ""
        raise ValueError(f"a finite number{hint}")
    return (text,)


def numbered(label: Sequence[str], names: Iterable[str]) -> list[float]:  # noqa: ARG001
    """The number of a row, which has no name."""
    return [float(cell) for cell in label]


def targets(labels: Sequence[Sequence[float]], n_labels: int) -> npt.NDArray[np.float32]:
    """The numbers of rows, `(rows,) float32`, from one-element sequences; `n_labels` is 1."""
    assert n_labels == 1
    return np.asarray([row[0] for row in labels], dtype=np.float32)


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One answer a row from `logits`, `(rows, 1) float32`: the estimated number, named `value`."""
    assert len(labels) == 1
    return [{"value": float(row[0])} for row in outputs["logits"]]


def predictions(records: Outputs) -> None:
    """None: numbers are nearer or further, and never simply the same."""


def agree(ours: Outputs, theirs: Outputs) -> None:
    """None, as for `predictions`."""


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """R squared, Pearson and Spearman correlation, mean absolute and root mean squared error of `logits` `(rows, 1)`.

    `targets` is `(rows,) float32`; the errors are in its unit. R squared is left out where `targets` do not vary.
    """
    estimates = records["logits"][:, 0].astype(np.float64)
    return metrics.defined(
        {
            "r2": metrics.r2(estimates, targets),
            "pearson": metrics.pearson(estimates, targets),
            "spearman": metrics.spearman(estimates, targets),
            "mae": float(np.mean(np.abs(estimates - targets))),
            "rmse": float(np.sqrt(np.mean((estimates - targets) ** 2))),
        }
    )


def most_frequent(train: npt.NDArray[Any], n_labels: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """`logits`, `(1,) float32`: the mean of targets `(rows,)`."""
    return {"logits": np.asarray([np.mean(train, dtype=np.float64)], np.float32)}


def target_scale(targets: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of targets `(rows,)`, by which training makes their unit its own."""
    return float(targets.mean()), float(targets.std())
