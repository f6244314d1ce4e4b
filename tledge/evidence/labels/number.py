"""Estimated numbers beside the truth, and the rows with the largest errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tledge.artifacts import read_json
from tledge.evidence import answers, inputs
from tledge.tasks import Task

POINTS_SHOWN = 500
RESIDUAL_PERCENTS = (5, 25, 50, 75, 95)


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The estimates, the quantiles of their errors, and the rows with the largest ones, those first."""
    from tledge.report import Regression, WrongPrediction
    from tledge.report import format as fmt

    found = answers.of_run(task, labels, folder)
    estimates, targets = found.records["logits"][:, 0], found.targets
    errors = estimates.astype(np.float64) - targets
    points = np.unique(np.linspace(0, len(errors) - 1, min(POINTS_SHOWN, len(errors))).astype(int))
    residuals = {str(percent): float(np.percentile(errors, percent)) for percent in RESIDUAL_PERCENTS}
    shown = inputs.load(task.INPUT)
    largest = np.argsort(-np.abs(errors), kind="stable")[: shown.MOST]
    wrong = tuple(
        WrongPrediction(
            truth=fmt.quantity(float(targets[i])),
            predicted=fmt.quantity(float(estimates[i])),
            error=float(errors[i]),
            **shown.shown(found.rows[int(i)]),
        )
        for i in largest
    )
    regression = Regression(tuple((float(targets[i]), float(estimates[i])) for i in points), residuals)
    return {
        "numeric": True,
        "regression": regression,
        "wrong": wrong,
        "usage": 'each["value"]',
        "always": "mean of the training rows",
        "scope": _scope(read_json(folder / "data" / "data.json").get("target_quantiles") or {}),
        **answers.beside(found, metric, folder),
    }


def _scope(quantiles: Mapping[str, Mapping[str, float]]) -> str:
    from tledge.report import format as fmt

    learnt = fmt.spread(quantiles.get("train", {}))
    known = f" It learnt from numbers of {learnt}; what lies outside was never seen." if learnt else ""
    return f"It gives a number for every input, even for one unlike those that it learnt from.{known}"
