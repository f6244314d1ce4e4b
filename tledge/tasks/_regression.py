"""What all tasks share that estimate one number for each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import HIGHER, LOWER, Outputs

LABEL_COLUMN = "label"
NEEDS_LABEL = True
METRIC = "r2"
METRICS = {"r2": HIGHER, "pearson": HIGHER, "mae": LOWER, "rmse": LOWER}
LOSS = "mse"
LOSSES = ("mse", "huber")
PROBLEM_TYPE = "regression"


def parse_label(value: object, separator: str) -> tuple[str, ...]:  # noqa: ARG001
    """The number in a raw cell, as text; empty when the cell is.

    Raises:
        ValueError: the cell holds no finite number.
    """
    text = str(value).strip()
    if text and not math.isfinite(float(text)):
        raise ValueError(f"{text} is no finite number")
    return (text,) if text else ()


def targets(labels: Sequence[Sequence[float]], n_labels: int) -> npt.NDArray[np.float32]:
    """The numbers of rows, `(rows,) float32`, from one-element sequences; `n_labels` is 1."""
    assert n_labels == 1
    return np.asarray([row[0] for row in labels], dtype=np.float32)


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One answer a row from `logits`, `(rows, 1) float32`: the estimated number, named `value`."""
    assert len(labels) == 1
    return [{"value": float(row[0])} for row in outputs["logits"]]


def decisions(records: Outputs) -> None:
    """None: numbers are nearer or further, and never simply the same."""


def agree(ours: Outputs, theirs: Outputs) -> None:
    """None, as for `decisions`."""


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """R squared, Pearson correlation, mean absolute and root mean squared error of `logits` `(rows, 1)`.

    `targets` is `(rows,) float32`; the errors are in its unit. R squared is left out where `targets` do not vary.
    """
    estimates = records["logits"][:, 0].astype(np.float64)
    return metrics.defined(
        {
            "r2": metrics.r2(estimates, targets),
            "pearson": metrics.pearson(estimates, targets),
            "mae": float(np.mean(np.abs(estimates - targets))),
            "rmse": float(np.sqrt(np.mean((estimates - targets) ** 2))),
        }
    )
